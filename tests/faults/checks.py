"""What must hold after each fault: full service by itself, every model answered rightly, and nothing left over."""

from __future__ import annotations

import os
from dataclasses import dataclass

from cenote import processes
from cenote.errors import Error
from tests.faults.hosts import Hosts, wait_until
from tests.faults.load import REQUEST_S, Workload

# Connections come and go: an agent has up to two endpoints to each server, of a dozen files each. What leaks at each fault is more, soon.
_FDS_SLACK = 36


@dataclass(frozen=True)
class Baseline:
    """How much of everything a healthy, idle cluster holds."""

    files: dict[str, int]  # Open file descriptors by daemon.
    processes: int
    shared_memory: frozenset[str]
    pinned_bytes: dict[str, int]  # Of caches, by agent; all models are held.


def _daemons() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit() and "cenoted" in processes.command(int(entry)).partition(" ")[0]]


def _files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def measure(hosts: Hosts) -> Baseline:
    found = {name: daemon.pid for name in hosts.everyone() if (daemon := hosts.daemon(name)) is not None}
    return Baseline({name: _files(pid) for name, pid in found.items()}, len(_daemons()), frozenset(os.listdir("/dev/shm")), _pinned(hosts))


def _pinned(hosts: Hosts) -> dict[str, int]:
    return {member["name"]: member["cache"]["pinned_bytes"] for member in hosts.status()["members"] if member["role"] == "agent"}


def _not_whole(hosts: Hosts, replicas: int) -> list[str]:
    """Why it is not yet as it was before the fault."""
    absent = hosts.absent()
    if absent:
        return [f"absent: {', '.join(absent)}"]
    try:
        status, models = hosts.status(), hosts.cluster.models(timeout_s=2.0)
    except Error as error:
        return [f"the controller: {error}"]
    found = [f"'{m['name']}' has {m['replicas_min']} of {replicas} replicas" for m in models if m["replicas_min"] < replicas]
    for member in status["members"]:
        for key in ("slabs_open", "outstanding", "queued"):
            if member.get(key):
                found.append(f"{member['name']}: {key} {member[key]}")
        found += [f"{e['name']}: running {e['running']}" for e in member["executors"] if e["running"]]
    return found


def _leaks(hosts: Hosts, before: Baseline) -> list[str]:
    now = measure(hosts)
    found = [f"{name}: {count} open files, {before.files[name]} before" for name, count in now.files.items() if count > before.files.get(name, 0) + _FDS_SLACK]
    if now.processes != before.processes:
        found.append(f"{now.processes} daemons, {before.processes} before")
    found += [f"shared memory {name}" for name in now.shared_memory - before.shared_memory]
    for name, count in now.pinned_bytes.items():
        if count > before.pinned_bytes[name]:
            found.append(f"{name}: {count} bytes pinned, {before.pinned_bytes[name]} before")
    # A grant ends two seconds after its reader's last word; what lives longer is nobody's.
    found += [f"{member['name']}: {member['grants_live']} grants" for member in hosts.status()["members"] if member.get("grants_live")]
    return found


def whole_again(hosts: Hosts, workload: Workload, before: Baseline, replicas: int = 2) -> tuple[float, list[str]]:
    """Waits for full service; returns the seconds until then, and what is broken all the same."""
    broken = []
    try:
        seconds = wait_until("whole again", lambda: not _not_whole(hosts, replicas), lambda: "; ".join(_not_whole(hosts, replicas)))
    except AssertionError as error:
        return 0.0, [str(error)]
    for case in workload.cases():
        try:
            if wrong := case.wrong(hosts.cluster.infer(case.name, case.x, deadline_s=REQUEST_S)):
                broken.append(wrong)
        except Error as error:
            broken.append(f"afterwards '{case.name}' is not answered: {error}")
    known = {case.name for case in workload.cases()}
    strangers = {model["name"] for model in hosts.cluster.models()} - known
    broken += [f"'{name}' is in the catalogue and nobody was told that it was deployed" for name in strangers]
    try:
        wait_until("nothing is left over", lambda: not _leaks(hosts, before), lambda: "; ".join(_leaks(hosts, before)), 15.0)
    except AssertionError as error:
        broken.append(str(error))
    return seconds, broken
