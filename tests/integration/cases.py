"""Models with what PyTorch answers for them: deployed once, asked often."""

from __future__ import annotations

import torch
from integration.small_models import Stack

from cenote.cluster import Cluster

Case = tuple[str, torch.Tensor, torch.Tensor]  # Name, input, what PyTorch answers.


def deploy_stacks(cluster: Cluster, name: str, count: int, *, layers: int, width: int) -> list[Case]:
    """name0, name1, ...: `layers` x `width` x `width` floats each."""
    cases = []
    for seed in range(count):
        module, x = Stack(layers=layers, width=width, seed=seed).eval(), torch.randn(1, width)
        cluster.deploy(module, (x,), name=f"{name}{seed}")
        with torch.no_grad():
            cases.append((f"{name}{seed}", x, module(x)))
    return cases


def check(cluster: Cluster, case: Case) -> None:
    name, x, expected = case
    torch.testing.assert_close(cluster.infer(name, x, deadline_s=60), expected, rtol=1e-5, atol=1e-6)
