"""`cenote bench cold`: a request whose model lies nowhere on the host, beside its bound and beside loading the same weights by other means.

Bound (none of our own cost widens it): max( max over groups k of (arrival of group k + compute from k on), CPU seconds of all parts /
cores ), where arrival is a bare fi_read loop's over the same number of bytes, paced if the link is; compute PyTorch eager's, operator by
operator; verify bare XXH3-64. A table that is only looked up counts by the chunks its rows lie in, and those come first.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cenote import native, temperatures, weight_loads
from cenote.arrays import relative_difference
from cenote.errors import Error, usage
from cenote.lifecycle import Report
from cenote.private_cluster import private_cluster

if TYPE_CHECKING:
    import torch

    from cenote.cluster import Cluster
    from cenote.sources import Source

_GROUP_BYTES = 8 << 20
_CHUNK_BYTES = 256 << 10
_THREADS = 1
_AGREEMENT_MAX = 1e-5
# The first that is not measured warms the executor's kernels, so that a cold request is not the process's first.
_WARMERS = ("resnet18", "resnet50")


@dataclass(frozen=True)
class Transfer:
    """Medians of bare reads of the model's bytes, both processes' CPU included."""

    read_s: float
    read_cpu_s: float
    verify_s: float


@dataclass(frozen=True)
class Step:
    """One operator of the eager model: its seconds, and how far into the range its weights reach."""

    seconds: float
    weight_end: int
    gathered: int  # Bytes of chunks of lookup tables that it reads.


def _median_of(times: int, measure: Callable[[], float]) -> float:
    return statistics.median(measure() for _ in range(times))


# ---- the parts, each alone -------------------------------------------------------------------------------------------------------


def bare_transfer(size: int, rounds: int) -> Transfer:
    """By cenote-bench-stream: plain fi_read loop between two processes, then XXH3-64, `rounds` times after one that warms."""
    command = [str(native.program("cenote-bench-stream")), "--bytes", str(size)]
    ran = subprocess.run(command, input="\n" * (rounds + 1), capture_output=True, text=True, timeout=600, check=False)
    if ran.returncode != 0:
        raise Error("internal", ran.stderr.strip() or f"cenote-bench-stream ended with exit code {ran.returncode}")
    lines = [json.loads(line) for line in ran.stdout.splitlines()][1:]
    return Transfer(*(statistics.median(line[key] for line in lines) for key in ("read_s", "read_cpu_s", "verify_s")))


def eager_steps(source: Source, tensors: list[dict[str, Any]], rounds: int) -> tuple[list[Step], float]:
    """PyTorch's operators one by one, scaled so that they sum to the eager model's own time (an interpreter in Python is slower), and
    that time in seconds. `tensors`: the manifest's, with offsets."""
    import torch

    program = torch.export.export(source.module, tuple(source.inputs), strict=False)
    signature = program.graph_signature
    names = {s.arg.name: s.target for s in signature.input_specs if s.target is not None}
    places = {t["name"]: t for t in tensors}
    state = {**program.state_dict, **program.constants}
    values = [state[names[n.name]] if n.name in names else None for n in program.graph.nodes if n.op == "placeholder"]
    given = iter(source.inputs)
    values = [next(given) if value is None else value for value in values]

    class Timed(torch.fx.Interpreter):
        def __init__(self) -> None:
            super().__init__(program.graph_module)
            self.spent: dict[str, list[float]] = {}
            self.rows: dict[str, int] = {}

        def run_node(self, node: torch.fx.Node) -> Any:
            begun = time.perf_counter()
            result = super().run_node(node)
            if node.op == "call_function":
                self.spent.setdefault(node.name, []).append(time.perf_counter() - begun)
            return result

    with torch.inference_mode():
        source.module(*source.inputs)
        whole = _median_of(rounds, lambda: _timed(lambda: source.module(*source.inputs)))
        timed = Timed()
        for _ in range(rounds + 1):
            timed.run(*values, enable_io_processing=False)
    spent = {name: statistics.median(seconds[1:]) for name, seconds in timed.spent.items()}
    scale = whole / sum(spent.values())
    steps = []
    for node in program.graph.nodes:
        if node.name not in spent:
            continue
        weights = [places[names[n.name]] for n in node.all_input_nodes if n.name in names and names[n.name] in places]
        lookup = str(node.target).startswith("aten.embedding")
        ends = [t["offset_bytes"] + t["size_bytes"] for t in weights if not (lookup and t["gather_only"])]
        gathered = sum(_gathered_bytes(node, t, source) for t in weights if lookup and t["gather_only"])
        steps.append(Step(spent[node.name] * scale, max(ends, default=0), gathered))
    return steps, whole


def _gathered_bytes(node: torch.fx.Node, table: dict[str, Any], source: Source) -> int:
    """Bytes of the chunks that a lookup touches, if its indices are an input; else those of as many rows as it returns."""
    import torch

    row_bytes = table["size_bytes"] // max(table["shape"][0], 1)
    value = node.meta["val"]
    rows = value.numel() // max(value.shape[-1], 1)
    ids = [x for x in source.inputs if isinstance(x, torch.Tensor) and x.dtype == torch.int64 and x.numel() == rows]
    indices = ids[0].reshape(-1).tolist() if ids and int(ids[0].max()) < table["shape"][0] else range(int(rows))
    offsets = [table["offset_bytes"] + int(i) * row_bytes for i in indices]
    chunks = {c for o in offsets for c in range(o // _CHUNK_BYTES, (o + row_bytes - 1) // _CHUNK_BYTES + 1)}
    return len(chunks) * _CHUNK_BYTES


def _timed(call: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def bound_s(steps: list[Step], size: int, transfer: Transfer, link_gb_per_s: float, cores: int) -> float:
    """The bound of this file's first lines, in seconds."""
    read_s = max(transfer.read_s, size / (link_gb_per_s * 1e9) if link_gb_per_s else 0.0)
    rate = size / read_s
    gathered = sum(step.gathered for step in steps)
    left = sum(step.seconds for step in steps)
    bound = 0.0
    arrived = 0
    seen = 0
    for step in steps:
        seen += step.gathered
        group_end = min(-(-step.weight_end // _GROUP_BYTES) * _GROUP_BYTES, size) if step.weight_end else 0
        arrived = max(arrived, group_end)
        # Chunks of tables come ahead of everything; they are not fetched again with their group.
        bytes_before = min(arrived + (gathered if arrived else seen), size)
        bound = max(bound, bytes_before / rate + left)
        left -= step.seconds
    busy = transfer.read_cpu_s + transfer.verify_s + sum(step.seconds for step in steps)
    return max(bound, busy / cores)


# ---- the cluster's requests --------------------------------------------------------------------------------------------------------


@dataclass
class Subject:
    cluster: Cluster
    name: str
    warmer: str
    inputs: list[tuple[str, torch.Tensor]]
    expected: list[torch.Tensor]  # PyTorch's outputs.

    def ask(self) -> float:
        """Milliseconds from the client's send to the answer. data_loss: it is not PyTorch's."""
        answer = self.cluster.ask_flat(self.name, self.inputs, deadline_s=120.0)
        for (label, output), expected in zip(answer.outputs.items(), self.expected, strict=True):
            error = relative_difference(output, expected)
            if not error <= _AGREEMENT_MAX:
                raise Error("data_loss", f"{self.name}: output '{label}' differs from PyTorch's by {error:.1e} of its largest value")
        return answer.waterfall.client_us / 1e3


def _cpu_seconds(cluster: Cluster) -> float:
    """Of all daemons, from the kernel. Processes that ended meanwhile are left out."""
    ticks = 0
    for member in cluster.status()["members"]:
        for pid in [member["pid"], *(e["pid"] for e in member["executors"])]:
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            except FileNotFoundError:
                continue
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _cold(subject: Subject) -> tuple[float, float]:
    temperatures.make_cold(subject.cluster, subject.name)
    subject.cluster.ask_flat(*_warm_request(subject))
    cpu = _cpu_seconds(subject.cluster)
    milliseconds = subject.ask()
    return milliseconds, _cpu_seconds(subject.cluster) - cpu


def _warm_request(subject: Subject) -> tuple[str, list[tuple[str, Any]]]:
    import torch

    spec = subject.cluster.card(subject.warmer).signature["inputs"][0]
    return subject.warmer, [(spec["name"], torch.zeros([1, *spec["shape"][1:]]))]


def _from_process_start(subject: Subject) -> float:
    """A fresh executor, cold: from its start (as the kernel dates it, 10 ms fine) to the answer."""
    temperatures.make_cold(subject.cluster, subject.name)
    subject.cluster.evict(subject.warmer)
    (before,) = temperatures.executors(subject.cluster)
    from cenote import processes

    started = processes.start_time(before["pid"])
    if started is not None:
        processes.kill(before["pid"], started)
    subject.ask()
    answered = time.clock_gettime(time.CLOCK_BOOTTIME)
    end = time.monotonic() + 30
    while True:
        (now,) = temperatures.executors(subject.cluster)
        begun = processes.start_time(now["pid"]) if now["pid"] not in (0, before["pid"]) else None
        if begun is not None:
            return (answered - begun / os.sysconf("SC_CLK_TCK")) * 1e3
        if time.monotonic() > end:
            raise Error("deadline_exceeded", "the executor was not back 30 s after it was killed; see `cenote logs`")
        time.sleep(0.02)


def _source(model: str, batch: int, length: int | None) -> Source:
    """invalid_argument: neither a preset nor deployed."""
    from cenote import presets

    if model in presets.SEEDED:
        return presets.make(model, batch=batch, length=length)
    if model in presets.names():
        return presets.make(model)
    from cenote.cluster import Cluster
    from cenote.rebuild import example_inputs, rebuild, state_of
    from cenote.sources import Source

    try:
        with Cluster.connect() as cluster:
            manifest = cluster.manifest(model)
            weights = cluster.weights(manifest)
    except Error as error:
        if error.code not in ("not_found", "unavailable"):
            raise
        raise usage(f"'{model}': neither a preset ({', '.join(presets.names())}) nor deployed: {error.message}") from error
    graph = json.loads(manifest["graph"])
    return Source(model, rebuild(graph, state_of(manifest, weights)), example_inputs(manifest["signature"]), graph=graph)


def measure(
    model: str, *, rounds: int, link_gb_per_s: float, batch: int, length: int | None, report: Report,
) -> dict[str, Any]:  # fmt: skip
    """The figures of one model: milliseconds, medians of `rounds`. `model`: a preset, or a name deployed to the running cluster, which is
    deployed to the benchmark's own cluster once more and asked with zeros; `batch` and `length` are for presets."""
    import torch

    from cenote import lifecycle, presets
    from cenote.export import export_model

    torch.set_num_threads(_THREADS)
    warmer = next(name for name in _WARMERS if name != model)
    report(f"{model}: making and exporting")
    source = _source(model, batch, length)
    assert isinstance(source.inputs, tuple)
    exported = export_model(source.module, source.inputs, name=model, sources=source.sources, files=source.files)
    with torch.inference_mode():
        leaves = torch.utils._pytree.tree_leaves(source.module(*source.inputs))
        expected = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
    settings = lifecycle.default_settings_file().with_name("bench.toml")
    overrides = [f"agent.link_gb_per_s={link_gb_per_s}"] if link_gb_per_s else []
    with private_cluster(settings, overrides, name="bench", report=report) as private:
        cluster = private.cluster
        for name in (warmer, model):
            report(f"{name}: deploying")
            if name == model:
                cluster.deploy_exported(exported, name=name)
            else:
                other = presets.make(name)
                cluster.deploy(other.module, other.inputs, name=name)
        inputs = [(spec.name, value) for spec, value in zip(exported.inputs, source.inputs, strict=True)]
        subject = Subject(cluster, model, warmer, inputs, expected)
        result = _measure_requests(subject, rounds, report)
        manifest = cluster.manifest(model)
    report(f"{model}: the bound's parts, each alone")
    size, tensors = manifest["range_bytes"], manifest["tensors"]
    transfer = bare_transfer(size, rounds)
    steps, compute = eager_steps(source, tensors, rounds)
    bound = bound_s(steps, size, transfer, link_gb_per_s, os.cpu_count() or 1)
    with tempfile.TemporaryDirectory(prefix="cenote-weights-") as directory:
        prepared = weight_loads.prepare(source, model, Path(directory))
        loads: dict[str, list[dict[str, Any]]] = {method: [] for method in weight_loads.METHODS}
        for number in range(min(rounds, 5)):
            for method in weight_loads.METHODS:
                report(f"{model}: {method} in a fresh process, {number + 1} of {min(rounds, 5)}")
                loads[method].append(weight_loads.measure(prepared, method, _THREADS))

    def peer(method: str, key: str) -> float:
        return round(statistics.median(load[key] for load in loads[method]) * 1e3, 3)

    return {
        "model": model,
        "cold_ms": result["cold_ms"],
        "bound_ms": round(bound * 1e3, 3),
        "transfer_ms": round(max(transfer.read_s, size / (link_gb_per_s * 1e9) if link_gb_per_s else 0) * 1e3, 3),
        "verify_ms": round(transfer.verify_s * 1e3, 3),
        "compute_ms": round(compute * 1e3, 3),
        "cpu_s": result["cpu_s"],
        "cached_ms": result["cached_ms"],
        "resident_ms": result["resident_ms"],
        "link_gb_per_s": link_gb_per_s,
        "peers_ms": {method: peer(method, "first_s") for method in weight_loads.METHODS},
        "from_process_start_ms": {
            "cenote": result["from_process_start_ms"],
            "torch.load": peer("torch.load", "process_s"),
            "safetensors": peer("safetensors", "process_s"),
        },
    }


def _measure_requests(subject: Subject, rounds: int, report: Report) -> dict[str, float]:
    cluster = subject.cluster
    for name in (subject.warmer, subject.name):
        temperatures.wait_ready(cluster, name)
    subject.ask()
    cold, cpu, resident, cached = [], [], [], []
    for number in range(rounds):
        report(f"{subject.name}: cold and resident requests, {number + 1} of {rounds}")
        milliseconds, seconds = _cold(subject)
        cold.append(milliseconds)
        cpu.append(seconds)
        temperatures.wait_resident(cluster, subject.name)
        subject.ask()
        resident += [subject.ask() for _ in range(3)]
    for number in range(min(rounds, 5)):
        report(f"{subject.name}: cached requests, {number + 1} of {min(rounds, 5)}")
        temperatures.make_cached(cluster, subject.name)
        cluster.ask_flat(*_warm_request(subject))  # As before a cold one: the client's connection to a fresh executor is not the model's.
        cached.append(subject.ask())
        resident += [subject.ask() for _ in range(3)]
    starts = []
    for number in range(min(rounds, 3)):
        report(f"{subject.name}: from process start, {number + 1} of {min(rounds, 3)}")
        starts.append(_from_process_start(subject))
    return {
        "cold_ms": round(statistics.median(cold), 3),
        "cpu_s": round(statistics.median(cpu), 4),
        "cached_ms": round(statistics.median(cached), 3),
        "resident_ms": round(statistics.median(resident), 3),
        "from_process_start_ms": round(statistics.median(starts), 3),
    }


def draw(result: dict[str, Any]) -> None:
    """The same for people."""
    from cenote.show import console, format_ms, table

    def row(label: str, value: float, beside: str) -> list[str]:
        return [label, format_ms(value), beside]

    cold, bound = result["cold_ms"], result["bound_ms"]
    link = f"link paced at {result['link_gb_per_s']:g} GB/s" if result["link_gb_per_s"] else "link not paced (loopback)"
    rows = [
        row("cold", cold, f"{cold / bound:.2f} x its bound of {format_ms(bound)}"),
        row("cached, mapped at assignment", result["cached_ms"], f"{result['cached_ms'] / result['resident_ms']:.2f} x resident"),
        row("resident", result["resident_ms"], f"{result['resident_ms'] / result['compute_ms']:.2f} x PyTorch eager's {format_ms(result['compute_ms'])}"),
        row("bare transfer alone", result["transfer_ms"], link),
        row("bare XXH3-64 alone", result["verify_ms"], ""),
    ]
    for method, value in result["peers_ms"].items():
        rows.append(row(f"{method}, imports excluded", value, f"{value / cold:.1f} x cold, {value / result['cached_ms']:.1f} x cached"))
    start = result["from_process_start_ms"]
    rows.append(row("from process start: cenote, cold", start["cenote"], ""))
    for method in ("torch.load", "safetensors"):
        rows.append(row(f"from process start: {method}", start[method], f"{start[method] / start['cenote']:.1f} x cenote"))
    table([result["model"], "time", ""], rows, right=["time"])
    console().print(f"CPU of all daemons in a cold request: {result['cpu_s']:.3f} s", style="dim")
