"""Goal: the host's cache serves more models than it holds, and memory servers that fall silent cost time, never an answer."""

from __future__ import annotations

import os
import signal

import torch
from integration.running import Running, member, until
from integration.small_models import Stack

from cenote import temperatures
from cenote.cluster import Cluster


def _agent(cluster: Cluster) -> dict:
    return member(cluster, "agent-0")


def _deploy(cluster: Cluster, count: int, layers: int) -> list[tuple[str, torch.Tensor, torch.Tensor]]:
    """(name, input, what PyTorch answers); 4 MiB a layer."""
    cases = []
    for seed in range(count):
        module, x = Stack(layers=layers, width=1024, seed=seed).eval(), torch.randn(1, 1024)
        cluster.deploy(module, (x,), name=f"big{seed}")
        with torch.no_grad():
            cases.append((f"big{seed}", x, module(x)))
    return cases


def _check(cluster: Cluster, case: tuple[str, torch.Tensor, torch.Tensor]) -> None:
    name, x, expected = case
    torch.testing.assert_close(cluster.infer(name, x, deadline_s=60), expected, rtol=1e-5, atol=1e-6)


def test_more_models_than_the_cache_holds_take_turns(running: Running) -> None:
    with running.connect() as cluster:
        cases = _deploy(cluster, 3, layers=6)  # 24 MiB each; the cache has 64 MiB.
        for _ in range(2):
            for case in cases:
                _check(cluster, case)
                agent = _agent(cluster)
                assert agent["cache"]["used_bytes"] <= agent["cache"]["capacity_bytes"]
        # Each round displaced something, so more came over the fabric than the models have.
        until(lambda: _agent(cluster)["fetched_bytes"] > 3 * 24 << 20, "models were fetched again")
        assert _agent(cluster)["integrity_failures"] == 0


def test_a_silent_memory_server_costs_time_and_no_answer(running: Running) -> None:
    with running.connect() as cluster:
        cases = _deploy(cluster, 2, layers=3)
        for case in cases:
            _check(cluster, case)
        for server in ("memory-0", "memory-1"):
            pid = member(cluster, server)["pid"]
            for name, _, _ in cases:
                temperatures.make_cold(cluster, name)
            os.kill(pid, signal.SIGSTOP)
            try:
                for case in cases:
                    _check(cluster, case)
            finally:
                os.kill(pid, signal.SIGCONT)
            until(lambda: len(cluster.status()["members"]) == 6, "all are members again")
