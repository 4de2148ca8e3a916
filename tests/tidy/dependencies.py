"""Dependencies: every import is pinned, every pin and package is explained in third_party/README.md."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import PurePosixPath

from tidy.tree import Tree, Violation

README = "third_party/README.md"
RUN = ("requirements", "requirements-torch", "requirements-models")
TEST = (*RUN, "requirements-test")
AE = (*RUN, "requirements-ae")
# Distributions whose module has another name.
DISTRIBUTIONS = {"PIL": "pillow", "yaml": "pyyaml", "sklearn": "scikit-learn", "skimage": "scikit-image"}
# Modules of this repository, by the folder that holds them.
OWN = {"cenote", "tidy", "summary"}


def read_pins(tree: Tree, stem: str) -> dict[str, str]:
    """Distribution -> version, as pinned in one requirements file."""
    text = tree.texts.get(f"third_party/{stem}.txt", "")
    return dict(re.findall(r"^([\w.-]+)==(\S+)$", text, re.MULTILINE))


def imports(source: str) -> list[tuple[int, str]]:
    """(line, top-level module) of each import that must succeed: not those guarded by `except ImportError`."""
    tree = ast.parse(source)
    guarded: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Try) and any(
            handler.type is not None and re.search("ImportError|ModuleNotFoundError", ast.unparse(handler.type))
            for handler in node.handlers
        ):
            guarded |= {id(inner) for part in node.body for inner in ast.walk(part)}
    found = []
    for node in ast.walk(tree):
        if id(node) in guarded:
            continue
        if isinstance(node, ast.Import):
            found += [(node.lineno, name.name.split(".")[0]) for name in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.append((node.lineno, node.module.split(".")[0]))
    return found


def check_imports(tree: Tree) -> list[Violation]:
    """What python/, tests/ and AE/ import is the standard library's, ours, or pinned in the requirements of that part."""
    found = []
    for folder, stems in (("python", RUN), ("tests", TEST), ("AE", AE)):
        paths = tree.under(folder, ".py")
        local = {PurePosixPath(path).stem for path in paths} | {part for path in paths for part in path.split("/")[:-1]}
        pinned = {name.lower().replace("-", "_") for stem in stems for name in read_pins(tree, stem)}
        for path in paths:
            for line, module in imports(tree.texts[path]):
                distribution = DISTRIBUTIONS.get(module, module).lower().replace("-", "_")
                if module in sys.stdlib_module_names or module in OWN | local or distribution in pinned:
                    continue
                remedy = f"Pin it in third_party/{stems[-1]}.txt and explain it in {README}"
                found.append(Violation(path, line, f"imports {module}", remedy))
    return found


def check_explained(tree: Tree) -> list[Violation]:
    """README.md of third_party names every Debian package, and every Python package with its pinned version."""
    found = []
    text = tree.texts[README]
    for path in tree.under("third_party", ".txt"):
        stem = PurePosixPath(path).stem
        if stem.startswith("debian-"):
            names = [(line, line) for line in tree.texts[path].split("\n") if line and not line.startswith("#")]
        else:
            names = [(name, f"{name} {version}") for name, version in read_pins(tree, stem).items()]
        for name, wanted in names:
            if not re.search(rf"(?<![\w-]){re.escape(wanted)}(?![\w.-]*\w)", text, re.IGNORECASE):
                found.append(Violation(README, 0, f"'{wanted}' of {path} is missing", f"Say version, licence and why for {name}"))
    return found
