"""Goal: any module that torch.export takes gives PyTorch's own outputs through the interpreter, at the batch it was exported with and at
others, or is refused by the name of what cannot be served."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parent))
from zoo import CASES, X

from cenote import graph_tool, pytree
from cenote.errors import Error
from cenote.export import ExportRefused, export_model
from cenote.operators import operators_allowed

ROOT = Path(__file__).resolve().parents[2]
# Their arithmetic needs the batch they were exported with, or they look at particular rows.
FIXED_BATCH = {"Meshgrid", "Gru", "WritesItsInput"}


@pytest.fixture(scope="session")
def binary() -> Path:
    try:
        return graph_tool.program()
    except Error:
        built = sorted((ROOT / "build").glob("*/bin/cenote-graph"), key=lambda p: p.stat().st_mtime)
        if not built:
            pytest.fail("cenote-graph is not built: ninja -C build/dev cenote-graph")
        return built[-1]


@pytest.fixture(autouse=True, scope="module")
def _seeded() -> Iterator[None]:
    torch.manual_seed(0)
    yield


def resized(value: Any, old: int, batch: int) -> Any:
    """Every tensor whose first dimension is the batch, at another batch."""

    def change(t: Any) -> Any:
        if not isinstance(t, Tensor) or t.dim() == 0 or t.shape[0] != old:
            return t
        index = torch.arange(batch) % old
        return t[index] + (torch.zeros((), dtype=t.dtype) if t.dtype == torch.bool else 0)

    return torch.utils._pytree.tree_map(change, value)


def assert_same(got: Any, want: Any) -> None:
    got_leaves, got_tree = torch.utils._pytree.tree_flatten(got)
    want_leaves, want_tree = torch.utils._pytree.tree_flatten(want)
    assert got_tree == want_tree
    for g, w in zip(got_leaves, want_leaves, strict=True):
        if isinstance(w, Tensor):
            torch.testing.assert_close(g, w, rtol=1e-5, atol=1e-6, equal_nan=True)
        else:
            assert type(g) is type(w) and g == w


def plain(value: Any) -> Any:
    """torch.return_types and named tuples as tuples."""
    if isinstance(value, tuple):
        return tuple(plain(v) for v in value)
    if isinstance(value, list):
        return [plain(v) for v in value]
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    return value


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_module_gives_pytorchs_outputs(name: str, binary: Path, tmp_path: Path) -> None:
    module, args, kwargs = CASES[name]()
    exported = export_model(copy.deepcopy(module), copy.deepcopy(args), kwargs, name=name)
    with graph_tool.GraphTool(exported, tmp_path, binary=binary) as tool:
        batches = [2, 1, 3] if exported.dynamic_batch and name not in FIXED_BATCH else [2]
        for batch in batches * 2:  # Twice: nothing of one run stays for the next.
            with torch.no_grad():
                these, those = copy.deepcopy(resized((args, kwargs), 2, batch))
                leaves = pytree.bind(json.loads(exported.inputs_tree), these, those)
                got = pytree.unflatten(json.loads(exported.outputs_tree), tool.run(leaves))
                want = copy.deepcopy(module).eval()(*these, **those)
            assert_same(got, plain(want))


def test_most_of_the_zoo_has_a_dynamic_batch() -> None:
    """A silent fall back to fixed shapes would pass the test above."""
    fixed = {name for name in CASES if not export_model(*CASES[name]()[:2], CASES[name]()[2]).dynamic_batch}
    assert fixed <= FIXED_BATCH, f"exported with a fixed batch: {fixed - FIXED_BATCH}"


def test_tensors_come_in_order_of_first_use_with_lookup_tables_last() -> None:
    module, args, _ = CASES["TiedLanguageModel"]()
    exported = export_model(module, args)
    assert [t.name for t in exported.tensors if t.gather_only] == [exported.tensors[-1].name]
    module, args, _ = CASES["ConvNet"]()
    exported = export_model(module, args)
    assert exported.tensors[0].name == "features.0.weight" and exported.tensors[0].layer == "features.0"
    assert exported.tensors[-1].name == "head.bias"
    stored = exported.tensors[0].data()
    assert stored.tobytes() == module.features[0].weight.detach().numpy().tobytes()


def test_tied_tensors_are_stored_once() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(6, 6, bias=False), nn.Linear(6, 6, bias=False)
            self.b.weight = self.a.weight
            self.alias = self.a.weight.detach()

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(x)) @ self.alias

    exported = export_model(Two(), (X,))
    assert exported.weight_bytes == 6 * 6 * 4
    assert len([t for t in exported.tensors if t.tied_to is None]) == 1


def test_unused_parameters_do_not_travel() -> None:
    module, args, _ = CASES["Unused"]()
    exported = export_model(module, args)
    assert {t.name for t in exported.tensors} == {"used.weight", "used.bias"}
    assert "unused.weight" in exported.unused


def test_only_written_buffers_are_marked() -> None:
    module, args, _ = CASES["Counter"]()
    assert {t.name: t.mutated for t in export_model(module, args).tensors} == {"calls": True, "memory": True}
    module, args, _ = CASES["ConvNet"]()
    assert not any(t.mutated for t in export_model(module, args).tensors)
    assert int(CASES["Counter"]()[0].calls) == 0, "export leaves the module's own state alone"


class WritesAnAttribute(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.seen = torch.ones(6)

    def forward(self, x: Tensor) -> Tensor:
        self.seen.add_(1)
        return x * self.seen


class WritesAParameter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.seen = nn.Parameter(torch.ones(6))

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.seen.add_(1)
        return x * self.seen


@pytest.mark.parametrize("module", [WritesAnAttribute(), WritesAParameter()], ids=lambda m: type(m).__name__)
def test_state_that_a_call_writes_travels_as_it_was(module: nn.Module) -> None:
    """Export calls the module and the graph to compare them; what is deployed must not show it."""
    exported = export_model(module, (X,))
    assert exported.dynamic_batch and [t.mutated for t in exported.tensors] == [True]
    assert exported.tensors[0].data().view("float32").tolist() == [1.0] * 6
    assert module.seen.tolist() == [1.0] * 6


def test_running_statistics_in_use_count_as_written() -> None:
    class Trains(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.zeros(6))
            self.register_buffer("var", torch.ones(6))

        def forward(self, x: Tensor) -> Tensor:
            return torch.nn.functional.batch_norm(x, self.mean, self.var, training=True)

    assert all(t.mutated for t in export_model(Trains(), (X,), dynamic_batch=False).tensors)


def test_a_batch_that_the_module_cannot_vary_is_fixed_with_a_warning() -> None:
    class ByBatch(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * 2 if x.shape[0] == 1 else x + 1

    exported = export_model(ByBatch(), (X,))
    assert not exported.dynamic_batch and exported.inputs[0].shape == (2, 6)
    assert "the batch is fixed at 2" in exported.warnings[0]
    assert export_model(nn.ReLU(), (X[:1],)).inputs[0].shape == (-1, 6)
    assert not export_model(nn.ReLU(), (X,), dynamic_batch=False).dynamic_batch


class Sampling(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.randn_like(x)


class Branches(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.sum() > 0 else x


class Conditional(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cond(x.sum() > 0, lambda y: y + 1, lambda y: y - 1, (x,))


class Autocast(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return x @ x.t()


class Complex(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.fft(x)


class Dropping(nn.Module):
    """Forgets `self.training`."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.dropout(x, 0.5, training=True)


class DroppingAttention(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(x, x, x, dropout_p=0.1)


class Sparse(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.to_sparse()


@pytest.mark.parametrize(
    ("module", "says"),
    [
        (Sampling(), "operator 'aten::randn_like' "),
        (Branches(), "torch.export refuses the module"),
        (Conditional(), "operator 'cond' "),
        (Autocast(), "operator 'wrap_with_autocast' "),
        (Complex(), "output 'output' has dtype torch.complex64"),
        (Sparse(), "aten._to_sparse"),
        (Dropping(), "operator 'aten::dropout' "),
        (DroppingAttention(), "operator 'aten::scaled_dot_product_attention' "),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, nn.Module) else "",
)
def test_what_cannot_run_is_refused_by_name(module: nn.Module, says: str) -> None:
    with pytest.raises(ExportRefused, match="(?s).*") as refused:
        export_model(module, (X,))
    assert says in str(refused.value)


def test_views_of_one_memory_that_is_written_are_refused_wherever_they_lie() -> None:
    class Views(nn.Module):
        def __init__(self, written: int) -> None:
            super().__init__()
            self.written = written
            memory = torch.zeros(10, 6)
            for name, rows in {"whole": memory, "near": memory[1], "far": memory[7]}.items():
                self.register_buffer(name, rows)

        def forward(self, x: Tensor) -> Tensor:
            (self.whole[3], self.near, self.far)[self.written].add_(1)
            return x + self.whole.sum(0) + self.near + self.far

    for written, name in enumerate(("whole", "near", "far")):
        with pytest.raises(ExportRefused, match="overlap in memory") as refused:
            export_model(Views(written), (X,))
        assert f"'{name}'" in str(refused.value)


def test_inputs_that_are_no_tensors_are_refused_by_name() -> None:
    with pytest.raises(ExportRefused, match="input 'x' is a object"):
        export_model(nn.ReLU(), (), {"x": object()})
    with pytest.raises(ExportRefused, match="input 'input' has dtype torch.complex64"):
        export_model(nn.ReLU(), (torch.zeros(2, dtype=torch.complex64),))


def test_the_interpreter_refuses_what_the_exporter_would_never_write(binary: Path, tmp_path: Path) -> None:
    exported = export_model(nn.ReLU(), (X,))
    exported.graph = exported.graph.replace("aten::relu", "aten::from_file")
    with pytest.raises(Error) as refused:
        graph_tool.GraphTool(exported, tmp_path, binary=binary)
    assert refused.value.code == "unimplemented"
    assert "operator 'aten::from_file' (node relu): not on the allow-list" in str(refused.value)


def test_the_allow_list_names_only_operators_that_torch_has() -> None:
    known = {schema.name for schema in torch._C._jit_get_all_schemas()}
    assert operators_allowed() <= known
    assert not {"aten::from_file", "aten::set_", "aten::resize_", "aten::rand", "aten::_unsafe_index"} & operators_allowed()
