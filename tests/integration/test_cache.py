"""Goal: the host's cache serves more models than it holds, and memory servers that fall silent cost time, never an answer."""

from __future__ import annotations

from integration.cases import check, deploy_stacks
from integration.running import Running, member, stopped, until

from cenote import temperatures
from cenote.cluster import Cluster


def _agent(cluster: Cluster) -> dict:
    return member(cluster, "agent-0")


def test_more_models_than_the_cache_holds_take_turns(running: Running) -> None:
    with running.connect() as cluster:
        cases = deploy_stacks(cluster, "big", 3, layers=6, width=1024)  # 24 MiB each; the cache has 64 MiB.
        for _ in range(2):
            for case in cases:
                check(cluster, case)
                agent = _agent(cluster)
                assert agent["cache"]["used_bytes"] <= agent["cache"]["capacity_bytes"]
        # Each round displaced something, so more came over the fabric than the models have.
        until(lambda: _agent(cluster)["fetched_bytes"] > 3 * 24 << 20, "models were fetched again")
        assert _agent(cluster)["integrity_failures"] == 0


def test_a_silent_memory_server_costs_time_and_no_answer(running: Running) -> None:
    with running.connect() as cluster:
        cases = deploy_stacks(cluster, "big", 2, layers=3, width=1024)
        for case in cases:
            check(cluster, case)
        for server in ("memory-0", "memory-1"):
            pid = member(cluster, server)["pid"]
            for name, _, _ in cases:
                temperatures.make_cold(cluster, name)
            with stopped(pid):
                for case in cases:
                    check(cluster, case)
            until(lambda: len(cluster.status()["members"]) == 6, "all are members again")
