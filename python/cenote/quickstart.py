"""The main job on one machine: a cluster, five models, what they answer, where the time goes, and a memory server that dies meanwhile.

    ./AE/quickstart.sh            # or, with a build: python -m cenote.quickstart
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from cenote import processes, temperatures, weight_loads
from cenote.arrays import relative_difference
from cenote.errors import Error
from cenote.private_cluster import PrivateCluster, private_cluster
from cenote.show import console, format_bytes, format_ms, table
from cenote.waterfall import Waterfall, bar, draw

if TYPE_CHECKING:
    import torch

    from cenote.cluster import Cluster
    from cenote.sources import Source

SENTENCES = (
    "A man is playing a guitar on stage.",
    "Someone performs music with a string instrument.",
    "The stock market fell sharply on Monday.",
    "Share prices dropped at the start of the week.",
)
MODELS = ("efficientnet-lite0", "minilm", "resnet152", "bert_base", "gpt2")
_TITLES = {
    "efficientnet-lite0": "EfficientNet-Lite0: what is on these photos? (real weights)",
    "minilm": "MiniLM: which sentences mean the same? (real weights)",
    "resnet152": "ResNet-152 (seeded weights, for size)",
    "bert_base": "BERT-base (seeded weights, for size)",
    "gpt2": "GPT-2 (seeded weights, for size)",
}
# The relative error, of the largest magnitude, up to which two orders of summation may differ.
_AGREEMENT_MAX = 1e-5
_THREADS = 1
_KILL_ROUNDS = 8


@dataclass
class Case:
    """One model of the quick start, and what was seen of it."""

    name: str
    revision: str  # name@digest
    source: Source
    inputs: list[tuple[str, torch.Tensor]]
    expected: torch.Tensor
    deploy_s: float = 0.0
    bytes: int = 0
    error: float = 0.0
    answer: torch.Tensor | None = None
    waterfalls: dict[str, Waterfall] = field(default_factory=dict)
    loads: dict[str, dict[str, Any]] = field(default_factory=dict)


def photos() -> list[Path]:
    """Pictures that come with scikit-image and scikit-learn."""
    import importlib.util

    def folder(package: str, *inside: str) -> Path:
        found = importlib.util.find_spec(package)
        if found is None or not found.submodule_search_locations:
            raise Error("not_found", f"{package} is not installed; run third_party/install.sh")
        return Path(next(iter(found.submodule_search_locations)), *inside)

    skimage, sklearn = folder("skimage", "data"), folder("sklearn", "datasets", "images")
    return [skimage / "chelsea.png", skimage / "coffee.png", skimage / "rocket.jpg", sklearn / "china.jpg"]


def _inputs(name: str, source: Source) -> tuple[torch.Tensor, ...]:
    import json

    import numpy as np
    import torch

    from cenote import preprocess

    if name == "efficientnet-lite0":
        how = json.loads(source.files["preprocess.json"])
        return (torch.from_numpy(np.stack([preprocess.image(path, how) for path in photos()])),)
    if name == "minilm":
        how = json.loads(source.files["preprocess.json"])
        tokens = preprocess.texts(SENTENCES, how, source.files)
        return tuple(torch.from_numpy(tokens[key]) for key in how["inputs"])
    return tuple(source.inputs)


def prepare(name: str, cluster: Cluster) -> Case:
    """Makes the model, asks PyTorch, deploys."""
    import torch

    from cenote import presets
    from cenote.export import export_model

    source = presets.make(name)
    inputs = _inputs(name, source)
    with torch.inference_mode():
        expected = source.module(*inputs)
    begun = time.monotonic()
    model = export_model(source.module, source.inputs, name=name, sources=source.sources, files=source.files)
    deployed = cluster.deploy_exported(model, name=name)
    deploy_s = time.monotonic() - begun
    named = [(spec.name, value) for spec, value in zip(model.inputs, inputs, strict=True)]
    return Case(name, f"{name}@{cluster.card(name).digest}", source, named, expected, deploy_s=deploy_s, bytes=deployed.weight_bytes)


def ask(cluster: Cluster, case: Case, deadline_s: float = 60.0) -> Waterfall:
    """One request. Error (data_loss) if the answer is not PyTorch's."""
    answer = cluster.ask_flat(case.revision, case.inputs, deadline_s=deadline_s)
    (output,) = answer.outputs.values()
    error = relative_difference(output, case.expected)
    if not error <= _AGREEMENT_MAX:
        raise Error("data_loss", f"{case.name}: the answer differs from PyTorch's by {error:.1e} of its largest value")
    case.answer, case.error = output, max(case.error, error)
    return answer.waterfall


def measure(private: PrivateCluster, cases: Sequence[Case], report: Callable[[str], None]) -> None:
    """Cold and resident for each; then fresh executors on the warm cache, and cached for each."""
    cluster = private.cluster
    for case in cases:
        temperatures.wait_ready(cluster, case.name)
    for case in cases:
        report(f"{case.name}: cold and resident requests")
        temperatures.make_cold(cluster, case.name)
        case.waterfalls["cold"] = ask(cluster, case)
        temperatures.wait_resident(cluster, case.name)
        case.waterfalls["resident"] = ask(cluster, case)
    report("restarting the executors: the host's cache stays warm")
    temperatures.restart_executors(cluster)
    for case in cases:
        temperatures.assign(cluster, case.name)
    for case in cases:  # All of them: none is warmed up any more while one is measured.
        temperatures.wait_ready(cluster, case.name)
    for case in cases:
        case.waterfalls["cached"] = ask(cluster, case)
    for case in cases:
        report(f"{case.name}: torch.load and safetensors in fresh processes")
        with tempfile.TemporaryDirectory(prefix="cenote-weights-") as directory:
            prepared = weight_loads.prepare(case.source, case.name, Path(directory), tuple(value for _, value in case.inputs))
            case.loads = {method: weight_loads.measure(prepared, method, _THREADS) for method in ("torch.load", "safetensors")}


# ---- what people see -----------------------------------------------------------------------------------------------------------


def _heading(text: str) -> None:
    console().print()
    console().rule(f"[bold]{text}[/]", align="left", style="dim")


def _show_answer(case: Case) -> None:
    from cenote import preprocess

    assert case.answer is not None
    if case.name == "efficientnet-lite0":
        rows = []
        for path, logits in zip(photos(), case.answer.numpy(), strict=True):
            guesses = preprocess.top(logits, case.source.files, 3)
            first, *others = [(g.label, f"{g.probability:.0%}") for g in guesses]
            rows.append([path.name, ", ".join([f"[bold]{first[0]}[/] {first[1]}", *(f"{label} {share}" for label, share in others)])])
        table(["photo", "it shows"], rows)
    elif case.name == "minilm":
        close = preprocess.similarities(case.answer.numpy())
        rows = [[str(i + 1), text, *(f"[bold]{v:.2f}[/]" if 0.5 < v < 0.999 else f"{v:.2f}" for v in close[i])] for i, text in enumerate(SENTENCES)]
        table(["", "sentence", *(f"~{i + 1}" for i in range(len(SENTENCES)))], rows, right=[f"~{i + 1}" for i in range(len(SENTENCES))])
    else:
        shape = " x ".join(str(d) for d in case.answer.shape)
        first = ", ".join(f"{v:.4f}" for v in case.answer.reshape(-1)[:4].tolist())
        console().print(f"answer: {shape} numbers, the first are {first}")
    console().print(f"agrees with PyTorch on the same input: largest difference {case.error:.1e} of the largest value", style="green")


def show_case(case: Case) -> None:
    _heading(_TITLES[case.name])
    _show_answer(case)
    full = case.waterfalls["cold"].client_us
    for temperature in ("cold", "cached", "resident"):
        fall = case.waterfalls[temperature]
        console().print(f"\n[bold]{temperature}[/]: {format_ms(fall.client_us / 1000)}")
        console().print(draw(fall, full_us=full))
    console().print("\n[bold]weights to first output[/], imports not counted for the others (1 thread):")
    times = {"Cenote cold": full / 1e3, "Cenote cached": case.waterfalls["cached"].client_us / 1e3}
    times |= {method: load["first_s"] * 1e3 for method, load in case.loads.items()}
    longest = max(times.values())
    for label, milliseconds in times.items():
        colour = "green" if label.startswith("Cenote") else "yellow"
        console().print(f"{label:>17} [{colour}]{bar(milliseconds, longest, 40):<40}[/] {format_ms(milliseconds)}")


def kill_memory_server(private: PrivateCluster, case: Case) -> None:
    """Cold requests one after another; during one of them a memory server gets SIGKILL."""
    cluster = private.cluster
    victim = next(m for m in cluster.status()["members"] if m["role"] == "memory")
    started = processes.start_time(victim["pid"])
    assert started is not None
    killed_at = 0.0

    def kill() -> None:
        nonlocal killed_at
        time.sleep(case.waterfalls["cold"].client_us / 4e6)
        killed_at = time.monotonic()
        processes.kill(victim["pid"], started)

    console().print(f"{_KILL_ROUNDS} cold requests to {case.name}; {victim['name']} (pid {victim['pid']}) is killed during the third.")
    slowest = 0.0
    for number in range(1, _KILL_ROUNDS + 1):
        temperatures.make_cold(cluster, case.name)
        killer = threading.Thread(target=kill) if number == 3 else None
        if killer is not None:
            killer.start()
        fall = ask(cluster, case)
        if killer is not None:
            killer.join()  # No deadline: it sleeps for milliseconds and kills.
        slowest = max(slowest, fall.client_us / 1e3)
        mark = f"  <- {victim['name']} was killed" if killer is not None else ""
        console().print(f"{number:>4}  answered rightly after {format_ms(fall.client_us / 1000):>9}{mark}", style="bold" if mark else None)
    back = next((m for m in cluster.status()["members"] if m["name"] == victim["name"]), None)
    console().print(f"All {_KILL_ROUNDS} answered, each as PyTorch answers; the slowest took {format_ms(slowest)}.", style="green")
    if back is not None and back["pid"] != victim["pid"]:
        console().print(f"The supervisor started {victim['name']} again as pid {back['pid']}; the other server had replicas of all it held.")


_NEXT = """\
[bold].venv/bin/cenote up[/]                                a cluster that stays (settings/local.toml)
[bold].venv/bin/cenote deploy gpt2 --preset gpt2[/]         or --hf DIR, --torch torchvision.models:resnet50, --python FILE.py:function
[bold].venv/bin/cenote deploy lite --preset efficientnet-lite0[/]
[bold].venv/bin/cenote infer lite --image PHOTO.jpg[/]      the answer and its waterfall
[bold].venv/bin/cenote status[/]                            who runs, what is ready where; [bold]logs NAME[/], [bold]doctor[/] when something is odd
[bold].venv/bin/cenote down[/]"""


def run(models: Sequence[str]) -> None:
    out = console()
    out.print("[bold]Cenote quick start[/]: two memory servers, an agent with two devices, two routers and a controller on this machine.")
    with out.status("starting the cluster") as status:
        with private_cluster(name="quickstart", report=lambda text: status.update(text)) as private:
            status.stop()
            members = private.cluster.status()["members"]
            out.print(f"Up after {private.started_s:.1f} s: {', '.join(sorted(m['name'] for m in members))}.")
            _heading("Deploy: models into the pool, two replicas of each block")
            cases = []
            for name in models:
                with out.status(f"{name}: exporting and sending"):
                    cases.append(prepare(name, private.cluster))
                case = cases[-1]
                out.print(f"  {name:<20} {format_bytes(case.bytes):>9}  exported and in the pool after {case.deploy_s:.1f} s")
            with out.status("measuring") as measuring:
                measure(private, cases, lambda text: measuring.update(text))
            for case in cases:
                show_case(case)
            _heading("A memory server dies")
            kill_memory_server(private, max(cases, key=lambda c: c.bytes if c.name != "gpt2" else 0))
            _heading("What to try next")
            out.print(_NEXT)


def _on_terminate(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="quickstart", description=__doc__.splitlines()[0], epilog="example: ./AE/quickstart.sh --models minilm,resnet152"
    )
    parser.add_argument("--models", default=",".join(MODELS), help="which of them, with commas between (default: all)")
    chosen = [name for name in parser.parse_args().models.split(",") if name]
    unknown = [name for name in chosen if name not in MODELS]
    if unknown or not chosen:
        parser.error(f"--models: '{unknown[0] if unknown else ''}' is not one of {', '.join(MODELS)}")
    signal.signal(signal.SIGTERM, _on_terminate)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    import torch

    torch.set_num_threads(_THREADS)
    begun = time.monotonic()
    try:
        run(chosen)
    except Error as error:
        notes = "".join(f"\n{note}" for note in getattr(error, "__notes__", []))
        sys.stderr.write(f"error: {error.message}{notes}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted; the cluster was stopped\n")
        return 130
    console().print(f"\nDone in {time.monotonic() - begun:.0f} s; the cluster was stopped and its files removed.", style="dim")
    return 0


if __name__ == "__main__":
    sys.exit(main())
