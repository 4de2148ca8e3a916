"""Goal: a request under way when a daemon ends, gracefully or not, is answered rightly and run once; emulated devices serve like others."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest
import torch
from integration.running import SLOWNESS, BringUp, Running, emulated, member, until
from integration.small_models import Lookup, Stack

from cenote import processes, temperatures
from cenote.cluster import Answer, Cluster
from cenote.errors import Error

RUN_MS = 1500.0 * SLOWNESS  # Of a run of the model "slow": long enough to end something meanwhile.


@pytest.fixture
def slow(tmp_path: Path, bring_up: BringUp) -> Running:
    return bring_up(emulated(tmp_path, {"slow": RUN_MS}))


class Asked(threading.Thread):
    """A request for "slow" under way."""

    def __init__(self, cluster: Cluster, x: torch.Tensor) -> None:
        super().__init__()
        self._cluster, self._x = cluster, x
        self.answer: Answer | None = None
        self.error: Error | None = None
        self.start()

    def run(self) -> None:
        try:
            self.answer = self._cluster.ask("slow", (self._x,), deadline_s=60)
        except Error as error:
            self.error = error

    def expect(self, expected: torch.Tensor) -> str:
        """How the executor that answered had the model: "resident" is the one that has run it before."""
        self.join()
        assert self.error is None and self.answer is not None, self.error
        torch.testing.assert_close(self.answer.outputs, expected, rtol=1e-5, atol=1e-6)
        return self.answer.waterfall.temperature


def _executor(cluster: Cluster) -> dict:
    (executor,) = member(cluster, "agent-0")["executors"]
    return executor


def _deploy_slow(cluster: Cluster) -> tuple[torch.Tensor, torch.Tensor]:
    module, x = Stack(layers=2, width=64).eval(), torch.randn(1, 64)
    cluster.deploy(module, (x,), name="slow")
    temperatures.wait_ready(cluster, "slow")
    with torch.no_grad():
        expected = module(x)
    torch.testing.assert_close(cluster.infer("slow", x, deadline_s=60), expected, rtol=1e-5, atol=1e-6)
    until(lambda: _executor(cluster)["served"] == 1, "one was served")
    return x, expected


def _ask(cluster: Cluster, x: torch.Tensor) -> Asked:
    asked = Asked(cluster, x)
    until(lambda: _executor(cluster)["running"] == 1, "it runs")
    return asked


def _busy_router(cluster: Cluster) -> str:
    return until(lambda: next((m["name"] for m in cluster.status()["members"] if m.get("outstanding")), None), "a router has it")


def test_a_router_that_dies_under_a_request_costs_no_second_run(slow: Running) -> None:
    with slow.connect() as cluster:
        x, expected = _deploy_slow(cluster)
        asked = _ask(cluster, x)
        name = _busy_router(cluster)
        os.kill(member(cluster, name)["pid"], signal.SIGKILL)
        asked.expect(expected)
        until(lambda: _executor(cluster)["served"] >= 2, "it was served")
        assert _executor(cluster)["served"] == 2 and _executor(cluster)["running"] == 0


@pytest.mark.parametrize("name", ["router", "agent-0"])
def test_a_daemon_told_to_end_answers_what_runs_first(slow: Running, name: str) -> None:
    with slow.connect() as cluster:
        x, expected = _deploy_slow(cluster)
        asked = _ask(cluster, x)
        told = member(cluster, _busy_router(cluster) if name == "router" else name)
        started = processes.start_time(told["pid"])
        os.kill(told["pid"], signal.SIGTERM)
        assert asked.expect(expected) == "resident"  # By the executor that ran it when the daemon was told, not by its successor.
        until(lambda: processes.start_time(told["pid"]) != started, "it ended")
        log = (slow.directory / "logs" / f"{told['name']}.log").read_text()
        assert "stopping" in log, log
        if name == "router":
            until(lambda: _executor(cluster)["served"] >= 2, "it was served")
            assert _executor(cluster)["served"] == 2  # Run once.
        torch.testing.assert_close(cluster.infer("slow", x, deadline_s=60), expected, rtol=1e-5, atol=1e-6)  # It is back, or another serves.


def test_down_answers_what_runs_first(slow: Running) -> None:
    with slow.connect() as cluster:
        x, expected = _deploy_slow(cluster)
        asked = _ask(cluster, x)
        down = slow.json("down")
        assert asked.expect(expected) == "resident"
        assert down["stopped"] is True and down["killed"] == []


def test_an_executor_that_dies_under_a_request_is_restarted_and_answers_it(slow: Running) -> None:
    with slow.connect() as cluster:
        x, expected = _deploy_slow(cluster)
        asked = _ask(cluster, x)
        os.kill(_executor(cluster)["pid"], signal.SIGKILL)
        assert asked.expect(expected) != "resident"
        assert until(lambda: _executor(cluster), "it reports")["restarts"] == 1


def test_emulated_devices_copy_compute_and_say_what_does_not_fit(slow: Running) -> None:
    with slow.connect() as cluster:
        module, x = Stack(layers=4, width=512).eval(), torch.randn(3, 512)
        cluster.deploy(module, (x[:1],), name="copied")
        temperatures.make_cold(cluster, "copied")
        answer = cluster.ask("copied", (x,))
        with torch.no_grad():
            torch.testing.assert_close(answer.outputs, module(x), rtol=1e-5, atol=1e-6)
        assert answer.waterfall.copied_bytes >= 4 * 512 * 512 * 4
        lookup, ids = Lookup().eval(), torch.randint(0, 5000, (2, 9))
        cluster.deploy(lookup, (ids,), name="lookup")
        with torch.no_grad():
            torch.testing.assert_close(cluster.infer("lookup", ids), lookup(ids), rtol=1e-5, atol=1e-6)
        cluster.deploy(Stack(layers=12, width=1024).eval(), (torch.zeros(1, 1024),), name="wide")  # 48 MiB; the device has 32 MiB.
        with pytest.raises(Error) as refused:
            cluster.infer("wide", torch.zeros(1, 1024), deadline_s=60)
        assert refused.value.exit_code == 6 and "agent.device.memory" in refused.value.message, refused.value
        with torch.no_grad():
            torch.testing.assert_close(cluster.infer("copied", x), module(x), rtol=1e-5, atol=1e-6)


def test_evicting_and_removing_also_empty_a_device_with_memory_of_its_own(slow: Running) -> None:
    """Such a device gives the cache back once it has its copy: the agent must ask it all the same."""
    module, x = Stack(layers=4, width=512).eval(), torch.randn(1, 512)

    def held(cluster: Cluster) -> list[str]:
        executors = member(cluster, "agent-0")["executors"]
        return [r["revision"] for e in executors for r in e["revisions"] if r["readiness"] not in ("none", "failed")]

    with slow.connect() as cluster:
        cluster.deploy(module, (x,), name="leaves")
        temperatures.wait_ready(cluster, "leaves")
        slow.json("evict", "leaves")
        until(lambda: not held(cluster), "the device has dropped it", 20)
        answer = cluster.ask("leaves", (x,))
        assert answer.waterfall.temperature == "cold" and answer.waterfall.copied_bytes > 0
        with torch.no_grad():
            torch.testing.assert_close(answer.outputs, module(x), rtol=1e-5, atol=1e-6)
        until(lambda: held(cluster), "the device has it again", 20)
        cluster.remove("leaves")
        until(lambda: not held(cluster), "the device has dropped it", 20)
