"""A deployed revision as a PyTorch module again: the same operators in the same order, over tensors of one's own.

    manifest = cluster.manifest("bert")
    module = rebuild(json.loads(manifest["graph"]), state_of(manifest, cluster.weights("bert")))
    module(*example_inputs(manifest["signature"]))

The format of a graph is source/catalog/graph.h; graph_encode.py writes it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from cenote.errors import Error
from cenote.graph_encode import DTYPE_NAMES, INNER_DTYPE_NAMES, PYTHON_OPERATORS

_DTYPES = {name: dtype for dtype, name in INNER_DTYPE_NAMES.items()}
_SERVED_DTYPES = {name: dtype for dtype, name in DTYPE_NAMES.items()}
_FUNCTIONS = {name: function for function, name in PYTHON_OPERATORS.items()}


def state_of(manifest: Mapping[str, Any], weights: bytearray) -> dict[str, torch.Tensor]:
    """The manifest's tensors as views of the revision's range; tied ones share memory."""
    memory = torch.frombuffer(weights, dtype=torch.uint8) if weights else torch.empty(0, dtype=torch.uint8)
    state = {}
    for t in manifest["tensors"]:
        flat = memory[t["offset_bytes"] : t["offset_bytes"] + t["size_bytes"]]
        state[t["name"]] = flat.view(_SERVED_DTYPES[t["dtype"]]).reshape(t["shape"])
    return state


def example_inputs(signature: Mapping[str, Any]) -> tuple[torch.Tensor, ...]:
    """Zeros of the smallest shapes: 1 for every dynamic dimension."""
    return tuple(torch.zeros([1 if d < 0 else d for d in i["shape"]], dtype=_SERVED_DTYPES[i["dtype"]]) for i in signature["inputs"])


def rebuild(graph: Mapping[str, Any], state: Mapping[str, torch.Tensor]) -> torch.fx.GraphModule:
    """The module. Its buffers are named w0, w1, ... in the order of the graph's weights; a tied one takes one name.
    invalid_argument: an operator that this PyTorch does not have."""
    root = torch.nn.Module()
    out = torch.fx.Graph()
    values: dict[str, torch.fx.Node] = {name: out.placeholder(name) for name in graph["inputs"]}
    held: dict[str, str] = {}
    for value, tensor in graph["weights"]:
        if tensor not in held:
            held[tensor] = f"w{len(held)}"
            root.register_buffer(held[tensor], state[tensor])
        values[value] = out.get_attr(held[tensor])
    for node in graph["nodes"]:
        arguments = tuple(_argument(a, values) for a in node["a"])
        keywords = {name: _argument(a, values) for name, a in node.get("k", {}).items()}
        values[node["o"]] = out.call_function(_function(node["t"]), arguments, keywords)
    out.output(tuple(_argument(a, values) for a in graph["outputs"]))
    return torch.fx.GraphModule(root, out).eval()


def _function(target: str) -> Any:
    library, _, name = target.partition("::")
    if library == "py":
        return _FUNCTIONS[name]
    packet, _, overload = name.partition(".")
    try:
        return getattr(getattr(getattr(torch.ops, library), packet), overload or "default")
    except AttributeError as error:
        raise Error("invalid_argument", f"operator '{target}': PyTorch {torch.__version__} does not have it") from error


def _argument(a: Any, values: Mapping[str, torch.fx.Node]) -> Any:
    if isinstance(a, list):
        return [_argument(item, values) for item in a]
    if not isinstance(a, dict):
        return a
    ((kind, value),) = a.items()
    if kind == "n":
        return values[value]
    if kind == "dtype":
        return _DTYPES[value]
    if kind == "device":
        return torch.device("cpu")
    if kind == "layout":
        return torch.strided
    if kind == "memory_format":
        return getattr(torch, value)
    if kind == "f":
        return math.inf if value == "inf" else -math.inf if value == "-inf" else math.nan
    return complex(*(_argument(part, values) for part in value))  # "c"
