"""The faults. Each is a context: it begins on entry and is healed on exit. Times are long against every deadline inside the cluster."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator

from cenote import processes
from tests.faults.hosts import Daemon, Hosts, wait_until

STOPPED_S = 5.0
CUT_S = 5.0
SLOW_S = 4.0
FULL_S = 3.0
BAD_S = 4.0
SLOW_MEGABIT_PER_S = 20.0
FLIP_CHANCE = 0.05  # Of frames that are large enough to carry weights.


def running(hosts: Hosts, target: str) -> Daemon:
    """The process, once there is one."""
    found: list[Daemon] = []

    def there() -> bool:
        daemon = hosts.daemon(target)
        found[:] = [daemon] if daemon is not None else []
        return bool(found)

    wait_until(f"{target} runs", there)
    return found[0]


@contextlib.contextmanager
def killed(hosts: Hosts, target: str) -> Iterator[None]:
    victim = running(hosts, target)
    processes.kill(victim.pid, victim.started)
    yield


@contextlib.contextmanager
def stopped(hosts: Hosts, target: str) -> Iterator[None]:
    with paused(hosts, target):
        time.sleep(STOPPED_S)
        yield


@contextlib.contextmanager
def paused(hosts: Hosts, target: str) -> Iterator[None]:
    victim = running(hosts, target)
    os.kill(victim.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            if processes.start_time(victim.pid) == victim.started:
                os.kill(victim.pid, signal.SIGCONT)


@contextlib.contextmanager
def cut(hosts: Hosts, target: str) -> Iterator[None]:
    with hosts.network.cut(hosts.host(target)):
        time.sleep(CUT_S)
        yield


@contextlib.contextmanager
def slow(hosts: Hosts, target: str) -> Iterator[None]:
    with hosts.network.slow(hosts.host(target), SLOW_MEGABIT_PER_S):
        time.sleep(SLOW_S)
        yield


@contextlib.contextmanager
def disk_full(hosts: Hosts, target: str) -> Iterator[None]:
    """Not a byte is left where the daemon keeps its state: log, catalogue, blocks."""
    filler = hosts.state(hosts.host(target)) / "filler"
    try:
        with open(filler, "wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(1 << 16))
        with open(filler, "ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(512))
        time.sleep(FULL_S)
        yield
    finally:
        filler.unlink(missing_ok=True)


@contextlib.contextmanager
def bad_wire(hosts: Hosts, target: str, seed: int) -> Iterator[None]:
    with hosts.network.bad_cable(hosts.host(target), FLIP_CHANCE, seed):
        time.sleep(BAD_S)
        yield
