"""What the cluster serves while it is hurt, with what PyTorch answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from cenote.export import export_model
from cenote.graph_types import ExportedModel
from tests.integration.small_models import Stack


@dataclass(frozen=True)
class Case:
    name: str
    module: Stack
    exported: ExportedModel
    x: torch.Tensor
    expected: torch.Tensor

    def wrong(self, got: Any) -> str | None:
        """How an answer differs; None: it is right."""
        if torch.allclose(got, self.expected, rtol=1e-5, atol=1e-6):
            return None
        return f"'{self.name}' answered wrongly: differs by up to {(got - self.expected).abs().max().item():.3g}"


def make_case(name: str, *, layers: int, width: int, seed: int) -> Case:
    module = Stack(layers, width, seed).eval()
    x = torch.randn(1, width, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        expected = module(x)
    return Case(name, module, export_model(module, (x,), name=name), x, expected)
