"""Hosts as network namespaces on one bridge. The matrix itself stands at the bridge, as the client's host.

A host can be cut off (packets vanish, nobody is told), slowed (tc tbf, both ways), or put behind a bad cable (cable.py).
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

NETWORK = "10.90.0"
CLIENT = f"{NETWORK}.1"
_BRIDGE = "bridge0"


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: exit {done.returncode}: {done.stderr.strip()}")


@dataclass(frozen=True)
class Host:
    name: str
    address: str
    port: str  # Its link's end at the bridge; the other end is eth0 inside.

    def inside(self, *command: str) -> list[str]:
        return ["ip", "netns", "exec", self.name, *command]


class Network:
    def __init__(self, names: Sequence[str]) -> None:
        self.hosts = {name: Host(name, f"{NETWORK}.{10 + i}", f"port{i}") for i, name in enumerate(names)}
        run("ip", "link", "add", _BRIDGE, "type", "bridge", "forward_delay", "0")
        run("ip", "address", "add", f"{CLIENT}/24", "dev", _BRIDGE)
        run("ip", "link", "set", _BRIDGE, "up")
        for host in self.hosts.values():
            run("ip", "netns", "add", host.name)
            run("ip", "link", "add", host.port, "type", "veth", "peer", "name", "eth0", "netns", host.name)
            run("ip", "link", "set", host.port, "master", _BRIDGE, "up")
            run(*host.inside("ip", "address", "add", f"{host.address}/24", "dev", "eth0"))
            run(*host.inside("ip", "link", "set", "eth0", "up"))
            run(*host.inside("ip", "link", "set", "lo", "up"))

    def close(self) -> None:
        for host in self.hosts.values():
            run("ip", "netns", "delete", host.name)
        run("ip", "link", "delete", _BRIDGE)

    @contextlib.contextmanager
    def cut(self, host: Host) -> Iterator[None]:
        """Nothing arrives or leaves, and no connection is told: the host's link stays up, its bridge port is gone."""
        run("ip", "link", "set", host.port, "nomaster")
        try:
            yield
        finally:
            run("ip", "link", "set", host.port, "master", _BRIDGE)

    @contextlib.contextmanager
    def slow(self, host: Host, megabit_per_s: float) -> Iterator[None]:
        limit = ["tbf", "rate", f"{megabit_per_s}mbit", "burst", "128kb", "latency", "500ms"]
        run("tc", "qdisc", "replace", "dev", host.port, "root", *limit)
        run(*host.inside("tc", "qdisc", "replace", "dev", "eth0", "root", *limit))
        try:
            yield
        finally:
            run("tc", "qdisc", "delete", "dev", host.port, "root")
            run(*host.inside("tc", "qdisc", "delete", "dev", "eth0", "root"))

    @contextlib.contextmanager
    def bad_cable(self, host: Host, flip_chance: float, seed: int) -> Iterator[None]:
        """All that passes goes through cable.py, which now and then flips a bit in what is large enough to be payload."""
        run("ip", "link", "add", "cable-hub", "type", "veth", "peer", "name", "cable-end")
        run("ip", "link", "set", "cable-hub", "master", _BRIDGE, "up")
        run("ip", "link", "set", "cable-end", "up")
        run("ip", "link", "set", host.port, "nomaster")
        relay = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.cable", "cable-end", host.port, str(flip_chance), str(seed)], stdin=subprocess.DEVNULL
        )
        try:
            time.sleep(0.2)
            if relay.poll() is not None:
                raise RuntimeError(f"the bad cable ended with {relay.returncode}")
            yield
        finally:
            relay.kill()
            relay.wait()
            run("ip", "link", "set", host.port, "master", _BRIDGE)
            run("ip", "link", "delete", "cable-hub")
