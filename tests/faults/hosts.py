"""A cluster of seven hosts: one supervisor on each, a state directory on a small file system of its own, the client at the bridge."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cenote import certificates, lifecycle, native, processes
from cenote.cluster import Cluster
from cenote.errors import Error
from tests.faults.network import Host, Network, run

PATIENCE_S = 60.0
_DISK_MIB = 256

_SETTINGS = """
[cluster]
name = "faults"

[controller]
host = "{controller-host}"
heartbeat_interval = "100ms"
member_timeout = "2s"
probation = "1s"

[limits]
deploy_lease = "5s"
drain_timeout = "3s"
"""
_ROUTER = """
[[router]]
name = "{name}"
host = "{host}"
port = 7701
"""
_MEMORY = """
[[memory]]
name = "{name}"
host = "{host}"
port = 7710
fabric_port = 7711
capacity = "192 MiB"
data_dir = "{state}/blocks"
data_capacity = "192 MiB"
grant_duration = "2s"
slab_size_max = "16 MiB"
slabs_max = 4
"""
_AGENT = """
[[agent]]
name = "{name}"
host = "{host}"
cache_capacity = "128 MiB"
read_timeout = "1s"
link_gb_per_s = 0.1

[[agent.device]]
name = "host:0"
threads = 1
"""
_KINDS = {"router": _ROUTER, "memory": _MEMORY, "agent": _AGENT}
# Daemon -> its host. Executors live on their agents'.
HOST_OF = {
    "controller": "controller-host",
    **{f"{kind}-{i}": f"{kind}-{i}-host" for kind in _KINDS for i in range(2)},
}


@dataclass(frozen=True)
class Daemon:
    name: str
    pid: int
    started: int  # With the pid it names one process.


class Hosts:
    """Starts everything; close() ends it as `cenote down` does on each host, and says who had to be killed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.network = Network(list(HOST_OF.values()))
        self._supervisors: dict[str, subprocess.Popen[bytes]] = {}
        self._settings = directory / "settings.toml"
        addresses = {name: host.address for name, host in self.network.hosts.items()}
        text = [_SETTINGS.replace("{controller-host}", addresses["controller-host"])]
        for name, host in HOST_OF.items():
            if name != "controller":
                text.append(_KINDS[name.partition("-")[0]].format(name=name, host=addresses[host], state=directory / host))
        self._settings.write_text("".join(text))
        certificates.ensure(directory / "certificates", "faults", addresses.values())
        for host in self.network.hosts.values():
            self._start(host)
        self.cluster = Cluster.connect(f"{addresses['controller-host']}:7700", certificates=directory / "certificates")

    def host(self, daemon: str) -> Host:
        return self.network.hosts[HOST_OF[daemon.partition("/")[0]]]

    def state(self, host: Host) -> Path:
        return self.directory / host.name

    def _start(self, host: Host) -> None:
        state = self.state(host)
        state.mkdir()
        run("mount", "-t", "tmpfs", "-o", f"size={_DISK_MIB}m", "cenote-faults", str(state))
        for part in ("logs", "run"):
            (state / part).mkdir(mode=0o700)
        shutil.copytree(self.directory / "certificates", state / "certificates")
        command = host.inside(str(native.program("cenoted")), "supervisor", "--state", str(state), "--name", "supervisor", "--settings", str(self._settings))
        with open(state / "logs" / "supervisor.log", "ab") as output:
            self._supervisors[host.name] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, cwd="/",
                env={"OMP_WAIT_POLICY": "PASSIVE"} | dict(os.environ),
            )  # fmt: skip

    def daemon(self, name: str) -> Daemon | None:
        """The running process; None while there is none."""
        if "/" in name:
            return self._executor(name)
        children = (lifecycle.supervisor(self.state(self.host(name))) or {"children": []})["children"]
        pid = next((child["pid"] for child in children if child["name"] == name), 0)
        started = processes.start_time(pid) if pid else None
        return Daemon(name, pid, started) if started is not None else None

    def _executor(self, name: str) -> Daemon | None:
        agent = self.daemon(name.partition("/")[0])
        for pid in processes.children(agent.pid) if agent is not None else []:
            words = processes.command(pid).split(" ")
            started = processes.start_time(pid)
            if name in words and started is not None:
                return Daemon(name, pid, started)
        return None

    def everyone(self) -> list[str]:
        return [*HOST_OF, *(f"{name}/host:0" for name in HOST_OF if name.startswith("agent-"))]

    def status(self) -> dict[str, Any]:
        return self.cluster.status(timeout_s=2.0)

    def absent(self) -> list[str]:
        """Members and executors that do not run, or that the controller does not report as they run now."""
        try:
            status = self.status()
        except Error as error:
            return [f"the controller ({error.code})"]
        reported = {member["name"]: member["pid"] for member in status["members"] if not member["draining"]}
        reported |= {e["name"]: e["pid"] for m in status["members"] for e in m["executors"] if e["incarnation"] and e["address"]}
        running = {name: self.daemon(name) for name in self.everyone()}
        return [name for name, daemon in running.items() if daemon is None or reported.get(name) != daemon.pid]

    def logs(self, lines: int = 12) -> str:
        text = []
        for name in sorted(self.everyone()):
            path = self.state(self.host(name)) / "logs" / (name.replace("/", "-") + ".log")
            text += [f"--- {name}", *processes.tail(path, lines)]
        return "\n".join(text)

    def close(self) -> list[str]:
        self.cluster.close()
        for supervisor in self._supervisors.values():
            supervisor.terminate()
        late = []
        deadline = time.monotonic() + PATIENCE_S
        for name, supervisor in self._supervisors.items():
            try:
                supervisor.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                late.append(name)
        return late


@contextmanager
def hosts_up(directory: Path) -> Iterator[Hosts]:
    hosts = Hosts(directory)
    try:
        wait_until("the cluster is up", lambda: not hosts.absent(), lambda: ", ".join(hosts.absent()))
        yield hosts
    finally:
        late = hosts.close()
        hosts.network.close()
    if late:
        raise AssertionError(f"supervisors did not end within {PATIENCE_S:.0f} s: {', '.join(late)}")


def wait_until(what: str, true: Any, why: Any = lambda: "", timeout_s: float = PATIENCE_S) -> float:
    """Returns the seconds it took."""
    begun = time.monotonic()
    while not true():
        if time.monotonic() - begun > timeout_s:
            raise AssertionError(f"{what}: not within {timeout_s:.0f} s{': ' if why() else ''}{why()}")
        time.sleep(0.05)
    return time.monotonic() - begun
