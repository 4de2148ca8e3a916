"""`cenote bench router`: what a request costs beside its computing, through a router and straight to an executor, beside what gRPC can do.

A cluster of its own (one router, one executor) serves a model of one operator. One client process sends in closed loops: through the router
as applications do, to the executor itself, and, as opaque messages of the same sizes, through a bare relay (mutual TLS, one gRPC stream each
way, nothing else) and straight to who answers behind it. A round takes them in turns, once with one request outstanding (latency), once with
`outstanding` (throughput); each figure is the median of its rounds. CPU: user and system time of the daemon, from /proc, over the requests
of a run.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cenote import native, temperatures
from cenote.errors import Error
from cenote.lifecycle import Report
from cenote.private_cluster import PrivateCluster, private_cluster

_SETTINGS = """
[[router]]
port = 7701
[[memory]]
port = 7710
fabric_port = 7711
capacity = "128 MiB"
slabs_max = 1
[[agent]]
cache_capacity = "128 MiB"
[[agent.device]]
name = "host:0"
threads = 1
credits = {outstanding}
queue_max = {queue}
"""
ELEMENTS = 16
WAYS = ("bare", "echo", "router", "executor")  # echo: bare, without the relay.
_IDLE_BEFORE = 20
_IDLE_S = 3.0
_LATENCY_S = 1.0  # Of a run with one request outstanding, at most.


class _Program:
    """cenote-bench-router, a line of JSON for each line it is given. Ends with its standard input."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        command = [str(native.program("cenote-bench-router")), "--state", str(directory), *arguments]
        # In a session of its own: Ctrl-C is for us, and closing its input ends it.
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
        try:
            self.hello = self._line()
        except BaseException:
            self.close()
            raise

    def _line(self) -> dict[str, Any]:
        assert self.process.stdout is not None and self.process.stderr is not None
        line = self.process.stdout.readline()  # No deadline: our own child; its runs have an end, and its own ends the line.
        if not line:
            said = self.process.stderr.read().strip()
            raise Error("internal", said or f"cenote-bench-router ended with exit code {self.process.wait(timeout=10)}")
        return dict(json.loads(line))

    def ask(self, **order: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return self._line()

    def close(self) -> None:
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()  # No deadline: it was killed.


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, with all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def machine() -> dict[str, Any]:
    lines = [line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {"processor": lines[0] if lines else platform.machine(), "cores": os.cpu_count(), "kernel": platform.release()}


def build_type() -> str:
    """As CMake was told: figures count for "Release"."""
    cache = native.build_directory() / "CMakeCache.txt"
    lines = cache.read_text().splitlines() if cache.exists() else []
    return next((line.partition("=")[2] for line in lines if line.startswith("CMAKE_BUILD_TYPE:")), "unknown")


def _deploy(own: PrivateCluster) -> tuple[str, str, str]:
    """Name, digest and input of the model."""
    import torch

    class Scale(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor = torch.nn.Parameter(torch.full((ELEMENTS,), 2.0))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.factor

    own.cluster.deploy(Scale().eval(), (torch.zeros(1, ELEMENTS),), name="scale")
    temperatures.wait_ready(own.cluster, "scale")
    return "scale", own.cluster.resolve("scale")["record"]["digest"], own.cluster.card("scale").signature["inputs"][0]["name"]


@dataclass(frozen=True)
class Loads:
    """The client, where the bare ways go, and the processes whose time counts."""

    client: _Program
    bare: dict[str, str]
    pids: dict[str, int]


@contextlib.contextmanager
def settings_file(outstanding: int) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "router.toml"
        file.write_text(_SETTINGS.format(outstanding=outstanding, queue=2 * outstanding))
        yield file


@contextlib.contextmanager
def loads(own: PrivateCluster) -> Iterator[Loads]:
    """Deploys the model, and starts what asks for it."""
    name, digest, tensor = _deploy(own)
    members = own.cluster.status()["members"]
    router = next(m for m in members if m["role"] == "router")
    executor = temperatures.executors(own.cluster)[0]
    with contextlib.ExitStack() as ends:

        def start(*arguments: str) -> _Program:
            program = _Program(own.directory, *arguments)
            ends.callback(program.close)
            return program

        client = start("--router", router["address"], "--executor", executor["address"], "--model", name, "--revision", digest,
                       "--input", tensor, "--elements", str(ELEMENTS))  # fmt: skip
        echo = start("--serve", "--reply-bytes", str(client.hello["reply_bytes"]))
        relay = start("--serve", "--forward", echo.hello["address"])
        pids = {"router": router["pid"], "executor": executor["pid"], "relay": relay.process.pid, "echo": echo.process.pid}
        yield Loads(client, {"bare": relay.hello["address"], "echo": echo.hello["address"]}, pids)


def run(loads: Loads, way: str, outstanding: int, seconds: float) -> dict[str, Any]:
    before = {name: cpu_seconds(pid) for name, pid in loads.pids.items()}
    bare = loads.bare.get(way)
    result = loads.client.ask(way="bare" if bare else way, relay=bare or "", outstanding=outstanding, seconds=seconds)
    if result["failed"] or not result["requests"]:
        raise Error("internal", f"{way}, {outstanding} outstanding: {result['failed']} requests failed: {result['first_error']}")
    spent = {name: (cpu_seconds(pid) - before[name]) * 1e6 / result["requests"] for name, pid in loads.pids.items()}
    return {
        "requests_per_s": result["requests"] / result["seconds"],
        "p50_us": result["p50_us"],
        "p99_us": result["p99_us"],
        "client_cpu_us": result["cpu_s"] * 1e6 / result["requests"],
        **{f"{name}_cpu_us": value for name, value in spent.items()},
    }


def _medians(runs: list[dict[str, Any]]) -> dict[str, float]:
    return {key: round(statistics.median(run[key] for run in runs), 2) for key in runs[0]}


def resident_bytes(pid: int) -> int:
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


def hold_idle(loads: Loads, count: int) -> dict[str, Any]:
    """Callers who are connected and ask nothing, each with a connection of his own: what one takes of the router's memory."""
    client, router = loads.client, loads.pids["router"]
    client.ask(way="idle", sessions=min(count, _IDLE_BEFORE))  # What the first ones make the router take once.
    before = resident_bytes(router)
    got = client.ask(way="idle", sessions=count)
    took = resident_bytes(router) - before
    cpu = cpu_seconds(router)
    time.sleep(_IDLE_S)
    cpu = (cpu_seconds(router) - cpu) / _IDLE_S
    more = got["welcomed"] - min(count, _IDLE_BEFORE)
    return {
        "connected": got["welcomed"], "refusal": got["refusal"], "bytes_each": round(took / more) if more > 0 else None, "router_cores": round(cpu, 3),
    }  # fmt: skip


def measure(*, rounds: int, seconds: float, outstanding: int, idle: int, report: Report) -> dict[str, Any]:
    runs: dict[tuple[str, str], list[dict[str, Any]]] = {(load, way): [] for load in ("one", "full") for way in WAYS}
    with settings_file(outstanding) as settings, private_cluster(settings, name="router", report=report) as own, loads(own) as started:
        for load, count, length in (("one", 1, min(seconds, _LATENCY_S)), ("full", outstanding, seconds)):
            for way in WAYS:
                run(started, way, count, length / 2)  # Warms connections and caches.
            for number in range(rounds):
                report(f"{count} outstanding, round {number + 1} of {rounds}")
                for way in WAYS:
                    runs[load, way].append(run(started, way, count, length))
        report(f"{idle} idle callers")
        connected = hold_idle(started, idle)
        sizes = started.client.hello
    one, full = ({way: _medians(runs[load, way]) for way in WAYS} for load in ("one", "full"))
    ratio = statistics.median(r["requests_per_s"] / b["requests_per_s"] for r, b in zip(runs["full", "router"], runs["full", "bare"], strict=True))

    def added(middle: str, last: str) -> float:
        return round(statistics.median(m["p50_us"] - e["p50_us"] for m, e in zip(runs["one", middle], runs["one", last], strict=True)), 1)

    return {
        "requests_per_s": full["router"]["requests_per_s"],
        "bare_requests_per_s": full["bare"]["requests_per_s"],
        "ratio": round(ratio, 3),
        "added_p50_us": added("router", "executor"),
        "bare_added_p50_us": added("bare", "echo"),
        "router_cpu_us": full["router"]["router_cpu_us"],
        "executor_cpu_us": full["router"]["executor_cpu_us"],
        "one_outstanding": one,
        "full_load": full,
        "idle_clients": connected,
        "settings": {"rounds": rounds, "seconds": seconds, "outstanding": outstanding, "credits": outstanding, **sizes},
        "machine": machine(),
        "build_type": build_type(),
    }


def draw(result: dict[str, Any]) -> None:
    from cenote.show import console, format_bytes, table

    columns = ["requests/s", "p50 us", "p99 us", "client CPU us", "router CPU us", "executor CPU us"]
    rows = []
    for title, load in (("1", "one_outstanding"), (str(result["settings"]["outstanding"]), "full_load")):
        for way in WAYS:
            m = result[load][way]
            middle, last = ("relay", "echo") if way in ("bare", "echo") else ("router", "executor")
            rows.append([
                title, way, f"{m['requests_per_s']:.0f}", f"{m['p50_us']:.0f}", f"{m['p99_us']:.0f}", f"{m['client_cpu_us']:.1f}",
                f"{m[f'{middle}_cpu_us']:.1f}", f"{m[f'{last}_cpu_us']:.1f}",
            ])  # fmt: skip
    table(["outstanding", "way", *columns], rows, right=["outstanding", *columns])
    text = console()
    text.print(f"{result['ratio']:.2f} of a bare relay's requests/s; a router adds {result['added_p50_us']:.0f} us to the median, a bare relay "
               f"{result['bare_added_p50_us']:.0f} us", markup=False)  # fmt: skip
    idle = result["idle_clients"]
    if idle["bytes_each"] is not None:
        text.print(f"{idle['connected']} idle callers: {format_bytes(idle['bytes_each'])} of the router's memory each, "
                   f"{idle['router_cores'] * 100:.1f} % of a core together", markup=False)  # fmt: skip
    m = result["machine"]
    text.print(f"{m['cores']} x {m['processor']}, build type {result['build_type']}; bare: CPU of relay and echo", style="dim", markup=False)
    if result["build_type"] != "Release":
        text.print("not a release build: these figures say little", style="yellow", markup=False)
