"""Modules for the integration tests: small, but with what real ones have: layers, tied weights, buffers, nesting, several dtypes."""

from __future__ import annotations

import torch
from torch import nn


class Nested(nn.Module):
    """Dict and tuple in, dict out; a buffer, a tied pair."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.first = nn.Linear(8, 8, bias=False)
        self.second = nn.Linear(8, 8, bias=False)
        self.second.weight = self.first.weight
        self.norm = nn.BatchNorm1d(8)
        self.register_buffer("shift", torch.randn(8))

    def forward(self, pair: tuple[torch.Tensor, torch.Tensor], features: dict[str, torch.Tensor], *, scale: float) -> dict[str, object]:
        left = self.norm(self.first(pair[0]) + self.shift)
        right = self.second(pair[1]) * scale
        return {"sum": left + right, "parts": (left, right * features["weight"])}


class Stack(nn.Module):
    """`layers` square layers of `width`: 4 x width^2 bytes each."""

    def __init__(self, layers: int = 6, width: int = 512, seed: int = 0, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layers = nn.ModuleList(nn.Linear(width, width, dtype=dtype) for _ in range(layers))
        self.width = width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return x


class Lookup(nn.Module):
    """Token ids in; a table that is only gathered from."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.table = nn.Embedding(5000, 64)
        self.head = nn.Linear(64, 10)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.table(ids).mean(1))


def make_stack() -> tuple[nn.Module, tuple[torch.Tensor]]:
    return Stack(layers=2, width=64), (torch.randn(1, 64),)


def make_other() -> tuple[nn.Module, tuple[torch.Tensor]]:
    return Stack(layers=2, width=64, seed=1), (torch.randn(1, 64),)


def make_large() -> tuple[nn.Module, tuple[torch.Tensor]]:
    """32 MiB: a deploy of it takes long enough to be interrupted."""
    return Stack(layers=8, width=1024), (torch.randn(1, 1024),)


def make_larger_than_the_pool() -> tuple[nn.Module, tuple[torch.Tensor]]:
    """144 MiB."""
    return Stack(layers=36, width=1024), (torch.randn(1, 1024),)
