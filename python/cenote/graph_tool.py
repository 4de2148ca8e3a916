"""One exported model in a process of its own, without a cluster: the program cenote-graph (source/execute/torch/graph_tool.cc).

    with tempfile.TemporaryDirectory() as folder, GraphTool(exported, folder) as tool:
        outputs = tool.run([array, ...])
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from cenote.errors import Error
from cenote.graph_encode import DTYPE_NAMES, flat_bytes
from cenote.graph_types import ExportedModel, ValueSpec

_ALIGN_BYTES = 512
_TORCH_DTYPES = {name: dtype for dtype, name in DTYPE_NAMES.items()}


def program() -> Path:
    from cenote import native

    return native.program("cenote-graph")


def write_folder(model: ExportedModel, folder: Path) -> None:
    """model.json, graph.json and weights.bin of source/execute/torch/graph_folder.h."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors, offsets, end = [], {}, 0
    with (folder / "weights.bin").open("wb") as weights:
        for t in model.tensors:
            if t.tied_to is None:
                weights.write(b"\0" * (end - weights.tell()))
                weights.write(t.data().tobytes())
                offsets[t.name] = end
                end = -(-(end + t.size_bytes) // _ALIGN_BYTES) * _ALIGN_BYTES
            offset = offsets[t.tied_to or t.name]
            tensors.append({
                "name": t.name, "kind": t.kind, "dtype": t.dtype, "shape": list(t.shape), "offset": offset,
                "size": t.size_bytes, "gather_only": t.gather_only, "mutated": t.mutated,
            })  # fmt: skip
        weights.write(b"\0" * (end - weights.tell()))
    description = {"tensors": tensors, "range_bytes": end, "signature": model.signature_json()}
    (folder / "model.json").write_text(json.dumps(description))
    (folder / "graph.json").write_text(model.graph)


def write_tensors(stem: Path, specs: Sequence[ValueSpec], values: Sequence[Any]) -> None:
    tensors = [v if isinstance(v, torch.Tensor) else torch.as_tensor(v) for v in values]
    entries = [
        {"name": s.name, "dtype": DTYPE_NAMES[t.dtype], "shape": list(t.shape)} for s, t in zip(specs, tensors, strict=True)
    ]
    stem.with_suffix(".json").write_text(json.dumps({"tensors": entries}))
    with stem.with_suffix(".bin").open("wb") as file:
        for t in tensors:
            file.write(flat_bytes(t).tobytes())


def read_tensors(stem: Path) -> list[torch.Tensor]:
    data, offset, out = stem.with_suffix(".bin").read_bytes(), 0, []
    for entry in json.loads(stem.with_suffix(".json").read_text())["tensors"]:
        dtype = _TORCH_DTYPES[entry["dtype"]]
        count = torch.Size(entry["shape"]).numel()
        size = count * dtype.itemsize
        raw = torch.frombuffer(bytearray(data[offset : offset + size]), dtype=torch.uint8) if size else torch.empty(0, dtype=torch.uint8)
        out.append(raw.view(dtype).reshape(entry["shape"]))
        offset += size
    return out


class GraphTool:
    """A running `cenote-graph run`. Error carries the interpreter's message and code."""

    def __init__(self, model: ExportedModel, folder: Path | str, *, threads: int = 1, binary: Path | None = None) -> None:
        self.model = model
        self.folder = Path(folder)
        write_folder(model, self.folder)
        command = [str(binary or program()), "run", str(self.folder), "--threads", str(threads)]
        environment = {"OMP_WAIT_POLICY": "passive", **os.environ}
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        try:
            self._answer()
        except BaseException:
            self.close()
            raise

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()  # No deadline: our own child; its end ends the line.
        if not line:
            raise Error("internal", f"cenote-graph ended with exit code {self.process.wait(10)}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise Error(answer["code"].lower(), answer["error"])
        return answer

    def command(self, line: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self._answer()

    def set_inputs(self, values: Sequence[Any]) -> None:
        write_tensors(self.folder / "inputs", self.model.inputs, values)
        self.command(f"inputs {self.folder / 'inputs'}")

    def time(self, runs: int) -> list[float]:
        """Milliseconds of each run."""
        return self.command(f"run {runs}")["ms"]

    def outputs(self) -> list[torch.Tensor]:
        self.command(f"outputs {self.folder / 'outputs'}")
        return read_tensors(self.folder / "outputs")

    def run(self, values: Sequence[Any]) -> list[torch.Tensor]:
        self.set_inputs(values)
        self.time(1)
        return self.outputs()

    def close(self) -> None:
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()  # No deadline: it was killed.

    def __enter__(self) -> GraphTool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
