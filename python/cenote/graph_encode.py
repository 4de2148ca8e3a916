"""A torch.export graph as the JSON of source/catalog/graph.h.

Bodies of `torch.no_grad()` and of disabled `torch.autocast` are inlined; assertions and range constraints are dropped with what
only they read; every other construct that is not a plain operator call is refused by name.
"""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from cenote.graph_types import ExportRefused
from cenote.operators import refusal

DTYPE_NAMES: dict[torch.dtype, str] = {
    torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16", torch.float64: "f64", torch.int64: "i64",
    torch.int32: "i32", torch.int16: "i16", torch.int8: "i8", torch.uint8: "u8", torch.bool: "bool",
}  # fmt: skip
# Inside a graph only; a tensor that crosses its border must have a dtype of DTYPE_NAMES.
INNER_DTYPE_NAMES = {**DTYPE_NAMES, torch.complex64: "c64", torch.complex128: "c128"}

PYTHON_OPERATORS: dict[Any, str] = {
    operator.getitem: "getitem", operator.add: "add", operator.sub: "sub", operator.mul: "mul",
    operator.floordiv: "floordiv", operator.truediv: "truediv", operator.mod: "mod", operator.pow: "pow",
    operator.neg: "neg", operator.eq: "eq", operator.ne: "ne", operator.lt: "lt", operator.le: "le",
    operator.gt: "gt", operator.ge: "ge", operator.and_: "and", operator.or_: "or",
    math.ceil: "ceil", math.floor: "floor", math.trunc: "trunc", math.sqrt: "sqrt", round: "round",
    torch.sym_not: "not", torch.sym_max: "max", torch.sym_min: "min", torch.sym_int: "int",
    torch.sym_float: "float", torch.sym_ite: "ite", torch.sym_sum: "sum",
}  # fmt: skip
if hasattr(torch, "_sym_sqrt"):
    PYTHON_OPERATORS[torch._sym_sqrt] = "sqrt"

# Checks of facts that export proved or that operators check again.
_DROPPED = {
    "aten::_assert_tensor_metadata", "aten::_assert_scalar", "aten::_assert_async", "aten::_functional_assert_async",
    "aten::_functional_assert_scalar", "aten::_make_dep_token", "aten::sym_constrain_range",
    "aten::sym_constrain_range_for_size", "aten::_functional_sym_constrain_range",
    "aten::_functional_sym_constrain_range_for_size",
}  # fmt: skip
# Operators that may return their input itself although their schema does not say so.
_MAY_RETURN_INPUT = {
    "aten::dropout", "aten::feature_dropout", "aten::alpha_dropout", "aten::feature_alpha_dropout", "aten::type_as",
    "aten::pad", "aten::broadcast_tensors", "aten::atleast_1d", "aten::atleast_2d", "aten::atleast_3d",
    "aten::meshgrid", "aten::rrelu", "aten::einsum", "aten::cpu", "aten::lift", "aten::conj_physical", "aten::repeat",
}  # fmt: skip

# Operators that write running statistics while training, which their schema does not say: (flag, arguments written).
_HIDDEN_WRITES = {
    "aten::batch_norm": (5, (3, 4)), "aten::instance_norm": (5, (3, 4)), "aten::native_batch_norm": (5, (3, 4)),
}  # fmt: skip
_PURE_NUMBERS = {"aten::sym_size", "aten::sym_numel", "aten::sym_stride", "aten::sym_storage_offset"}


def flat_bytes(tensor: torch.Tensor) -> np.ndarray:
    """A tensor's elements, row-major, as bytes: a view where the tensor is dense already."""
    if not tensor.numel():
        return np.empty(0, np.uint8)
    dense = tensor.detach().contiguous()
    # A dimension of one element may have any stride; the memory is dense all the same.
    return dense.as_strided((dense.numel(),), (1,)).view(torch.uint8).numpy()


def _drops_at_random(op: torch._ops.OpOverload, node: torch.fx.Node) -> bool:
    given = {a.name: a.default_value for a in op._schema.arguments if a.has_default_value()}
    given |= dict(zip((a.name for a in op._schema.arguments), node.args, strict=False)) | dict(node.kwargs)
    share = given.get("dropout_p", given.get("dropout", given.get("p") if "dropout" in op._schema.name else None))
    return isinstance(share, float) and share > 0 and given.get("train", True) is not False


@dataclass
class Value:
    """A result inside the graph being encoded: its name, and the weights and inputs whose memory it may share."""

    name: str
    bases: frozenset[str] = frozenset()


@dataclass
class Node:
    name: str
    target: str
    args: list[Any]
    kwargs: dict[str, Any]
    stack: list[str]  # Module paths, outermost first.

    def references(self) -> list[str]:
        found: list[str] = []
        _collect(self.args, found)
        _collect(list(self.kwargs.values()), found)
        return found

    def as_json(self) -> dict[str, Any]:
        out: dict[str, Any] = {"o": self.name, "t": self.target, "a": self.args}
        if self.kwargs:
            out["k"] = self.kwargs
        return out


def _collect(item: Any, found: list[str]) -> None:
    if isinstance(item, list):
        for i in item:
            _collect(i, found)
    elif isinstance(item, dict) and "n" in item:
        found.append(item["n"])


@dataclass
class Encoded:
    nodes: list[Node] = field(default_factory=list)
    written: set[str] = field(default_factory=set)  # Placeholders whose memory some node writes.
    outputs: list[Any] = field(default_factory=list)  # Encoded arguments of the graph's output.


def base_name(target: str) -> str:
    return target.partition(".")[0]


def encode(graph_module: torch.fx.GraphModule) -> Encoded:
    """Placeholders keep their names; ExportRefused names the first thing that cannot be served."""
    encoder = _Encoder()
    env = {
        n: Value(n.name, frozenset([n.name])) for n in graph_module.graph.nodes if n.op == "placeholder"
    }
    result = encoder.body(graph_module, env, "")
    encoder.out.outputs = list(result)
    _drop_unread_numbers(encoder.out)
    return encoder.out


def _drop_unread_numbers(encoded: Encoded) -> None:
    """Sizes and comparisons that only a dropped assertion read."""
    read: set[str] = set()
    _collect(encoded.outputs, read_list := [])
    read.update(read_list)
    kept: list[Node] = []
    for node in reversed(encoded.nodes):
        pure = node.target.startswith("py::") or base_name(node.target) in _PURE_NUMBERS
        if pure and node.name not in read:
            continue
        read.update(node.references())
        kept.append(node)
    encoded.nodes = kept[::-1]


class _Encoder:
    def __init__(self) -> None:
        self.out = Encoded()
        self.names: set[str] = set()

    def body(self, module: torch.fx.GraphModule, env: dict[torch.fx.Node, Any], prefix: str) -> list[Any]:
        """Encodes the calls of one graph; returns its outputs, encoded."""
        for node in module.graph.nodes:
            if node.op == "placeholder":
                if not prefix:
                    self.names.add(node.name)
            elif node.op == "get_attr":
                env[node] = _attribute(module, node.target)
            elif node.op == "call_function":
                self.call(node, env, prefix)
            elif node.op == "output":
                outputs = node.args[0]
                return [self.argument(a, env, node) for a in (outputs if isinstance(outputs, (tuple, list)) else (outputs,))]
            else:
                raise ExportRefused(f"node {node.name} is a '{node.op}' of '{node.target}': only operator calls can be served")
        raise ExportRefused("the graph has no output")

    def call(self, node: torch.fx.Node, env: dict[torch.fx.Node, Any], prefix: str) -> None:
        target = node.target
        if isinstance(target, torch._ops.HigherOrderOperator):
            self.inline(node, env, prefix)
            return
        if target is operator.getitem and isinstance(env.get(node.args[0]), list):
            env[node] = env[node.args[0]][node.args[1]]  # A result of an inlined body.
            return
        name = self.unique(prefix + node.name)
        if isinstance(target, torch._ops.OpOverload):
            self.operator(node, target, name, env)
            return
        if target not in PYTHON_OPERATORS:
            where = f"{getattr(target, '__module__', '')}.{getattr(target, '__name__', target)}"
            raise ExportRefused(f"operator '{where}' (node {name}): a Python function that cannot be served")
        args = [self.argument(a, env, node) for a in node.args]
        if node.kwargs:
            raise ExportRefused(f"node {name}: keyword arguments of {PYTHON_OPERATORS[target]}")
        bases = self.bases_of(node.args[0], env) if target is operator.getitem else frozenset()
        self.emit(Node(name, "py::" + PYTHON_OPERATORS[target], args, {}, _stack(node)))
        env[node] = Value(name, bases)

    def operator(self, node: torch.fx.Node, op: torch._ops.OpOverload, name: str, env: dict[torch.fx.Node, Any]) -> None:
        schema = op._schema
        target = schema.name + (f".{schema.overload_name}" if schema.overload_name else "")
        if base_name(target) in _DROPPED:
            env[node] = Value(name)
            return
        if why := refusal(target, name):
            raise ExportRefused(why)
        if _drops_at_random(op, node):
            raise ExportRefused(
                f"operator '{target}' (node {name}): drops values at random, so that no two answers agree; deploy the module in evaluation "
                "mode (`module.eval()`), and pass `self.training` where it calls dropout itself"
            )
        args = [self.argument(a, env, node) for a in node.args]
        kwargs = {k: self.argument(v, env, node) for k, v in node.kwargs.items()}
        self.emit(Node(name, target, args, kwargs, _stack(node)))
        bases: set[str] = set()
        may_alias = base_name(target) in _MAY_RETURN_INPUT
        given = dict(zip((a.name for a in schema.arguments), node.args, strict=False)) | dict(node.kwargs)
        for argument in schema.arguments:
            if argument.name not in given or (argument.alias_info is None and not may_alias):
                continue
            shared = self.bases_of(given[argument.name], env)
            if argument.alias_info is not None and argument.alias_info.is_write:
                self.out.written |= shared
            if may_alias or any(_aliases(argument.alias_info, r.alias_info) for r in schema.returns):
                bases |= shared
        flag, positions = _HIDDEN_WRITES.get(base_name(target), (0, ()))
        if positions and node.args[flag] is not False:
            for position in positions:
                self.out.written |= self.bases_of(node.args[position], env)
        env[node] = Value(name, frozenset(bases))

    def inline(self, node: torch.fx.Node, env: dict[torch.fx.Node, Any], prefix: str) -> None:
        """torch.no_grad() and disabled autocast change nothing here: their bodies become part of the graph."""
        name = node.target.name() if callable(getattr(node.target, "name", None)) else str(node.target)
        if name == "wrap_with_set_grad_enabled":
            submodule, operands = node.args[1], node.args[2:]
        elif name == "wrap_with_autocast" and node.args[2] is False:
            submodule, operands = node.args[4], node.args[5:]
        elif name == "wrap_with_autocast":
            raise ExportRefused(
                f"operator '{name}' (node {node.name}): torch.autocast inside the model; convert the module (module.to(dtype)) instead"
            )
        else:
            raise ExportRefused(
                f"operator '{name}' (node {node.name}): control flow and higher-order operators cannot be served; "
                "rewrite the branch with torch.where, or the loop unrolled"
            )
        body = env[submodule]
        if not isinstance(body, torch.fx.GraphModule):
            raise ExportRefused(f"operator '{name}' (node {node.name}): its body is not a graph")
        inner: dict[torch.fx.Node, Any] = {}
        placeholders = [n for n in body.graph.nodes if n.op == "placeholder"]
        for placeholder, operand in zip(placeholders, operands, strict=True):
            inner[placeholder] = env[operand] if isinstance(operand, torch.fx.Node) else operand
        outputs = self.body(body, inner, f"{prefix}{node.name}_")
        bases = {n.name: n.bases for n in inner.values() if isinstance(n, Value)}
        env[node] = [Value(o["n"], bases.get(o["n"], frozenset())) if isinstance(o, dict) and "n" in o else o for o in outputs]

    def emit(self, node: Node) -> None:
        self.out.nodes.append(node)

    def unique(self, name: str) -> str:
        candidate, i = name, 1
        while candidate in self.names:
            candidate, i = f"{name}_{i}", i + 1
        self.names.add(candidate)
        return candidate

    def bases_of(self, argument: Any, env: dict[torch.fx.Node, Any]) -> frozenset[str]:
        if isinstance(argument, torch.fx.Node):
            value = env[argument]
            return value.bases if isinstance(value, Value) else frozenset()
        if isinstance(argument, (list, tuple)):
            return frozenset().union(*(self.bases_of(a, env) for a in argument))
        return frozenset()

    def argument(self, a: Any, env: dict[torch.fx.Node, Any], node: torch.fx.Node) -> Any:
        """Values are tagged; types come from the operator's schema on the other side."""
        if isinstance(a, torch.fx.Node):
            value = env[a]
            if isinstance(value, Value):
                return {"n": value.name}
            return value if not isinstance(value, list) else [self._value(v) for v in value]
        if a is None or isinstance(a, (bool, str)):
            return a
        if isinstance(a, int):
            if not -(2**63) <= a < 2**63:
                raise ExportRefused(f"node {node.name}: the number {a} does not fit 64 bits")
            return a
        if isinstance(a, float):
            return a if math.isfinite(a) else {"f": str(a)}
        if isinstance(a, complex):
            return {"c": [self.argument(a.real, env, node), self.argument(a.imag, env, node)]}
        if isinstance(a, (list, tuple)):
            return [self.argument(x, env, node) for x in a]
        if isinstance(a, torch.dtype):
            if a not in INNER_DTYPE_NAMES:
                raise ExportRefused(f"node {node.name}: dtype {a} cannot be served")
            return {"dtype": INNER_DTYPE_NAMES[a]}
        if isinstance(a, torch.device):
            return {"device": a.type}  # Where it runs is the executor's choice.
        if isinstance(a, torch.layout):
            if a is not torch.strided:
                raise ExportRefused(f"node {node.name}: layout {a}: only dense tensors can be served")
            return {"layout": "strided"}
        if isinstance(a, torch.memory_format):
            return {"memory_format": str(a).removeprefix("torch.")}
        raise ExportRefused(f"node {node.name}: an argument of type {type(a).__name__} cannot be served")

    @staticmethod
    def _value(v: Any) -> Any:
        return {"n": v.name} if isinstance(v, Value) else v


def _aliases(argument: Any, result: Any) -> bool:
    return argument is not None and result is not None and bool(set(argument.before_set) & set(result.before_set))


def _attribute(module: torch.nn.Module, path: str) -> Any:
    value: Any = module
    for part in path.split("."):
        value = getattr(value, part)
    if isinstance(value, torch.Tensor):
        raise ExportRefused(f"the graph holds the tensor '{path}' as an attribute; register it as a buffer")
    return value


def _stack(node: torch.fx.Node) -> list[str]:
    return [path for path, _ in (node.meta.get("nn_module_stack") or {}).values()]
