"""What an exported model consists of. Free of torch, so that layout and upload need not import it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

TensorKind = Literal["parameter", "buffer", "constant"]

# Names of message/tensor.h.
DTYPE_BYTES = {"f32": 4, "f16": 2, "bf16": 2, "f64": 8, "i64": 8, "i32": 4, "i16": 2, "i8": 1, "u8": 1, "bool": 1}


class ExportRefused(Exception):
    """The model cannot be served as it is; the message says which part, why, and what would help."""


@dataclass(frozen=True)
class FileRange:
    """Bytes of a file, unchanged: where a tensor lies in a safetensors file."""

    path: str
    offset_bytes: int
    size_bytes: int


@dataclass
class ExportedTensor:
    name: str
    kind: TensorKind
    dtype: str
    shape: tuple[int, ...]
    layer: str  # Innermost module that owns parameters, at the tensor's first use: "layer1.0.conv1".
    size_bytes: int
    read: Callable[[], np.ndarray]  # The bytes, flat uint8, row-major, little-endian; made when asked for.
    gather_only: bool = False
    mutated: bool = False
    tied_to: str | None = None  # Name of an earlier tensor with the same bytes in the same storage.
    source: FileRange | None = None  # Where the same bytes lie on disk.

    def data(self) -> np.ndarray:
        return self.read()


@dataclass
class ValueSpec:
    name: str
    dtype: str
    shape: tuple[int, ...]  # -1: the dynamic batch.

    def as_json(self) -> dict[str, Any]:
        return {"name": self.name, "dtype": self.dtype, "shape": list(self.shape)}


@dataclass
class ExportedModel:
    name: str
    graph: str  # JSON, source/catalog/graph.h.
    tensors: list[ExportedTensor]  # In order of first use, gather-only tables last.
    inputs: list[ValueSpec]
    outputs: list[ValueSpec]
    inputs_tree: str  # JSON, pytree.py.
    outputs_tree: str
    dynamic_batch: bool
    warnings: list[str] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)  # Tokenizer, labels, preprocessing.
    unused: list[str] = field(default_factory=list)  # Parameters and buffers the graph never reads; not exported.

    @property
    def weight_bytes(self) -> int:
        return sum(t.size_bytes for t in self.tensors if t.tied_to is None)

    def signature_json(self) -> dict[str, Any]:
        return {
            "inputs": [v.as_json() for v in self.inputs],
            "outputs": [v.as_json() for v in self.outputs],
            "inputs_tree": self.inputs_tree,
            "outputs_tree": self.outputs_tree,
        }
