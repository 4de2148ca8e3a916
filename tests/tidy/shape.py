"""Sizes and places: nothing lies about unreferenced, nothing grows too long, every room says what it is."""

from __future__ import annotations

import fnmatch
import re
from pathlib import PurePosixPath

import lizard

from tidy.edges import INCLUDE, read_edges
from tidy.tree import Tree, Violation

FILE_LINES_MAX = 500
BLOB_BYTES_MAX = 1 << 20
README_LINES_MAX = 20
FUNCTION_LINES_MAX = 70
GIANTS = "tests/tidy/long_functions.txt"


def check_references(tree: Tree) -> list[Violation]:
    """Each file of source/ is compiled, included, or named by another file."""
    found = []
    words = " ".join(tree.texts[path] for path in tree.under("source") if path.endswith("CMakeLists.txt")).split()
    named = {word.strip("()\"'").removeprefix("${CMAKE_SOURCE_DIR}/source/") for word in words}
    globs = [word for word in named if "*" in word]
    included = set()
    for path in tree.under("", ".h", ".cc", ".cu"):
        included |= {match.group(2) for _, line in tree.lines(path) if (match := INCLUDE.match(line))}
    for path in tree.under("source"):
        inner = path.removeprefix("source/")
        in_room = inner.partition("/")[2]
        name = PurePosixPath(path).name
        if name in ("README.md", "CMakeLists.txt"):
            continue
        if name.endswith((".cc", ".cu")):
            listed = {in_room, inner, name} & named or any(fnmatch.fnmatch(in_room, glob) for glob in globs)
            if not listed:
                found.append(Violation(path, 0, "in no CMakeLists.txt", "List it in its room's, or remove it"))
        elif name.endswith(".h"):
            if inner not in included:
                found.append(Violation(path, 0, "included by no file", "Use it or remove it"))
        elif not any(name in text for other, text in tree.texts.items() if other != path):
            found.append(Violation(path, 0, "named by no file", "Use it or remove it"))
    return found


def check_sizes(tree: Tree) -> list[Violation]:
    found = []
    for path in tree.code():
        lines = tree.texts[path].count("\n")
        if lines > FILE_LINES_MAX:
            found.append(Violation(path, 0, f"{lines} lines, the limit is {FILE_LINES_MAX}", "Split it by event or by noun"))
    for path, size in tree.sizes.items():
        if size > BLOB_BYTES_MAX:
            found.append(Violation(path, 0, f"{size} bytes, the limit is {BLOB_BYTES_MAX}", "Make it in a test, or fetch it"))
    return found


def check_headers(tree: Tree) -> list[Violation]:
    """A header opens with a comment that says what it is, and is guarded by #pragma once."""
    found = []
    for path in tree.under("source", ".h"):
        if not tree.texts[path].startswith("//"):
            found.append(Violation(path, 1, "no opening comment", "Say what it is, who may call, what outlives what"))
        if "#pragma once" not in tree.texts[path]:
            found.append(Violation(path, 0, "no #pragma once", "Add it below the opening comment"))
    return found


def check_readmes(tree: Tree) -> list[Violation]:
    """Each room that has files has a README of at most 20 lines, code blocks not counted."""
    found = []
    for room in read_edges(tree):
        if not tree.under(f"source/{room}"):
            continue
        path = f"source/{room}/README.md"
        if path not in tree.texts:
            found.append(Violation(path, 0, "missing", "Say what the room is, what it is not, where to begin, its invariants"))
            continue
        prose = re.sub(r"^```.*?^```\n?", "", tree.texts[path], flags=re.DOTALL | re.MULTILINE)
        lines = len(prose.splitlines())
        if lines > README_LINES_MAX:
            found.append(Violation(path, 0, f"{lines} lines, the limit is {README_LINES_MAX}", "Move detail into headers"))
    return found


def read_giants(tree: Tree) -> dict[str, int]:
    """"path name" -> lines that it had when it was last looked at."""
    giants = {}
    for line in tree.texts.get(GIANTS, "").splitlines():
        if line and not line.startswith("#"):
            name, _, lines = line.rpartition(" ")
            giants[name] = int(lines)
    return giants


def check_functions(tree: Tree) -> list[Violation]:
    """A ratchet: no function passes 70 lines (blank lines and comments not counted); known giants may only shrink.

    Tests are left out: a property that walks a state machine is one long script, and macros hide its name.
    """
    giants = read_giants(tree)
    found, met = [], set()
    product = [path for path in tree.under("", ".h", ".cc", ".cu", ".py") if not path.startswith("tests/")]
    for path in product:
        for function in lizard.analyze_file.analyze_source_code(path, tree.texts[path]).function_list:
            key = f"{path} {function.name}"
            limit = giants.get(key, FUNCTION_LINES_MAX)
            if function.nloc > FUNCTION_LINES_MAX:
                met.add(key)
            if function.nloc > limit:
                what = f"{function.name}() has {function.nloc} lines, the limit is {limit}"
                found.append(Violation(path, function.start_line, what, "Push loops and leaves down into functions of their own"))
            elif key in giants and function.nloc < limit:
                remedy = f"Lower its line in {GIANTS}, or remove it below {FUNCTION_LINES_MAX + 1}"
                found.append(Violation(path, function.start_line, f"{function.name}() shrank to {function.nloc} lines", remedy))
    for key in sorted(set(giants) - met):
        found.append(Violation(GIANTS, 0, f"'{key}' is no giant any more", "Remove its line"))
    return found
