"""Processes and ports of this machine, from /proc: who is alive, who listens where."""

from __future__ import annotations

import errno
import itertools
import os
import random
import signal
import socket
import time
from collections.abc import Iterable
from pathlib import Path

from cenote.errors import Error

_PORT_MIN = 10_000  # Below are the ports that people and services know by heart.


def start_time(pid: int) -> int | None:
    """Clock ticks since boot at which `pid` started: with the pid it names one process for ever. None: not there, or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat[stat.rindex(")") + 2 :].split()
    return None if fields[0] in "ZX" else int(fields[19])


def command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def children(pid: int) -> list[int]:
    """All descendants of `pid`, parents first."""
    parents: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = Path(f"/proc/{entry}/stat").read_text()
            except OSError:
                continue
            parents.setdefault(int(stat[stat.rindex(")") + 2 :].split()[1]), []).append(int(entry))
    found: list[int] = []
    queue = [pid]
    while queue:
        below = parents.get(queue.pop(0), [])
        found += below
        queue += below
    return found


def wait_gone(pid: int, started: int, timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while start_time(pid) == started:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def stop(pid: int, started: int, timeout_s: float) -> bool:
    """SIGTERM and wait; False: still there after the timeout. Never signals a pid that was reused."""
    if start_time(pid) != started:
        return True
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return True
    return wait_gone(pid, started, timeout_s)


def kill(pid: int, started: int) -> None:
    if start_time(pid) == started:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def port_taken(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except PermissionError as error:
            raise Error("permission_denied", f"port {host}:{port}: {error.strerror}; choose one above 1023 in the settings") from error
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise Error("failed_precondition", f"{host} is no address of this host: put one of it (`ip address`) into the settings") from error
            return True
    return False


def is_local_address(host: str) -> bool:
    """Whether this machine has the address: nothing goes over a wire to it."""
    host = host.strip("[]")
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((host, 0))
        except OSError:
            return False
    return True


def listener(port: int) -> str:
    """Who listens on a TCP port: "pid 12 (name)", or "another user's process"."""
    inodes: set[str] = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == "0A" and int(fields[1].rsplit(":", 1)[1], 16) == port:
                inodes.add(f"socket:[{fields[9]}]")
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            for descriptor in os.scandir(f"/proc/{entry}/fd"):
                if os.readlink(descriptor.path) in inodes:
                    return f"pid {entry} ({command(int(entry))[:80]})"
        except OSError:
            continue
    return "another user's process"


def free_ports(count: int) -> list[int]:
    """Distinct TCP ports free on loopback now, where there is room outside the range from which the kernel gives ports to
    connections: from in there any connection could take one before its daemon listens."""
    first, last = (int(word) for word in Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    ports = list(range(_PORT_MIN, 65536))
    random.SystemRandom().shuffle(ports)
    ports.sort(key=lambda port: first <= port <= last)
    return list(itertools.islice((port for port in ports if not port_taken("127.0.0.1", port)), count))


def tail(path: Path, lines: int) -> Iterable[str]:
    """Last lines of a text file; empty when it is not there."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            size = file.tell()
            file.seek(max(0, size - 256 * 1024))
            return file.read().decode(errors="replace").splitlines()[-lines:]
    except OSError:
        return []
