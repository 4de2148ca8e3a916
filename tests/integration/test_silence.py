"""Goal: a daemon that is stopped, so that none of its connections ends, holds up no request that another can do, and is used again as soon as
it goes on. Method: SIGSTOP; each request must be answered, by a deadline of 10 s, while the peer is still stopped."""

from __future__ import annotations

import os
import signal
import threading

import pytest
import torch
from integration.cases import Case, deploy_stacks
from integration.running import SLOWNESS, Running, member, stopped, until

from cenote import bench_notice, temperatures
from cenote.cluster import Cluster

_DEADLINE_S = 10.0 * SLOWNESS


def _ask(cluster: Cluster, case: Case) -> None:
    """By digest: what the name means is for the controller to say, and it may be the stopped one's neighbour in the test."""
    name, x, expected = case
    digest = cluster.resolve(name)["record"]["digest"]
    (got,) = cluster.ask_flat(f"{name}@{digest}", [("x", x)], deadline_s=_DEADLINE_S).outputs.values()
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


def _ask_at_once(cluster: Cluster, case: Case, count: int) -> None:
    failures: list[BaseException] = []

    def ask() -> None:
        try:
            _ask(cluster, case)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures


def test_a_stopped_executors_requests_are_answered_by_the_other_device(running: Running) -> None:
    with running.connect() as cluster:
        (case,) = deploy_stacks(cluster, "m", 1, layers=2, width=64)
        until(lambda: set(temperatures.readiness(cluster, "m0").values()) <= set(temperatures.READY), "both devices have it")
        _ask_at_once(cluster, case, 8)
        for victim in temperatures.executors(cluster):
            with stopped(victim["pid"]):
                _ask_at_once(cluster, case, 8)  # More than one device's credits at first: some were sent to the stopped one.
            served = victim["served"]

            def used_again(name: str = victim["name"], served: int = served) -> bool:
                _ask_at_once(cluster, case, 4)
                return bool(next(e for e in temperatures.executors(cluster) if e["name"] == name)["served"] > served)

            until(used_again, f"{victim['name']} is used again")


def test_a_cold_request_takes_its_bytes_from_the_replica_that_is_not_stopped(running: Running) -> None:
    with running.connect() as cluster:
        (case,) = deploy_stacks(cluster, "m", 1, layers=6, width=512)
        _ask(cluster, case)
        for victim in ("memory-0", "memory-1", "memory-0"):  # The last time by one that was stopped before.
            with stopped(member(cluster, victim)["pid"]):
                temperatures.make_cold(cluster, "m0")
                _ask(cluster, case)
            until(lambda victim=victim: not any("not heard" in note for note in member(cluster, victim)["notes"]), f"{victim} is heard again")


def test_a_stopped_router_holds_up_no_client_and_is_used_again(running: Running) -> None:
    with running.connect() as cluster:
        (case,) = deploy_stacks(cluster, "m", 1, layers=2, width=64)
        _ask_at_once(cluster, case, 4)
        for victim in ("router-0", "router-1"):
            pid = member(cluster, victim)["pid"]
            with stopped(pid):
                for _ in range(3):
                    _ask_at_once(cluster, case, 4)
            routed = member(cluster, victim)["routed"]

            def used_again(name: str = victim, routed: int = routed) -> bool:
                _ask_at_once(cluster, case, 4)
                return bool(member(cluster, name)["routed"] > routed)

            until(used_again, f"{victim} is used again")


def test_a_silent_member_is_told_of_and_not_lost(running: Running) -> None:
    with running.connect() as cluster:
        victim = member(cluster, "memory-1")
        os.kill(victim["pid"], signal.SIGSTOP)
        try:
            until(lambda: any("not heard" in note for note in member(cluster, "memory-1")["notes"]), "the controller says so")
        finally:
            os.kill(victim["pid"], signal.SIGCONT)
        until(lambda: not any("not heard" in note for note in member(cluster, "memory-1")["notes"]), "it is heard again")
        assert member(cluster, "memory-1")["pid"] == victim["pid"]


@pytest.mark.skipif(not os.environ.get("TESTS_LONG"), reason="tests/run.sh --long runs it, ten minutes, on the plain build; sanitized daemons stall")
def test_nobody_is_suspected_in_ten_minutes_beside_two_busy_processes() -> None:
    """But for what stalls of the machine explain, which a thread of this process sees."""
    result = bench_notice.measure(rounds=0, quiet_minutes=10, report=lambda _: None)
    quiet = result["quiet"]
    assert quiet["false_suspicions"] == [], quiet
    assert quiet["explained_s"] < 0.05 * 600, "the machine stood still so often that this says nothing"
    assert result["failed_requests"] == [] and quiet["requests"] > 0
