"""The matrix: which role is hurt how, while what goes on; and which combinations do not exist, with the reason."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import numpy as np

from cenote import processes
from tests.faults import inflict
from tests.faults.hosts import Hosts, wait_until
from tests.faults.load import REQUEST_S, Workload
from tests.faults.models import Case
from tests.integration.corruption import flip_files, flip_memory

TARGETS = {"memory": "memory-0", "agent": "agent-0", "executor": "agent-0/host:0", "router": "router-0", "controller": "controller"}
STATES = ("idle", "deploy", "cold", "resident", "drain")
FAULTS = ("kill", "stop", "cut", "slow", "disk-full", "bad-arena", "bad-cache", "bad-disk", "bad-wire")
_CELLS_OF_HOST = ("cut", "slow", "disk-full", "bad-wire")
_ONLY = {"bad-arena": "memory", "bad-cache": "agent", "bad-disk": "memory"}
_OWNERS = {
    "bad-arena": "memory servers have",
    "bad-cache": "agents have",
    "bad-disk": "memory servers can mend (a damaged catalogue is refused, and restored from a backup: tests/unit/store) and have",
}


@dataclass(frozen=True)
class Cell:
    role: str
    fault: str
    state: str

    def __str__(self) -> str:
        return f"{self.role}/{self.fault}/{self.state}"

    @property
    def target(self) -> str:
        return TARGETS[self.role]


def impossible(role: str, fault: str, state: str) -> str | None:
    """Why there is no such cell; None: there is."""
    if fault in _ONLY and role != _ONLY[fault]:
        return f"only {_OWNERS[fault]} it"
    if role == "executor" and fault in _CELLS_OF_HOST:
        return "as agent: they share a host"
    if state == "drain" and role == "controller":
        return "the controller is not drained: it serves nobody's requests"
    return None


def all_cells() -> list[Cell]:
    every = itertools.product(TARGETS, FAULTS, STATES)
    return [Cell(*names) for names in every if impossible(*names) is None]


def rotated(rotation: int) -> list[Cell]:
    """Each fault once per role; the state changes from one rotation to the next, so that five of them are the whole matrix."""
    cells = []
    for number, (role, fault) in enumerate(itertools.product(TARGETS, FAULTS)):
        states = [state for state in STATES if impossible(role, fault, state) is None]
        if states:
            cells.append(Cell(role, fault, states[(number + rotation) % len(states)]))
    return cells


def inflicted(cell: Cell, hosts: Hosts, workload: Workload, seed: int) -> AbstractContextManager[None]:
    simple = {
        "kill": inflict.killed, "stop": inflict.stopped, "cut": inflict.cut, "slow": inflict.slow, "disk-full": inflict.disk_full,
    }  # fmt: skip
    if cell.fault in simple:
        return simple[cell.fault](hosts, cell.target)
    if cell.fault == "bad-wire":
        return inflict.bad_wire(hosts, cell.target, seed)
    return {"bad-arena": _bad_arena, "bad-cache": _bad_cache, "bad-disk": _bad_disk}[cell.fault](hosts, cell.target, workload)


def _samples(workload: Workload) -> list[bytes]:
    """16 numbers of each layer, by which its weights are found wherever they lie."""
    rows = [layer.weight.detach().numpy().reshape(-1) for case in workload.cases() for layer in case.module.layers]
    return [np.ascontiguousarray(row[1000:1016]).tobytes() for row in rows]


def _some(flipped: int, where: str) -> None:
    if flipped == 0:
        raise AssertionError(f"no weights were found in {where}: nothing was corrupted")


@contextmanager
def _bad_arena(hosts: Hosts, target: str, workload: Workload) -> Iterator[None]:
    with inflict.paused(hosts, _other(target)):  # The disk holds every block, the arena what was asked of this server.
        for case in workload.cases():
            hosts.cluster.evict(case.name)
            _ask(hosts, case)
    daemon = inflict.running(hosts, target)  # One that drained has been followed by another.
    _some(sum(flip_memory(daemon.pid, sample) for sample in _samples(workload)), f"the arena of {target}")
    for case in workload.cases():  # What lies in caches already would hide it.
        hosts.cluster.evict(case.name)
    yield


@contextmanager
def _bad_cache(hosts: Hosts, target: str, workload: Workload) -> Iterator[None]:
    """Bytes that were right when they came change while no executor has them mapped. (What one computes on just then is that process's
    own memory; no software can promise that.)"""
    with inflict.paused(hosts, f"{_other(target)}/host:0"):  # So that it is this host that has them.
        for case in workload.cases():
            _ask(hosts, case)
    agent, executor = inflict.running(hosts, target), inflict.running(hosts, f"{target}/host:0")
    os.kill(agent.pid, signal.SIGSTOP)
    try:
        processes.kill(executor.pid, executor.started)
        processes.wait_gone(executor.pid, executor.started, 5.0)
        flipped = sum(flip_memory(agent.pid, sample) for sample in _samples(workload))
    finally:
        os.kill(agent.pid, signal.SIGCONT)
    _some(flipped, f"the cache of {target}")
    wait_until(f"{target}/host:0 is back", lambda: f"{target}/host:0" not in hosts.absent(), lambda: ", ".join(hosts.absent()))
    with inflict.paused(hosts, f"{_other(target)}/host:0"):  # So that it is this host's copy that answers.
        for case in workload.cases():
            _ask(hosts, case)
    yield


def _ask(hosts: Hosts, case: Case) -> None:
    if wrong := case.wrong(hosts.cluster.infer(case.name, case.x, deadline_s=REQUEST_S)):
        raise AssertionError(wrong)


def _other(target: str) -> str:
    kind, number = target.rsplit("-", 1)
    return f"{kind}-{1 - int(number)}"


@contextmanager
def _bad_disk(hosts: Hosts, target: str, workload: Workload) -> Iterator[None]:
    """Found when the blocks are loaded: after a restart."""
    folder = hosts.state(hosts.host(target))
    _some(sum(flip_files(folder, sample) for sample in _samples(workload)), f"the files of {target}")
    with inflict.killed(hosts, target):
        for case in workload.cases():
            hosts.cluster.evict(case.name)
        yield
