"""A real cluster of a test: small arenas, free ports, a temporary state directory, and what of it is still on this machine."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cenote import lifecycle, processes
from cenote.cluster import Cluster
from cenote.errors import Error

# The thread sanitizer's daemons take several times as long; what waits for them, and what has to last, does too.
SLOWNESS = 3 if Path(os.environ.get("CENOTE_BUILD", "")).name == "tsan" else 1
PATIENCE_S = 60.0 * SLOWNESS  # Of a loaded two-core machine, with sanitizers.

SETTINGS = """
[cluster]
name = "{name}"
state_directory = "{directory}"

[controller]
port = {controller}
heartbeat_interval = "100ms"
member_timeout = "3s"

[[router]]
name = "router-0"
port = {router_0}

[[router]]
name = "router-1"
port = {router_1}

[[memory]]
name = "memory-0"
port = {memory_0}
fabric_port = {fabric_0}
capacity = "96 MiB"
grant_duration = "2s"
slab_size_max = "8 MiB"
slabs_max = 4

[[memory]]
name = "memory-1"
port = {memory_1}
fabric_port = {fabric_1}
capacity = "96 MiB"
grant_duration = "2s"
slab_size_max = "8 MiB"
slabs_max = 4

[[agent]]
name = "agent-0"
cache_capacity = "64 MiB"
read_timeout = "1s"

[[agent.device]]
name = "host:0"
threads = 1

[[agent.device]]
name = "host:1"
threads = 1

[limits]
deploy_lease = "5s"
drain_timeout = "5s"
"""
BringUp = Callable[["Running"], "Running"]
_PORTS = ("controller", "router_0", "router_1", "memory_0", "fabric_0", "memory_1", "fabric_1")


@dataclass
class Running:
    """A cluster of a test and the tool beside it."""

    directory: Path
    settings: Path
    name: str
    environment: dict[str, str]
    ports: list[int] = field(default_factory=list)

    def tool(self, *arguments: str, timeout_s: float = 180.0, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments), capture_output=True, text=True, timeout=timeout_s, env=self.environment | environment, cwd=self.directory.parent
        )

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "cenote.cli", *arguments]

    def json(self, *arguments: str) -> Any:
        ran = self.tool(*arguments, "-o", "json")
        assert ran.returncode == 0, f"{arguments}: exit {ran.returncode}\n{ran.stdout}\n{ran.stderr}"
        return json.loads(ran.stdout)

    def connect(self) -> Cluster:
        return Cluster.connect(str(self.directory))

    def up(self) -> None:
        lifecycle.up(self.settings, [], timeout_s=120)

    def down(self) -> None:
        lifecycle.down(str(self.directory))

    def logs(self) -> str:
        text = []
        for path in sorted((self.directory / "logs").glob("*.log")):
            text += [f"--- {path.name}", *processes.tail(path, 15)]
        return "\n".join(text)

    def leftovers(self) -> list[str]:
        """Whatever of the cluster still exists on this machine."""
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit() and str(self.directory) in processes.command(int(entry)) and "cenoted" in processes.command(int(entry)):
                found.append(f"process {entry}: {processes.command(int(entry))}")
        found += [f"socket {path}" for path in (self.directory / "run").glob("*.sock")]
        # Named after the cluster, and no other has its name.
        found += [f"shared memory {path}" for path in Path("/dev/shm").glob(f"*{self.name}-*")]
        found += [f"port {port} ({processes.listener(port)})" for port in self.ports if processes.port_taken("127.0.0.1", port)]
        return found


def member(cluster: Cluster, name: str) -> dict[str, Any]:
    """Its last report; unavailable while the controller does not know it."""
    for report in cluster.status()["members"]:
        if report["name"] == name:
            return report
    raise Error("unavailable", f"{name} is not a member")


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Silent, as a machine that hangs is: nothing it has is given up."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def until(true: Callable[[], Any], what: str, timeout_s: float = PATIENCE_S) -> Any:
    """The first truthy answer; unavailable clusters are asked again."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            answer = true()
        except Error as error:
            if error.code not in ("unavailable", "deadline_exceeded"):
                raise
            answer = None
        if answer:
            return answer
        assert time.monotonic() < deadline, f"not within {timeout_s:.0f} s: {what}"
        time.sleep(0.05)


def with_agents(base: Path, agents: str) -> Running:
    """A cluster with these sections in the place of agent-0's."""
    return make(base, SETTINGS[: SETTINGS.index("[[agent]]")] + agents + SETTINGS[SETTINGS.index("[limits]") :])


def emulated(base: Path, compute_ms: dict[str, float], memory: str = "32 MiB") -> Running:
    """A cluster with one emulated device, on which a run of a named model takes that long however fast the machine is."""
    table = ", ".join(f"{name} = {ms}" for name, ms in compute_ms.items())
    agent = SETTINGS[SETTINGS.index("[[agent]]") : SETTINGS.index("[[agent.device]]")]
    device = f"""[[agent.device]]
name = "emulated:0"
threads = 1
memory = "{memory}"
copy_gb_per_s = 2.0
copy_latency = "10us"
compute_ms = {{{{ {table} }}}}

"""
    return with_agents(base, agent + device)


def make(base: Path, text: str = SETTINGS) -> Running:
    directory = base / "cluster"
    ports = processes.free_ports(len(_PORTS))
    settings = base / "settings.toml"
    name = f"test-{os.getpid()}-{ports[0]}"
    settings.write_text(text.format(name=name, directory=directory, **dict(zip(_PORTS, ports, strict=True))))
    environment = dict(os.environ, CENOTE_CLUSTER=name, NO_COLOR="1", COLUMNS="160")
    return Running(directory, settings, name, environment, ports)
