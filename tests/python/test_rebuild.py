"""Goal: what was exported can be run by PyTorch again, operator by operator, with the same outputs."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from cenote.errors import Error
from cenote.export import export_model
from cenote.rebuild import example_inputs, rebuild


class Small(torch.nn.Module):
    """Tied weights, a buffer, a size that is computed, two outputs, a result that is picked from several."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(6, 6)
        self.second = torch.nn.Linear(6, 6)
        self.second.weight = self.first.weight
        self.register_buffer("scale", torch.tensor([0.5, float("inf")]).clamp(max=2))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        left, right = self.second(self.first(x)).chunk(2, dim=1)
        return left * self.scale[0] / x.shape[0], torch.max(right, dim=1)[1].to(torch.int32)


def _state(model: Any) -> dict[str, torch.Tensor]:
    data = {t.name: t.data() for t in model.tensors if t.tied_to is None}
    state = {}
    for t in model.tensors:
        flat = torch.from_numpy(np.frombuffer(bytes(data[t.tied_to or t.name]), np.uint8).copy())
        state[t.name] = flat.view({"f32": torch.float32, "i64": torch.int64}[t.dtype]).reshape(t.shape)
    return state


def test_a_rebuilt_module_answers_as_the_original_for_any_batch() -> None:
    torch.manual_seed(1)
    module = Small().eval()
    model = export_model(module, (torch.randn(2, 6),), name="small")
    again = rebuild(json.loads(model.graph), _state(model))
    for batch in (2, 5):
        x = torch.randn(batch, 6)
        for got, want in zip(again(x), module(x), strict=True):
            assert torch.equal(got, want)
    assert len(export_model(again, (torch.randn(2, 6),), name="again").tensors) >= 3  # It can be deployed again.


def test_example_inputs_are_the_smallest_that_fit() -> None:
    signature = {"inputs": [{"name": "x", "dtype": "i64", "shape": [-1, 4]}, {"name": "y", "dtype": "f32", "shape": []}]}
    x, y = example_inputs(signature)
    assert (x.shape, x.dtype, y.shape, y.dtype) == ((1, 4), torch.int64, (), torch.float32)


def test_an_operator_that_this_pytorch_lacks_is_named() -> None:
    graph = {"inputs": ["x"], "weights": [], "nodes": [{"o": "y", "t": "aten::no_such_thing", "a": [{"n": "x"}]}], "outputs": [{"n": "y"}]}
    with pytest.raises(Error, match="aten::no_such_thing"):
        rebuild(graph, {})


