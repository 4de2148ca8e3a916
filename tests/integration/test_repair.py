"""Goal: what a memory server loses gets new replicas by itself, so that the next loss costs nothing either; who serves badly is asked last; who drains
leaves its blocks behind first."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import torch
from integration.cases import check, deploy_stacks
from integration.corruption import flip_memory
from integration.running import SETTINGS, SLOWNESS, BringUp, Running, make, member, stopped, until
from integration.small_models import Stack

from cenote import temperatures
from cenote.cluster import Cluster

SERVERS = ("memory-0", "memory-1", "memory-2")
REPAIR_S = 120.0 * SLOWNESS  # Of a loaded machine; some seconds of one that has nothing else to do.


def _three(base: Path, replicas: int = 2, repair_after: str = "2s") -> Running:
    """Three memory servers; ports of the third are the system's choice."""
    text = SETTINGS.replace('member_timeout = "3s"\n', f'member_timeout = "3s"\nrepair_after = "{repair_after}"\nprobation = "2s"\n')
    third = '[[memory]]\nname = "memory-2"\nport = 0\nfabric_port = 0\ncapacity = "96 MiB"\ngrant_duration = "2s"\nslab_size_max = "8 MiB"\nslabs_max = 4\n\n'
    agent = text.index("[[agent]]")
    return make(base, text[:agent] + third + text[agent:] + f"\n[placement]\nreplicas = {replicas}\n")


def _replicas(cluster: Cluster) -> int:
    """Of the block that has fewest, on servers that are there."""
    return min(m["replicas_min"] for m in cluster.models())


def _used(cluster: Cluster) -> int:
    return sum(member(cluster, name)["memory"]["used_bytes"] for name in SERVERS)


def _repair(cluster: Cluster) -> dict[str, Any]:
    return cluster.status()["repair"]


def _check_cold(cluster: Cluster, cases: list[Any]) -> None:
    for case in cases:
        temperatures.make_cold(cluster, case[0])
        check(cluster, case)


def test_lost_replicas_are_made_anew_and_those_too_many_go_when_a_server_returns(tmp_path: Path, bring_up: BringUp) -> None:
    running = bring_up(_three(tmp_path))
    with running.connect() as cluster, contextlib.ExitStack() as silent:
        cases = deploy_stacks(cluster, "kept", 2, layers=4, width=512)
        until(lambda: _replicas(cluster) == 2, "both replicas are known")
        before = until(lambda: _used(cluster), "the servers say what they hold")
        pids = {name: member(cluster, name)["pid"] for name in SERVERS}
        silent.enter_context(stopped(pids["memory-0"]))
        until(lambda: _replicas(cluster) == 1, "its loss is noticed")
        until(lambda: _replicas(cluster) == 2, "its blocks have new replicas", REPAIR_S)
        assert _repair(cluster)["copied_blocks"] > 0
        until(lambda: _repair(cluster)["short_blocks"] == 0, "nothing is left to do", REPAIR_S)

        with stopped(pids["memory-1"]):
            until(lambda: all(m["name"] != "memory-1" for m in cluster.status()["members"]), "the second is lost too")
            _check_cold(cluster, cases)
        silent.close()
        until(lambda: _replicas(cluster) == 2 and _used(cluster) == before, "two replicas of each block again, and no third", REPAIR_S)
        _check_cold(cluster, cases)
        assert "memory-1" in running.tool("status").stdout


def test_a_block_that_rots_in_an_arena_is_dropped_and_copied_from_the_other_server(tmp_path: Path, bring_up: BringUp) -> None:
    running = bring_up(_three(tmp_path, repair_after="24h"))  # What is corrupt waits for nothing.
    with running.connect() as cluster:
        module, x = Stack(layers=8, width=512).eval(), torch.randn(1, 512)
        cluster.deploy(module, (x,), name="rotten")
        until(lambda: _replicas(cluster) == 2, "both replicas are known")
        pid = member(cluster, "memory-0")["pid"]
        rows = [layer.weight.detach().numpy().reshape(-1) for layer in module.layers]
        assert sum(flip_memory(pid, np.ascontiguousarray(row[1000:1016]).tobytes()) for row in rows) > 0
        with torch.no_grad():
            expected = module(x)

        def found() -> bool:
            temperatures.make_cold(cluster, "rotten")
            torch.testing.assert_close(cluster.infer("rotten", x, deadline_s=60), expected, rtol=1e-5, atol=1e-6)
            return bool(member(cluster, "memory-0")["storage"]["corrupt_blocks"])

        until(found, "the server that an agent read a bad copy from has found it too", REPAIR_S)
        until(lambda: _repair(cluster)["copied_blocks"] >= 1 and _replicas(cluster) == 2, "it has its replicas again", REPAIR_S)


def test_a_server_that_restarts_again_and_again_is_asked_last_and_taken_back(tmp_path: Path, bring_up: BringUp) -> None:
    running = bring_up(_three(tmp_path))
    with running.connect() as cluster:
        cases = deploy_stacks(cluster, "kept", 1, layers=4, width=512)
        until(lambda: _replicas(cluster) == 2, "both replicas are known")
        for _ in range(3):
            pid = member(cluster, "memory-0")["pid"]
            os.kill(pid, signal.SIGKILL)
            until(lambda pid=pid: member(cluster, "memory-0")["pid"] != pid, "it is back")
        excluded = until(lambda: cluster.status()["excluded"], "it is excluded")
        assert excluded[0]["server"] == "memory-0" and "flapping" in excluded[0]["reason"], excluded
        assert "memory-0 is asked last" in running.tool("status").stdout
        _check_cold(cluster, cases)
        until(lambda: not cluster.status()["excluded"], "it is taken back", REPAIR_S)
        until(lambda: _replicas(cluster) == 2, "every block has its replicas", REPAIR_S)


def test_a_server_that_is_drained_leaves_its_only_replicas_to_others_first(tmp_path: Path, bring_up: BringUp) -> None:
    running = bring_up(_three(tmp_path, replicas=1))
    with running.connect() as cluster:
        cases = deploy_stacks(cluster, "kept", 2, layers=6, width=512)
        until(lambda: _replicas(cluster) == 1, "all replicas are known")
        pid = member(cluster, "memory-1")["pid"]
        cluster.drain("memory-1")
        until(lambda: all(m["pid"] != pid for m in cluster.status()["members"]), "it has left", REPAIR_S)
        assert _replicas(cluster) == 1, "no block went with it"
        assert _repair(cluster)["copied_blocks"] > 0
        _check_cold(cluster, cases)
