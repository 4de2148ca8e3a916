"""`cenote bench eager`: resident models in Cenote's interpreter beside PyTorch eager, without a cluster.

Both run in processes of their own with the same threads and the same OpenMP policy. A round times one run of each, in turns; the figure
is the median over rounds, the ratio the median of the rounds' ratios. Outputs must agree to 1e-5 of the largest value.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cenote.errors import Error

MODELS = ("resnet18", "resnet50", "resnet152", "densenet201", "inception_v3", "bert_base", "gpt2", "vit_b_16")
CHAIN_OPERATORS = 1000
TOLERANCE = 1e-5
_WARM_UP_RUNS = 3


def _chain() -> tuple[Any, tuple[Any, ...]]:
    """CHAIN_OPERATORS operators too small to compute anything: what is left is the cost of calling them."""
    import torch

    class Chain(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.steps = torch.nn.ParameterList([torch.full((8,), 1e-3) for _ in range(CHAIN_OPERATORS // 2)])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for step in self.steps:
                x = torch.relu(x + step)
            return x

    return Chain(), (torch.ones(1, 8),)


def _make(name: str, batch: int, length: int | None) -> tuple[Any, tuple[Any, ...]]:
    if name == "chain":
        return _chain()
    from cenote import presets

    source = presets.make(name, batch=batch, length=length)
    assert isinstance(source.inputs, tuple)
    return source.module, source.inputs


class _Eager:
    """PyTorch eager in a process of its own."""

    def __init__(self, name: str, folder: Path, threads: int, batch: int, length: int | None) -> None:
        specification = json.dumps({"name": name, "threads": threads, "batch": batch, "length": length, "folder": str(folder)})
        environment = {"OMP_WAIT_POLICY": "passive", **os.environ}
        environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[1]), environment.get("PYTHONPATH", "")])
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cenote.bench_eager", specification],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        try:
            self._line()
        except BaseException:
            self.close()
            raise

    def _line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()  # No deadline: our own child; its end ends the line.
        if not line:
            raise Error("internal", f"the PyTorch process ended with exit code {self.process.wait(10)}")
        return line

    def time(self) -> float:
        assert self.process.stdin is not None
        self.process.stdin.write("run\n")
        self.process.stdin.flush()
        return float(self._line())

    def close(self) -> None:
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()  # No deadline: it was killed.


def _eager_main(specification: dict[str, Any]) -> None:
    """Writes the outputs to the folder, says "ready", then times one run for each line it reads."""
    import torch

    from cenote.graph_tool import write_tensors
    from cenote.graph_types import ValueSpec

    torch.set_num_threads(specification["threads"])
    module, inputs = _make(specification["name"], specification["batch"], specification["length"])
    module.eval()
    with torch.inference_mode():
        for _ in range(_WARM_UP_RUNS):
            result = module(*inputs)
        leaves = [t for t in torch.utils._pytree.tree_leaves(result) if isinstance(t, torch.Tensor)]
        specs = [ValueSpec(str(i), "f32", tuple(t.shape)) for i, t in enumerate(leaves)]
        write_tensors(Path(specification["folder"]) / "eager", specs, leaves)
        print("ready", flush=True)
        for _ in sys.stdin:
            begin = time.perf_counter()
            module(*inputs)
            print((time.perf_counter() - begin) * 1e3, flush=True)


def _largest_difference(got: Sequence[Any], want: Sequence[Any]) -> float:
    """Relative to the largest absolute value of each output."""
    if [tuple(t.shape) for t in got] != [tuple(t.shape) for t in want]:
        return float("inf")
    worst = 0.0
    for g, w in zip(got, want, strict=True):
        scale = float(w.abs().max()) or 1.0
        difference = float((g - w).abs().max()) / scale
        worst = max(worst, difference if difference == difference else float("inf"))
    return worst


def measure(name: str, *, rounds: int, threads: int, batch: int = 1, length: int | None = None) -> dict[str, float]:
    """Interleaved pairs of one model. Error("data_loss") if the outputs differ."""
    from cenote.export import export_model
    from cenote.graph_tool import GraphTool, read_tensors

    module, inputs = _make(name, batch, length)
    exported = export_model(module, inputs, name=name)
    del module
    with tempfile.TemporaryDirectory(prefix="cenote-eager-") as folder:
        eager = _Eager(name, Path(folder), threads, batch, length)
        try:
            with GraphTool(exported, folder, threads=threads) as tool:
                tool.set_inputs(inputs)
                tool.time(_WARM_UP_RUNS)
                difference = _largest_difference(tool.outputs(), read_tensors(Path(folder) / "eager"))
                if difference > TOLERANCE:
                    raise Error("data_loss", f"{name}: outputs differ from PyTorch's by {difference:.1e}, at most {TOLERANCE:.0e} is allowed")
                ours, theirs = [], []
                for round_number in range(rounds):
                    # Who goes first changes, so that neither always runs into the other's wake.
                    if round_number % 2:
                        theirs.append(eager.time())
                        ours += tool.time(1)
                    else:
                        ours += tool.time(1)
                        theirs.append(eager.time())
        finally:
            eager.close()
    return {
        "cenote_ms": statistics.median(ours),
        "eager_ms": statistics.median(theirs),
        "ratio": statistics.median(a / b for a, b in zip(ours, theirs, strict=True)),
    }


def bench_eager(
    models: Sequence[str] = MODELS, rounds: int = 15, threads: int = 1, batch: int = 1, length: int | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:  # fmt: skip
    """{"models": {name: {"cenote_ms", "eager_ms", "ratio"}}, "per_op_us"}; `per_op_us` of a chain of 1,000 small operators."""
    if unknown := [m for m in models if m not in MODELS]:
        raise Error("invalid_argument", f"no model '{unknown[0]}': there are {', '.join(MODELS)}")
    if rounds < 3 or threads < 1:
        raise Error("invalid_argument", f"{rounds} rounds, {threads} threads: at least 3 rounds and 1 thread are needed")
    report: dict[str, Any] = {"models": {}}
    for name in models:
        progress(name)
        report["models"][name] = measure(name, rounds=rounds, threads=threads, batch=batch, length=length)
    progress("chain of small operators")
    chain = measure("chain", rounds=max(rounds, 50), threads=1)
    report["per_op_us"] = chain["cenote_ms"] * 1e3 / CHAIN_OPERATORS
    return report


if __name__ == "__main__":
    _eager_main(json.loads(sys.argv[1]))
