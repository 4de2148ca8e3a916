"""Modules to what a revision consists of: graph, tensors in order of first use, signature.

    exported = export_model(module, (example,), name="mine")

torch.export's training IR is taken as it is (no decompositions). The first dimension of every input that shares the first input's is
the batch, if the exported graph gives the module's own outputs at batch 1 as well; else the shapes are fixed and a warning says so.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import json
import logging
import math
import warnings as python_warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.export import Dim, ExportedProgram, ShapesCollection
from torch.export.graph_signature import ConstantArgument, InputKind, OutputKind

from cenote import graph_encode, pytree
from cenote.graph_encode import DTYPE_NAMES, Encoded
from cenote.graph_types import ExportedModel, ExportedTensor, ExportRefused, FileRange, ValueSpec

__all__ = ["ExportRefused", "ExportedModel", "export_model"]

_KINDS = {
    InputKind.PARAMETER: "parameter",
    InputKind.BUFFER: "buffer",
    InputKind.CONSTANT_TENSOR: "constant",
}
# Batch of the example while exporting: a prime that few models have as another dimension.
_TRACE_BATCH = 5


def export_model(
    module: torch.nn.Module,
    args: tuple[Any, ...] | Mapping[str, Any] | torch.Tensor,
    kwargs: Mapping[str, Any] | None = None,
    *,
    dynamic_batch: bool = True,
    name: str | None = None,
    sources: Mapping[str, FileRange] | None = None,
    files: Mapping[str, bytes] | None = None,
) -> ExportedModel:
    """Exports `module` as called with `args` (a tuple; a mapping is taken as keyword arguments) and `kwargs`.

    The module is put in eval mode and left there. `sources` says where tensors' bytes already lie on disk. ExportRefused names what
    cannot be served.
    """
    if isinstance(args, torch.Tensor):
        args = (args,)
    if isinstance(args, Mapping):
        args, kwargs = (), {**args, **(kwargs or {})}
    args, kwargs = tuple(args), dict(kwargs or {})
    module.eval()
    tree, leaves = _call_leaves(module, args, kwargs)
    notes: list[str] = []
    program = _trace(module, args, kwargs, leaves, dynamic_batch, notes)
    return _describe(module, program, tree, leaves, name or type(module).__name__.lower(), sources or {}, files or {}, notes)


# ---- inputs ------------------------------------------------------------------------------------------------------------------


def _call_leaves(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[pytree.Tree, list[tuple[str, torch.Tensor]]]:
    parameters = [
        p.name for p in inspect.signature(module.forward).parameters.values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]  # fmt: skip
    try:
        tree, leaves = pytree.flatten_call(args, kwargs, parameters)
    except pytree.TreeError as error:
        raise ExportRefused(f"inputs: {error}") from None
    for leaf_name, leaf in leaves:
        if not isinstance(leaf, torch.Tensor):
            raise ExportRefused(f"input '{leaf_name}' is a {type(leaf).__name__}: use tensors, numbers, tuples, lists and dicts of them")
        if leaf.dtype not in DTYPE_NAMES:
            raise ExportRefused(f"input '{leaf_name}' has dtype {leaf.dtype}: use one of {', '.join(DTYPE_NAMES.values())}")
        if leaf.layout is not torch.strided or leaf.device.type != "cpu":
            raise ExportRefused(f"input '{leaf_name}' must be a dense tensor on the CPU, not {leaf.layout} on {leaf.device}")
    seen = torch.utils._pytree.tree_leaves((args, kwargs))
    if [id(t) for t in seen if isinstance(t, torch.Tensor)] != [id(t) for _, t in leaves]:
        raise ExportRefused("inputs: use tensors, numbers, tuples, lists and dicts; another container was found")
    return tree, leaves


def _batch_inputs(leaves: list[tuple[str, torch.Tensor]]) -> list[torch.Tensor]:
    """The tensors whose first dimension equals the first input's."""
    if not leaves or leaves[0][1].dim() == 0:
        return []
    batch = leaves[0][1].shape[0]
    return [t for _, t in leaves if t.dim() > 0 and t.shape[0] == batch] if batch > 0 else []


def _map_tensors(value: Any, change: dict[int, torch.Tensor]) -> Any:
    return torch.utils._pytree.tree_map(lambda t: change.get(id(t), t) if isinstance(t, torch.Tensor) else t, value)


# ---- tracing -----------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """torch.export logs and prints pages on its way to an exception that says the same."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)


def _export(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], shapes: Any) -> ExportedProgram:
    with torch.no_grad(), python_warnings.catch_warnings(), _quiet(), _unchanged(module, _attributes(module)):
        python_warnings.simplefilter("ignore")
        return torch.export.export(module, args, kwargs, dynamic_shapes=shapes, strict=False)


def _trace(
    module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], leaves: list[tuple[str, torch.Tensor]],
    dynamic_batch: bool, notes: list[str],
) -> ExportedProgram:  # fmt: skip
    batched = _batch_inputs(leaves) if dynamic_batch else []
    if dynamic_batch and not batched:
        notes.append("no input has a batch dimension: shapes are fixed")
    if batched:
        program, why = _trace_dynamic(module, args, kwargs, batched)
        if program is not None:
            return program
        notes.append(f"the batch is fixed at {batched[0].shape[0]}: {why}")
    try:
        return _export(module, args, kwargs, None)
    except (Exception, SystemExit) as error:  # torch.export raises many types; all mean the same here
        raise ExportRefused(f"torch.export refuses the module: {_first_lines(error)}") from error


def _trace_dynamic(
    module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], batched: list[torch.Tensor]
) -> tuple[ExportedProgram | None, str]:
    batch = batched[0].shape[0]
    count = batch if batch > 1 else _TRACE_BATCH
    wide = {id(t): t if batch > 1 else t.expand(count, *t.shape[1:]).clone() for t in batched}
    one = {id(t): t[:1].clone() for t in batched}
    wide_args, wide_kwargs = _map_tensors(args, wide), _map_tensors(kwargs, wide)
    try:
        shapes = ShapesCollection()
        for tensor in wide.values():
            shapes[tensor] = {0: Dim.AUTO}
        program = _export(module, wide_args, wide_kwargs, shapes.dynamic_shapes(module, wide_args, wide_kwargs))
    except (Exception, SystemExit) as error:
        return None, f"torch.export refuses a dynamic one ({_first_lines(error, 1)})"
    for leaf, value in zip(torch.utils._pytree.tree_leaves((wide_args, wide_kwargs)), _user_values(program), strict=True):
        if not isinstance(leaf, torch.Tensor) or not any(leaf is w for w in wide.values()):
            continue
        if not isinstance(value.shape[0], torch.SymInt):
            return None, "the module treats one size apart or ties the first dimension to another"
        allowed = program.range_constraints.get(value.shape[0].node.expr)
        if allowed is not None and (allowed.lower > 2 or "oo" not in str(allowed.upper)):
            return None, f"the module takes only sizes from {allowed.lower} to {allowed.upper}"
    for changed in (one,) if batch == 1 else (one, wide):
        why = _differs(module, program, _map_tensors(args, changed), _map_tensors(kwargs, changed))
        if why:
            return None, why
    return program, ""


def _user_values(program: ExportedProgram) -> list[Any]:
    by_name = {n.name: n.meta.get("val") for n in program.graph.nodes if n.op == "placeholder"}
    specs = [s for s in program.graph_signature.input_specs if s.kind == InputKind.USER_INPUT]
    return [by_name.get(s.arg.name) for s in specs]


def _differs(module: torch.nn.Module, program: ExportedProgram, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Why the graph is not the module at these inputs; empty if it is. Guards of export are not asked: executors have none."""
    try:
        written = graph_encode.encode(program.graph_module).written
    except ExportRefused:
        return ""  # Refused by name later.
    state = {**program.state_dict, **program.constants}
    flat = iter(torch.utils._pytree.tree_leaves((args, kwargs)))
    values = []
    for spec in program.graph_signature.input_specs:
        if spec.kind == InputKind.USER_INPUT:
            leaf = next(flat)
            values.append(leaf.clone() if isinstance(leaf, torch.Tensor) else leaf)
        elif spec.kind in _KINDS:
            tensor = state[spec.target].detach()
            values.append(tensor.clone() if spec.arg.name in written else tensor)
        else:
            return ""  # Refused by name later.
    batch = next((v.shape[0] for v in torch.utils._pytree.tree_leaves((args, kwargs)) if isinstance(v, torch.Tensor) and v.dim()), 0)
    kept = [state[s.target] for s in program.graph_signature.input_specs if s.kind in _KINDS and s.arg.name in written]
    try:
        with torch.no_grad(), _unchanged(module, kept):
            want = torch.utils._pytree.tree_leaves(_map_clone(module(*_map_clone(args), **_map_clone(kwargs))))
            got = torch.fx.Interpreter(program.graph_module).run(*values, enable_io_processing=False)
    except (Exception, SystemExit) as error:
        return f"at batch {batch} it fails ({_first_lines(error, 1)})"
    for w, g in zip(want, got, strict=True):
        if isinstance(w, torch.Tensor) and isinstance(g, torch.Tensor):
            if w.shape != g.shape or not torch.allclose(w, g, rtol=1e-3, atol=1e-4, equal_nan=True):
                return f"at batch {batch} its outputs differ from the module's"
    return ""


def _attributes(module: torch.nn.Module) -> list[torch.Tensor]:
    """Tensors that are plain attributes: torch.export really writes these where the module does."""
    state = ("_parameters", "_buffers", "_modules")
    held = [value for sub in module.modules() for name, value in vars(sub).items() if name not in state]
    return [t for t in torch.utils._pytree.tree_leaves(held) if type(t) is torch.Tensor and t.layout is torch.strided]


def _writable(tensor: torch.Tensor) -> bool:
    """Not where one element stands for several, as expand() makes them: nobody can write that in place."""
    return all(stride or size <= 1 for size, stride in zip(tensor.shape, tensor.stride(), strict=True))


@contextlib.contextmanager
def _unchanged(module: torch.nn.Module, written: Sequence[torch.Tensor]) -> Iterator[None]:
    """What a call writes is as it was afterwards: buffers, and `written`."""
    before = [(t.detach(), t.detach().clone()) for t in written if _writable(t)]
    buffers = {n: b.detach().clone() for n, b in module.named_buffers() if b.layout is torch.strided and _writable(b)}
    try:
        yield
    finally:
        with torch.no_grad():
            for n, b in module.named_buffers():
                if n in buffers and _writable(b):
                    b.copy_(buffers[n])
            for tensor, value in before:
                tensor.copy_(value)


def _map_clone(value: Any) -> Any:
    return torch.utils._pytree.tree_map(lambda t: t.clone() if isinstance(t, torch.Tensor) else t, value)


def _first_lines(error: BaseException, lines: int = 3) -> str:
    text = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return " ".join(text[:lines])[:400]


# ---- describing --------------------------------------------------------------------------------------------------------------


def _describe(
    module: torch.nn.Module, program: ExportedProgram, tree: pytree.Tree, leaves: list[tuple[str, torch.Tensor]], name: str,
    sources: Mapping[str, FileRange], files: Mapping[str, bytes], notes: list[str],
) -> ExportedModel:  # fmt: skip
    signature = program.graph_signature
    for spec in signature.input_specs:
        if spec.kind not in _KINDS and spec.kind != InputKind.USER_INPUT:
            raise ExportRefused(f"input '{spec.arg.name}' of kind {spec.kind.name.lower()} cannot be served: only tensors and numbers can")
    for spec in signature.output_specs:
        if spec.kind != OutputKind.USER_OUTPUT:
            raise ExportRefused(f"output of kind {spec.kind.name.lower()} cannot be served")
    encoded = graph_encode.encode(program.graph_module)
    values = {n.name: n.meta.get("val") for n in program.graph.nodes}

    placeholders = [
        s.arg.name for s in signature.input_specs if s.kind == InputKind.USER_INPUT and not isinstance(s.arg, ConstantArgument)
    ]
    if len(placeholders) != len(leaves):
        raise ExportRefused(f"torch.export sees {len(placeholders)} tensor inputs, the call has {len(leaves)}")
    dynamic = False
    inputs = []
    for (leaf_name, leaf), placeholder in zip(leaves, placeholders, strict=True):
        shape = tuple(-1 if isinstance(d, torch.SymInt) else int(d) for d in values[placeholder].shape)
        dynamic = dynamic or -1 in shape
        inputs.append(ValueSpec(leaf_name, DTYPE_NAMES[leaf.dtype], shape))

    weights, tensors, unused, views = _tensors(module, program, encoded, sources)
    outputs, references, output_tree = _outputs(program, encoded, values)
    graph = {
        "format": "cenote.graph",
        "version": 1,
        "inputs": placeholders,
        "weights": weights,
        "nodes": [n.as_json() for n in views + encoded.nodes],
        "outputs": references,
    }
    return ExportedModel(
        name=name,
        graph=json.dumps(graph, separators=(",", ":"), allow_nan=False),
        tensors=tensors,
        inputs=inputs,
        outputs=outputs,
        inputs_tree=pytree.dumps(tree),
        outputs_tree=pytree.dumps(output_tree),
        dynamic_batch=dynamic,
        warnings=notes,
        files=dict(files),
        unused=unused,
    )


def _outputs(program: ExportedProgram, encoded: Encoded, values: dict[str, Any]) -> tuple[list[ValueSpec], list[Any], pytree.Tree]:
    output_node = next(n for n in program.graph.nodes if n.op == "output")
    metas = [a.meta.get("val") if isinstance(a, torch.fx.Node) else a for a in output_node.args[0]]
    try:
        structure = torch.utils._pytree.tree_unflatten(list(range(len(metas))), program.call_spec.out_spec)
        skeleton = _plain(structure, "output")
        tree, positions = pytree.flatten(skeleton)
    except pytree.TreeError as error:
        raise ExportRefused(f"outputs: {error}") from None
    specs: list[ValueSpec] = []
    references: list[Any] = []
    replacements: dict[int, pytree.Tree] = {}
    for leaf, (leaf_name, slot) in enumerate(positions):
        meta, reference = metas[slot.index], encoded.outputs[slot.index]
        if isinstance(meta, torch.Tensor):
            if meta.dtype not in DTYPE_NAMES:
                raise ExportRefused(f"output '{leaf_name or 'output'}' has dtype {meta.dtype}: use one of {', '.join(DTYPE_NAMES.values())}")
            shape = tuple(-1 if isinstance(d, torch.SymInt) else int(d) for d in meta.shape)
            spec, kind = ValueSpec(leaf_name or "output", DTYPE_NAMES[meta.dtype], shape), "i"
        elif isinstance(meta, (torch.SymInt, torch.SymFloat, torch.SymBool)):
            kind, dtype = {torch.SymInt: ("int", "i64"), torch.SymFloat: ("float", "f64"), torch.SymBool: ("bool", "bool")}[type(meta)]
            spec = ValueSpec(leaf_name or "output", dtype, ())
        elif pytree.is_constant(meta):
            replacements[leaf] = {"f": str(meta)} if isinstance(meta, float) and not math.isfinite(meta) else {"c": meta}
            continue
        else:
            raise ExportRefused(f"output '{leaf_name or 'output'}' is a {type(meta).__name__}: use tensors and numbers")
        replacements[leaf] = {kind: len(specs)}
        specs.append(spec)
        references.append(reference)
    if not specs:
        raise ExportRefused("the module returns no tensor")
    return specs, references, _replace(tree, replacements)


class _Slot:
    """A place in the flat list of outputs."""

    def __init__(self, index: int) -> None:
        self.index = index


def _plain(value: Any, where: str) -> Any:
    """Outputs as tuples, lists and dicts; dataclass-like outputs of Hugging Face are dicts."""
    if isinstance(value, int) and not isinstance(value, bool):
        return _Slot(value)
    if value is None:
        return None
    if isinstance(value, Mapping):
        return {k: _plain(v, f"{where}.{k}") for k, v in value.items()}
    if isinstance(value, tuple):
        return tuple(_plain(v, f"{where}.{i}") for i, v in enumerate(value))
    if isinstance(value, list):
        return [_plain(v, f"{where}.{i}") for i, v in enumerate(value)]
    raise pytree.TreeError(f"'{where}' is a {type(value).__name__}: return tensors in tuples, lists and dicts")


def _replace(tree: pytree.Tree, replacements: dict[int, pytree.Tree]) -> pytree.Tree:
    ((kind, body),) = tree.items()
    if kind == "i":
        return replacements[body]
    if kind in ("tuple", "list"):
        return {kind: [_replace(t, replacements) for t in body]}
    if kind == "dict":
        return {kind: [[k, _replace(t, replacements)] for k, t in body]}
    return tree


def _tensors(
    module: torch.nn.Module, program: ExportedProgram, encoded: Encoded, sources: Mapping[str, FileRange]
) -> tuple[list[list[str]], list[ExportedTensor], list[str], list[graph_encode.Node]]:
    """The graph's weights [value, tensor], the tensors in order of first use, those never used, and views for complex ones."""
    specs = {s.arg.name: s for s in program.graph_signature.input_specs if s.kind in _KINDS}
    state = {**program.state_dict, **program.constants}
    order: dict[str, graph_encode.Node | None] = {}
    only_gathered: dict[str, bool] = {}
    for node in encoded.nodes:
        table = node.args[0] if graph_encode.base_name(node.target) == "aten::embedding" else None
        for reference in node.references():
            if reference in specs and reference not in order:
                order[reference] = node
                only_gathered[reference] = table == {"n": reference}
    for reference in (o["n"] for o in encoded.outputs if isinstance(o, dict) and "n" in o):
        if reference in specs:
            order.setdefault(reference, None)
    owners = {path for path, sub in module.named_modules() if path and any(True for _ in sub.parameters(recurse=False))}
    weights: list[list[str]] = []
    tensors: list[ExportedTensor] = []
    views: list[graph_encode.Node] = []
    by_storage: dict[Any, ExportedTensor] = {}
    ranges: list[tuple[int, int, int, ExportedTensor]] = []
    for value, node in order.items():
        spec = specs[value]
        tensor = state[spec.target].detach()
        value_name = value
        if tensor.is_complex():
            tensor, value_name = torch.view_as_real(tensor), value + "_as_real"
            views.append(graph_encode.Node(value, "aten::view_as_complex", [{"n": value_name}], {}, []))
        if tensor.dtype not in DTYPE_NAMES:
            raise ExportRefused(f"tensor '{spec.target}' has dtype {tensor.dtype}: use one of {', '.join(DTYPE_NAMES.values())}")
        if tensor.layout is not torch.strided:
            raise ExportRefused(f"tensor '{spec.target}' has layout {tensor.layout}: only dense tensors can be served")
        entry = ExportedTensor(
            name=spec.target, kind=_KINDS[spec.kind], dtype=DTYPE_NAMES[tensor.dtype], shape=tuple(tensor.shape),
            layer=_layer(node, owners, spec.target), size_bytes=tensor.numel() * tensor.element_size(),
            read=_reader(tensor), gather_only=only_gathered.get(value, False), mutated=value in encoded.written,
            source=sources.get(spec.target),
        )  # fmt: skip
        if tensor.numel():
            key = (tensor.untyped_storage().data_ptr(), tensor.storage_offset(), tuple(tensor.shape), tuple(tensor.stride()), tensor.dtype)
            if first := by_storage.get(key):
                entry.tied_to = first.name
                first.mutated = entry.mutated = first.mutated or entry.mutated
                entry.gather_only = first.gather_only
            else:
                by_storage[key] = entry
                begin = tensor.data_ptr()
                span = 1 + sum((n - 1) * abs(s) for n, s in zip(tensor.shape, tensor.stride(), strict=True))
                ranges.append((tensor.untyped_storage().data_ptr(), begin, begin + span * tensor.element_size(), entry))
        tensors.append(entry)
        weights.append([value_name, entry.name])
    _refuse_written_overlap(ranges)
    unused = [s.target for name, s in specs.items() if name not in order]
    tensors.sort(key=lambda t: t.gather_only)
    return weights, tensors, unused, views


def _refuse_written_overlap(ranges: Sequence[tuple[int, int, int, ExportedTensor]]) -> None:
    """Tensors that are different views of one memory are stored apart, which a write to one of them would show."""
    reach: dict[bool, tuple[int, int, str]] = {}  # By whether it is written: the one of this storage that ends last.
    for storage, begin, end, tensor in sorted(ranges, key=lambda r: r[:3]):
        for written, (other_storage, other_end, other) in reach.items():
            if other_storage == storage and begin < other_end and (written or tensor.mutated):
                raise ExportRefused(f"tensors '{other}' and '{tensor.name}' overlap in memory and the model writes one of them")
        last = reach.get(tensor.mutated)
        if last is None or last[0] != storage or last[1] < end:
            reach[tensor.mutated] = (storage, end, tensor.name)


def _layer(node: graph_encode.Node | None, owners: set[str], tensor: str) -> str:
    for path in reversed(node.stack if node else []):
        if path in owners:
            return path
    return tensor.rpartition(".")[0]


def _reader(tensor: torch.Tensor) -> Any:
    return lambda: graph_encode.flat_bytes(tensor)
