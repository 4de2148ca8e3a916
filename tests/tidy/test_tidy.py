"""Goal: the repository keeps its own rules; every broken one is named with its place and what to do instead."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from tidy import dependencies, edges, settings_read, shape, waits, words
from tidy.tree import ROOT, Tree, Violation

RULES: list[Callable[[Tree], list[Violation]]] = [
    edges.check_map,
    edges.check_edges,
    edges.check_vendors,
    words.check_words,
    words.check_hash_order,
    words.check_names,
    shape.check_references,
    shape.check_sizes,
    shape.check_headers,
    shape.check_readmes,
    shape.check_functions,
    dependencies.check_imports,
    dependencies.check_explained,
    settings_read.check_settings_read,
    waits.check_waits,
]


@pytest.fixture(scope="module")
def checkout() -> Tree:
    return Tree.of_checkout()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_repository_keeps(rule: Callable[[Tree], list[Violation]], checkout: Tree) -> None:
    violations = rule(checkout)
    assert not violations, "\n" + "\n".join(map(str, violations))


def test_every_script_parses(checkout: Tree) -> None:
    scripts = [path for path, text in checkout.texts.items() if path.endswith(".sh") or text.startswith("#!/usr/bin/env bash")]
    assert scripts
    for script in scripts:
        parsed = subprocess.run(["bash", "-n", str(ROOT / script)], capture_output=True, text=True)
        assert parsed.returncode == 0, f"{script}: {parsed.stderr}"


def test_python_is_clean_by_ruff(checkout: Tree) -> None:
    files = [path for path in checkout.texts if path.endswith(".py")]
    checked = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format", "concise", *files],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout + checked.stderr
