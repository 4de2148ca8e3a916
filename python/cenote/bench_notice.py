"""`cenote bench notice`: how soon a dead or silent daemon is noticed, and how soon requests are answered as before.

A cluster of its own (two of each role but the controller) serves a small resident model to a steady load. Each role in turn is killed (SIGKILL)
and stopped (SIGSTOP, then SIGCONT). Noticed: from the signal to the first line about it that another daemon writes, by the
machine's wall clock, 1 ms fine. Resumed: from the signal until the last request is answered that the fault held up. A thread of this process
that only sleeps tells how long the machine itself stood still: stalls over 50 ms are listed beside the figures they spoil.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cenote import temperatures
from cenote.errors import Error
from cenote.lifecycle import Report
from cenote.private_cluster import PrivateCluster, private_cluster

if TYPE_CHECKING:
    from cenote.cluster import Cluster

_SETTINGS = """
[[router]]
port = 7701
[[router]]
port = 7702
[[memory]]
port = 7710
fabric_port = 7711
capacity = "128 MiB"
slabs_max = 1
[[memory]]
port = 7712
fabric_port = 7713
capacity = "128 MiB"
slabs_max = 1
[[agent]]
cache_capacity = "128 MiB"
[[agent.device]]
name = "host:0"
threads = 1
[[agent]]
cache_capacity = "128 MiB"
[[agent.device]]
name = "host:0"
threads = 1
"""
VICTIMS = {"executor": "agent-0/host:0", "router": "router-0", "agent": "agent-0", "memory": "memory-0", "controller": "controller"}
FAULTS = {"SIGKILL": signal.SIGKILL, "SIGSTOP": signal.SIGSTOP}
_STALL_S = 0.050
_TICK_S = 0.005
_AFTER_STALL_S = 0.25  # Two silences.
_STOPPED_S = 2.0
_WHOLE_S = 60.0
_DEADLINE_S = 30.0
_AFTER_S = 0.5  # Requests begun so long after the signal may have been held up by it,
_HELD_UP_S = 0.05  # if they took this much longer than the median.
_LINE = re.compile(r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}) (\w+) +\S+: (.*)$")
_SUSPICION = re.compile(r"\bis silent\b")


@dataclass
class Load:
    """Threads that ask for a resident model, one request after another, and what became of each: begin and end by the wall clock."""

    cluster: Cluster
    name: str
    inputs: list[tuple[str, Any]]
    pause_s: float = 0.0
    answered: list[tuple[float, float]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def _ask(self) -> None:
        while not self._stop.is_set():
            begin = time.time()
            try:
                self.cluster.ask_flat(self.name, self.inputs, deadline_s=_DEADLINE_S)
            except Error as error:
                self.failed.append(str(error))
            self.answered.append((begin, time.time()))
            self._stop.wait(self.pause_s)

    @contextlib.contextmanager
    def running(self, threads: int) -> Iterator[Load]:
        workers = [threading.Thread(target=self._ask) for _ in range(threads)]
        for worker in workers:
            worker.start()
        try:
            yield self
        finally:
            self._stop.set()
            for worker in workers:
                worker.join()  # No deadline: each request has one.


class Stalls:
    """How long the machine stood still: what a thread that sleeps 5 ms at a time slept beyond that."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, float]] = []  # When it ended, seconds.
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        last = time.monotonic()
        while not self._stop.is_set():
            time.sleep(_TICK_S)
            now = time.monotonic()
            if now - last - _TICK_S > _STALL_S:
                self.seen.append((time.time(), now - last - _TICK_S))
            last = now

    def between(self, begin: float, end: float) -> list[float]:
        return [round(seconds * 1e3, 1) for at, seconds in self.seen if at >= begin and at - seconds <= end]

    def explain(self, when: float) -> bool:
        """What was said at `when` may come of a stall: whoever stood still then has not been heard for as long."""
        return any(at - seconds <= when <= at + _AFTER_STALL_S for at, seconds in self.seen)

    def explained_s(self, begin: float, end: float) -> float:
        """Of how much of that time a suspicion would be explained."""
        covered = 0.0
        until = begin
        for at, seconds in self.seen:
            since, to = max(at - seconds, until), min(at + _AFTER_STALL_S, end)
            if to > since:
                covered += to - since
                until = to
        return covered

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()  # No deadline: it ends within a tick.


def _lines(logs: Path, since: float) -> Iterator[tuple[float, str, str, str]]:
    """(when, which daemon, level, text) of what was logged after `since`."""
    for path in sorted(logs.glob("*.log")):
        for line in path.read_text(errors="replace").splitlines():
            match = _LINE.match(line)
            if match is None:
                continue
            when = datetime.datetime.fromisoformat(match[1]).timestamp()
            if when >= since:
                yield when, path.stem, match[2], match[3]


def _noticed(logs: Path, victim: str, pid: int, since: float) -> tuple[float, str, str] | None:
    """The first word of somebody else about the victim."""
    own = victim.replace("/", "-")
    about = re.compile(rf"(?<![\w/-]){re.escape(victim)}(?![\w/-])|\bpid {pid}\b")
    said = [
        (when, daemon, text)
        for when, daemon, level, text in _lines(logs, since)
        if daemon != own and level.lower() in ("warning", "error") and about.search(text)
    ]
    return min(said) if said else None


def _pid_of(cluster: Cluster, victim: str) -> int:
    for member in cluster.status()["members"]:
        for one in [member, *member["executors"]]:
            if one["name"] == victim:
                return int(one["pid"])
    raise Error("not_found", f"{victim} is not in the cluster")


def _whole(cluster: Cluster) -> bool:
    status = cluster.status()
    heard = all("not heard" not in note for member in status["members"] for note in member["notes"])
    executors = [e for member in status["members"] for e in member["executors"]]
    return heard and len(status["members"]) == 7 and len(executors) == 2 and all(e["pid"] and e["address"] for e in executors)


def _wait_whole(cluster: Cluster) -> None:
    end = time.monotonic() + _WHOLE_S
    while True:
        with contextlib.suppress(Error):
            if _whole(cluster):
                break
        if time.monotonic() > end:
            raise Error("deadline_exceeded", f"the cluster was not whole {_WHOLE_S:.0f} s after a fault; see `cenote logs`")
        time.sleep(0.1)


def _fault(own: PrivateCluster, load: Load, stalls: Stalls, role: str, kind: str) -> dict[str, Any]:
    victim = VICTIMS[role]
    pid = _pid_of(own.cluster, victim)
    quiet_from = time.time()
    time.sleep(1.0)  # A steady load before.
    median = statistics.median(end - begin for begin, end in list(load.answered) if begin >= quiet_from)
    at = time.time()
    os.kill(pid, FAULTS[kind])
    time.sleep(_STOPPED_S)
    if kind == "SIGSTOP":
        os.kill(pid, signal.SIGCONT)
    _wait_whole(own.cluster)
    logs = own.directory / "logs"
    first = _noticed(logs, victim, pid, int(at * 1e3) / 1e3)
    held_up = [end for begin, end in list(load.answered) if end > at and begin < at + _AFTER_S and end - begin > median + _HELD_UP_S]
    others = [text for _, _, _, text in _lines(logs, quiet_from) if _SUSPICION.search(text) and victim not in text]
    return {
        "role": role,
        "fault": kind,
        "noticed_ms": round((first[0] - at) * 1e3, 1) if first else None,
        "noticed_by": first[1] if first else "",
        "said": first[2] if first else "",
        "resumed_ms": round((max(held_up) - at) * 1e3, 1) if held_up else 0.0,
        "resident_ms": round(median * 1e3, 2),
        "false_suspicions": others,
        "stalls_ms": stalls.between(at, max([at + 0.5, *held_up])),
    }


def _quiet(own: PrivateCluster, load: Load, stalls: Stalls, minutes: float, report: Report) -> dict[str, Any]:
    """No fault, two processes that take all the processor they get: whoever is suspected now is suspected falsely."""
    begin = time.time()
    asked = len(load.answered)
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        while (left := begin + minutes * 60 - time.time()) > 0:
            report(f"beside two busy processes, {left / 60:.1f} minutes left")
            time.sleep(min(5.0, left))
    finally:
        for process in busy:
            process.kill()
            process.wait()  # No deadline: it was killed.
    ended = time.time()
    seen = stalls.between(begin, ended)
    suspicions = [(when, f"{daemon}: {text}") for when, daemon, _, text in _lines(own.directory / "logs", begin) if _SUSPICION.search(text)]
    return {
        "minutes": minutes,
        "requests": len(load.answered) - asked,
        "false_suspicions": [said for when, said in suspicions if not stalls.explain(when)],
        "suspicions_in_stalls": [said for when, said in suspicions if stalls.explain(when)],
        "stalls": len(seen),
        "stall_longest_ms": max(seen, default=0.0),
        "explained_s": round(stalls.explained_s(begin, ended), 3),
    }


def measure(*, rounds: int, quiet_minutes: float, report: Report) -> dict[str, Any]:
    import torch

    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "notice.toml"
        settings.write_text(_SETTINGS)
        with private_cluster(settings, name="notice", report=report) as own:
            torch.manual_seed(0)
            model = torch.nn.Sequential(torch.nn.Linear(256, 256), torch.nn.Tanh(), torch.nn.Linear(256, 16)).eval()
            own.cluster.deploy(model, (torch.zeros(1, 256),), name="small")
            temperatures.wait_ready(own.cluster, "small")
            spec = own.cluster.card("small").signature["inputs"][0]
            name = f"small@{own.cluster.resolve('small')['record']['digest']}"
            load = Load(own.cluster, name, [(spec["name"], torch.zeros(1, 256))], pause_s=0.01)
            stalls = Stalls()
            faults = []
            quiet = None
            try:
                with load.running(2):
                    for number in range(rounds):
                        for role in VICTIMS:
                            for kind in FAULTS:
                                report(f"round {number + 1} of {rounds}: {kind} of {VICTIMS[role]}")
                                faults.append(_fault(own, load, stalls, role, kind))
                    if quiet_minutes > 0:
                        quiet = _quiet(own, load, stalls, quiet_minutes, report)
            finally:
                stalls.stop()
            members = {m["name"]: {key: m[key] for key in ("suspected", "stalls", "stall_longest_ms")} for m in own.cluster.status()["members"]}
    return {"faults": faults, "failed_requests": load.failed, "requests": len(load.answered), "quiet": quiet, "members": members}


def draw(result: dict[str, Any]) -> None:
    from cenote.show import console, table

    rows = [
        [
            f["role"], f["fault"], "never" if f["noticed_ms"] is None else f"{f['noticed_ms']:.0f} ms", f["noticed_by"], f"{f['resumed_ms']:.0f} ms",
            str(len(f["false_suspicions"])), ", ".join(f"{ms:.0f} ms" for ms in f["stalls_ms"]),
        ]
        for f in result["faults"]
    ]  # fmt: skip
    table(["role", "fault", "noticed", "by", "resumed", "false", "stalls"], rows, right=["noticed", "resumed", "false"])
    console().print(f"{result['requests']} requests, {len(result['failed_requests'])} failed", markup=False)
    if result["quiet"] is not None:
        q = result["quiet"]
        console().print(
            f"{q['minutes']:g} minutes beside two busy processes: {len(q['false_suspicions'])} false suspicions in {q['requests']} requests; "
            f"{q['stalls']} stalls of the machine, the longest {q['stall_longest_ms']:.0f} ms, {len(q['suspicions_in_stalls'])} suspicions in them",
            markup=False,
        )
