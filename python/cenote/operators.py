"""The operators a graph may use: source/catalog/operators.txt, the same list the C++ side embeds."""

from __future__ import annotations

from functools import cache
from importlib import resources


@cache
def operators_allowed() -> frozenset[str]:
    """Names such as "aten::add": every overload of it, except those that write to an `out` argument."""
    text = resources.files("cenote").joinpath("operators.txt").read_text("utf-8")
    lines = (line.split("#", 1)[0].strip() for line in text.splitlines())
    return frozenset(name for line in lines for name in line.split())


def refusal(operator: str, node: str) -> str | None:
    """Why `operator` ("aten::add.Tensor") may not be in a graph; None if it may. The words of catalog/graph.cc."""
    base, _, overload = operator.partition(".")
    allowed = operators_allowed()
    if base in allowed and overload != "out" and not overload.endswith("_out"):
        return None
    return (
        f"operator '{operator}' (node {node}): not on the allow-list of {len(allowed)} operators; "
        "rewrite this part of the model with plain tensor operators"
    )
