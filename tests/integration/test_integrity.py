"""Goal: bytes that changed in the pool are noticed before anything computes on them, read from the other replica, counted and named."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from integration.corruption import flip_memory
from integration.running import Running, member, stopped, until
from integration.small_models import Stack

from cenote import processes, temperatures
from cenote.cluster import Cluster
from cenote.errors import Error


def _corrupt(cluster: Cluster, daemon: str, module: Stack) -> None:
    """One byte in each layer's weights."""
    pid = member(cluster, daemon)["pid"]
    for layer in module.layers:
        rows = layer.weight.detach().numpy().reshape(-1)
        assert flip_memory(pid, np.ascontiguousarray(rows[1000:1016]).tobytes()) >= 1, daemon


def _deploy_cold(cluster: Cluster, name: str) -> tuple[Stack, torch.Tensor, torch.Tensor]:
    module, x = Stack(layers=8, width=512).eval(), torch.randn(1, 512)
    cluster.deploy(module, (x,), name=name)
    temperatures.make_cold(cluster, name)
    with torch.no_grad():
        return module, x, module(x)


def test_corrupt_chunks_come_from_the_other_replica_and_are_counted_and_named(running: Running) -> None:
    with running.connect() as cluster:
        module, x, expected = _deploy_cold(cluster, "flipped")
        _corrupt(cluster, "memory-0", module)
        torch.testing.assert_close(cluster.infer("flipped", x), expected, rtol=1e-5, atol=1e-6)
        until(lambda: member(cluster, "agent-0")["integrity_failures"] >= 1, "the agent counts them")
        log = (running.directory / "logs" / "agent-0.log").read_text()
        named = re.findall(r"corrupt chunk: block ([0-9a-f]+) chunk \d+ from memory-0", log)
        assert len(named) == member(cluster, "agent-0")["integrity_failures"], log
        known = {block[0] for block in cluster.models("flipped", blocks=True)[0]["record"]["blocks"]}
        assert all(any(block.startswith(short) for block in known) for short in named)


def test_what_changed_in_the_cache_while_nobody_used_it_is_read_anew(running: Running) -> None:
    with running.connect() as cluster:
        module, x, expected = _deploy_cold(cluster, "rested")
        torch.testing.assert_close(cluster.infer("rested", x), expected, rtol=1e-5, atol=1e-6)
        before = member(cluster, "agent-0")
        with stopped(before["pid"]):
            for executor in before["executors"]:
                started = processes.start_time(executor["pid"])
                assert started is not None
                processes.kill(executor["pid"], started)
                processes.wait_gone(executor["pid"], started, 5.0)
            _corrupt(cluster, "agent-0", module)
        torch.testing.assert_close(cluster.infer("rested", x), expected, rtol=1e-5, atol=1e-6)
        until(lambda: member(cluster, "agent-0")["integrity_failures"] >= len(module.layers), "the agent counts them")
        fetched = member(cluster, "agent-0")["fetched_bytes"] - before["fetched_bytes"]
        weights = cluster.models("rested")[0]["record"]["weight_bytes"]
        assert 0 < fetched < 2 * weights, "only what changed, or, where each chunk has changed, all of it once"
        log = (running.directory / "logs" / "agent-0.log").read_text()
        assert "changed in the cache while nobody used them" in log, log


def test_what_is_corrupt_everywhere_is_never_computed_on(running: Running) -> None:
    with running.connect() as cluster:
        module, x, _ = _deploy_cold(cluster, "lost")
        _corrupt(cluster, "memory-0", module)
        _corrupt(cluster, "memory-1", module)
        with pytest.raises(Error) as refused:
            cluster.infer("lost", x, deadline_s=4)
        # Servers drop what they find corrupt: a request that came to it later waits for a replica that nobody has.
        assert "corrupt" in refused.value.message or refused.value.code in ("deadline_exceeded", "unavailable"), refused.value
        until(lambda: cluster.status()["repair"]["lost_blocks"] >= 1, "the servers have found it too")
