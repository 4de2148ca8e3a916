"""The faults. Each is a context: it begins on entry and is healed on exit. Times are long against every deadline inside the cluster."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from cenote import processes
from tests.faults.hosts import Daemon, Hosts, wait_until

STOPPED_S = 5.0
CUT_S = 5.0
SLOW_S = 4.0
FULL_S = 3.0
BAD_S = 4.0
SLOW_MEGABIT_PER_S = 20.0
FLIP_CHANCE = 0.05  # Of frames that are large enough to carry weights.


def _daemon(hosts: Hosts, target: str) -> Daemon:
    found: list[Daemon] = []

    def there() -> bool:
        daemon = hosts.daemon(target)
        found[:] = [daemon] if daemon is not None else []
        return bool(found)

    wait_until(f"{target} runs", there)
    return found[0]


@contextlib.contextmanager
def killed(hosts: Hosts, target: str) -> Iterator[None]:
    victim = _daemon(hosts, target)
    processes.kill(victim.pid, victim.started)
    yield


@contextlib.contextmanager
def stopped(hosts: Hosts, target: str) -> Iterator[None]:
    with paused(hosts, target):
        time.sleep(STOPPED_S)
        yield


@contextlib.contextmanager
def paused(hosts: Hosts, target: str) -> Iterator[None]:
    victim = _daemon(hosts, target)
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


_SIGN_BYTE = 3          # Of the number after a sample, a little-endian float: what changes must be seen in the answer.
_EXPONENT_BIT = 0x40


def flip_memory(pid: int, sample: bytes) -> int:
    """Changes the number after each occurrence of `sample` in a process's shared and large private mappings, as failing memory would.
    Returns how many."""
    flipped = 0
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
        for line in maps:
            span, rights, *_ = line.split()
            begin, end = (int(word, 16) for word in span.split("-"))
            if end - begin < 4 << 20 or not rights.startswith("rw") or "[" in line:
                continue
            try:
                memory.seek(begin)
                content = memory.read(end - begin)
            except OSError:
                continue
            at = content.find(sample)
            while 0 <= at < len(content) - len(sample) - _SIGN_BYTE:
                victim = at + len(sample) + _SIGN_BYTE
                memory.seek(begin + victim)
                memory.write(bytes([content[victim] ^ _EXPONENT_BIT]))
                flipped += 1
                at = content.find(sample, victim)
    return flipped


def flip_files(folder: Path, sample: bytes) -> int:
    """The same in every file below `folder`."""
    flipped = 0
    for path in folder.rglob("*"):
        if not path.is_file():
            continue
        content = bytearray(path.read_bytes())
        at = content.find(sample)
        victim = at + len(sample) + _SIGN_BYTE
        if at < 0 or victim >= len(content):
            continue
        with open(path, "r+b") as file:
            file.seek(victim)
            file.write(bytes([content[victim] ^ _EXPONENT_BIT]))
        flipped += 1
    return flipped
