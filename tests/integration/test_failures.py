"""Goal: any one daemon dies while requests run; every request is answered rightly, and the cluster returns to full service."""

from __future__ import annotations

import os
import signal
import threading
import time

import torch
from integration.cases import Case, check, deploy_stacks
from integration.running import Running, member, stopped, until

from cenote import processes, temperatures
from cenote.cluster import Cluster


def _deploy_several(cluster: Cluster, count: int) -> list[Case]:
    return deploy_stacks(cluster, "m", count, layers=6, width=512)  # 6 MiB each.


def test_a_memory_server_dies_during_cold_requests(running: Running) -> None:
    with running.connect() as cluster:
        cases = _deploy_several(cluster, 4)
        for name, _, _ in cases:
            temperatures.make_cold(cluster, name)
        victim = member(cluster, "memory-0")["pid"]
        failures: list[BaseException] = []

        def ask(case: Case) -> None:
            try:
                check(cluster, case)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=ask, args=(case,)) for case in cases]
        for thread in threads[:2]:
            thread.start()
        os.kill(victim, signal.SIGKILL)
        for thread in threads[2:]:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures, failures
        until(lambda: member(cluster, "memory-0")["pid"] != victim, "memory-0 is back")

        # Its arena came back empty: the copies on the other server are copied again, until each block has two.
        for case in cases:
            temperatures.make_cold(cluster, case[0])
            check(cluster, case)


def test_an_executor_dies_and_finds_the_cache_warm(running: Running) -> None:
    with running.connect() as cluster:
        (case,) = _deploy_several(cluster, 1)
        check(cluster, case)
        until(lambda: set(temperatures.readiness(cluster, "m0").values()) <= {"mapped", "resident"}, "both devices have it")
        fetched = member(cluster, "agent-0")["fetched_bytes"]
        before = {e["name"]: e for e in temperatures.executors(cluster)}
        for executor in before.values():
            os.kill(executor["pid"], signal.SIGKILL)
        check(cluster, case)

        def back() -> bool:
            now = {e["name"]: e for e in temperatures.executors(cluster)}
            return all(now[n]["pid"] not in (0, e["pid"]) and now[n]["restarts"] >= 1 and now[n]["address"] for n, e in before.items())

        until(back, "both executors are back")
        check(cluster, case)
        assert member(cluster, "agent-0")["fetched_bytes"] == fetched


def test_a_router_dies_and_the_client_asks_the_other(running: Running) -> None:
    with running.connect() as cluster:
        (case,) = _deploy_several(cluster, 1)
        check(cluster, case)
        for name in ("router-0", "router-1"):
            os.kill(member(cluster, name)["pid"], signal.SIGKILL)
            for _ in range(5):
                check(cluster, case)
            until(lambda name=name: member(cluster, name), f"{name} is back")


def test_serving_goes_on_while_the_controller_is_silent(running: Running) -> None:
    with running.connect() as cluster, running.connect() as newcomer:
        (case,) = _deploy_several(cluster, 1)
        name, x, expected = case
        answer = cluster.ask(name, (x,))
        controller = member(cluster, "controller")["pid"]
        with stopped(controller):
            for _ in range(3):
                _check_flat(cluster, answer.digest, name, x, expected)
            time.sleep(4)  # Longer than member_timeout: nobody may forget what it was told.
            _check_flat(cluster, answer.digest, name, x, expected)
            check(cluster, case)  # By its name, whose meaning was asked for before.
            # One who comes now finds the routers by the state file.
            _check_flat(newcomer, answer.digest, name, x, expected)
        until(lambda: len(cluster.status()["members"]) == 6, "all are members again")
        check(cluster, case)


def _check_flat(cluster: Cluster, digest: str, name: str, x: torch.Tensor, expected: torch.Tensor) -> None:
    (got,) = cluster.ask_flat(f"{name}@{digest}", [("x", x)], deadline_s=30).outputs.values()
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


def test_what_was_deployed_survives_the_controllers_death(running: Running) -> None:
    with running.connect() as cluster:
        (case,) = _deploy_several(cluster, 1)
        controller = member(cluster, "controller")["pid"]
        os.kill(controller, signal.SIGKILL)
        until(lambda: member(cluster, "controller")["pid"] != controller and len(cluster.status()["members"]) == 6, "it is back with all members")
        assert [m["name"] for m in cluster.models()] == ["m0"]
        check(cluster, case)


def test_an_agent_dies_and_comes_back_with_its_executors(running: Running) -> None:
    with running.connect() as cluster:
        (case,) = _deploy_several(cluster, 1)
        check(cluster, case)
        agent = member(cluster, "agent-0")
        os.kill(agent["pid"], signal.SIGKILL)
        check(cluster, case)
        pids = {agent["pid"], *(e["pid"] for e in agent["executors"])}

        def back() -> bool:
            now = member(cluster, "agent-0")
            return all(e["address"] for e in now["executors"]) and not pids & {now["pid"], *(e["pid"] for e in now["executors"])}

        until(back, "it is back with other executors")
        until(lambda: all(processes.start_time(pid) is None for pid in pids), "the executors of the dead agent ended with it", 20)
