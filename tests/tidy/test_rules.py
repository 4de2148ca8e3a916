"""Goal: each rule of tests/tidy catches what it is for, and lets good work pass. Method: small trees with and without the fault."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tidy import dependencies, edges, shape, waits, words
from tidy.tree import Tree, Violation

MAP = """```edges
base ->
fabric -> base
node -> base
```
```vendors
rdma/ grpc -> fabric/libfabric
```
"""
GOOD = {
    "source/README.md": MAP,
    "source/base/README.md": "# base\n",
    "source/base/CMakeLists.txt": "cenote_room(base SOURCES clock.cc)\n",
    "source/base/clock.h": "// base/clock.h - time.\n#pragma once\n",
    "source/base/clock.cc": '#include "base/clock.h"\n',
    "source/fabric/README.md": "# fabric\n",
    "source/fabric/CMakeLists.txt": "cenote_room(fabric\n  SOURCES libfabric/read.cc\n  ROOMS base\n  LIBRARIES x::y)\n",
    "source/fabric/libfabric/read.cc": '#include <rdma/fabric.h>\n\n#include "base/clock.h"\n',
    "third_party/requirements.txt": "typer==1.0\n",
    "third_party/debian-run.txt": "cmake\n",
    "third_party/README.md": "| cmake | | typer 1.0 |\n",
    "python/cenote/cli.py": "import os\nimport typer\nfrom cenote import x\n",
}
LONG = "int grow(int x) {\n" + "  x += 1;\n" * 80 + "  return x;\n}\n"

Rule = Callable[[Tree], list[Violation]]


def tree_with(**changes: str | None) -> Tree:
    """GOOD with some files changed or (None) removed."""
    texts = {**GOOD, **{path: text for path, text in changes.items() if text is not None}}
    for path in [path for path, text in changes.items() if text is None]:
        del texts[path]
    return Tree(texts, {path: len(text) for path, text in texts.items()})


@pytest.mark.parametrize(
    "rule",
    [
        edges.check_map, edges.check_edges, edges.check_vendors, words.check_words, words.check_hash_order, words.check_names,
        shape.check_references, shape.check_sizes, shape.check_headers, shape.check_readmes, shape.check_functions, dependencies.check_imports,
        dependencies.check_explained,
    ],
    ids=lambda rule: rule.__name__,
)  # fmt: skip
def test_good_tree_passes(rule: Rule) -> None:
    assert rule(tree_with()) == []


@pytest.mark.parametrize(
    ("rule", "path", "text", "said"),
    [
        (edges.check_map, "source/README.md", MAP.replace("base ->\n", "base -> node\n"), "upward"),
        (edges.check_map, "source/attic/old.h", "// old\n", "not in the map"),
        (edges.check_edges, "source/base/clock.cc", '#include "fabric/x.h"\n', "base includes"),
        (edges.check_edges, "source/node/a.cc", '#include "fabric/x.h"\n', "node includes"),
        (edges.check_edges, "source/node/a.cc", '#include "base/clock_impl.h"\n', "private to base"),
        (edges.check_edges, "source/node/a.cc", '#include "b.h"\n', "not rooted"),
        (edges.check_edges, "source/base/CMakeLists.txt", "cenote_room(base SOURCES a.cc ROOMS node)\n", "links node"),
        (edges.check_vendors, "source/node/a.cc", "#include <rdma/fabric.h>\n", "includes <rdma/fabric.h>"),
        (edges.check_vendors, "source/fabric/a.h", "#include <grpcpp/grpcpp.h>\n", "includes <grpcpp/grpcpp.h>"),
        (words.check_words, "README.md", "# TODO: finish\n", "'TODO'"),
        (words.check_words, "python/cenote/a.py", "# enough for now\n", "'for now'"),
        (words.check_words, "python/cenote/a.py", "import pickle\n", "'import pickle'"),
        (words.check_words, "python/cenote/a.py", "x = eval(text)\n", "'eval('"),
        (words.check_words, "AE/run.sh", "cd /work/x\n", "'/work/'"),
        (words.check_words, "source/base/a.cc", "assert(x);\n", "'assert('"),
        (words.check_words, "source/base/a.cc", 'f("NULL", NULL);\n', "NULL'"),
        (words.check_words, "source/base/a.cc", "std::cout << x;\n", "'std::cout'"),
        (words.check_words, "source/node/a.cc", "std::unordered_map<int, int> m;\n", "'std::unordered_'"),
        (words.check_words, "source/node/a.cc", "auto t = std::chrono::steady_clock::now();\n", "'steady_clock'"),
        (words.check_words, "source/policy/a.cc", "int i = rand();\n", "'rand('"),
        (words.check_words, "source/catalog/a.cc", "std::thread t;\n", "'std::thread'"),
        (words.check_words, "source/node/a.cc", "std::normal_distribution<> d;\n", "'_distribution'"),
        (waits.check_waits, "source/bin/a.cc", "changed_.wait(lock, [] { return true; });\n", "wait(lock"),
        (waits.check_waits, "source/bin/a.cc", "thread_.join();\n", "'.join()'"),
        (waits.check_waits, "source/bin/a.cc", "::poll(fds.data(), fds.size(), -1);\n", "poll("),
        (waits.check_waits, "source/wire/a.cc", "grpc::ClientContext context;\ncall(&context);\n", "a call without a deadline"),
        (waits.check_waits, "python/cenote/a.py", "thread.join()\n", "'.join()'"),
        (waits.check_waits, "python/cenote/a.py", "subprocess.run(command, check=True)\n", "'subprocess.run('"),
        (words.check_hash_order, "source/node/a.cc", "absl::flat_hash_map<int, T> m_;\nfor (auto& [k, v] : m_) f(k);\n", "'m_'"),
        (words.check_hash_order, "source/node/a.cc", "absl::flat_hash_set<int> s;\nstd::vector v(s.begin(), s.end());\n", "'s'"),
        (words.check_names, "source/base/string_utils.h", "// x\n#pragma once\n", "named 'string_utils.h'"),
        (words.check_names, "python/cenote/helpers/a.py", "", "named 'helpers'"),
        (shape.check_references, "source/base/lost.cc", "", "in no CMakeLists.txt"),
        (shape.check_references, "source/base/lost.h", "// x\n#pragma once\n", "included by no file"),
        (shape.check_references, "source/base/lost.json", "{}", "named by no file"),
        (shape.check_sizes, "source/base/clock.cc", "int x;\n" * 501, "501 lines"),
        (shape.check_sizes, "tests/data/big.txt", "x" * ((1 << 20) + 1), "1048577 bytes"),
        (shape.check_headers, "source/base/clock.h", "#pragma once\n", "no opening comment"),
        (shape.check_headers, "source/base/clock.h", "// base/clock.h\n", "no #pragma once"),
        (shape.check_readmes, "source/base/README.md", "line\n" * 21, "21 lines"),
        (shape.check_readmes, "source/base/README.md", None, "missing"),
        (shape.check_functions, "source/base/clock.cc", LONG, "grow() has 83 lines"),
        (shape.check_functions, "tests/tidy/long_functions.txt", "source/base/clock.cc gone 80\n", "no giant any more"),
        (dependencies.check_imports, "python/cenote/cli.py", "import requests\n", "imports requests"),
        (dependencies.check_explained, "third_party/requirements.txt", "typer==1.1\n", "'typer 1.1'"),
        (dependencies.check_explained, "third_party/debian-run.txt", "cmake\nmold\n", "'mold'"),
    ],
)  # fmt: skip
def test_fault_is_caught(rule: Rule, path: str, text: str | None, said: str) -> None:
    violations = rule(tree_with(**{path: text}))
    assert len(violations) == 1, violations
    assert said in violations[0].what
    assert violations[0].remedy


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        (words.check_words, "source/base/a.cc", 'static_assert(sizeof(int) == 4);\nconst char* x = "forward";\n'),
        (words.check_words, "source/base/a.cc", 'run("a INTEGER NOT NULL, "\n    "b");\nconst char* k = "x NULL";\n'),
        (words.check_words, "source/base/tool.cc", "int main() { std::cout << 1; }\n"),
        (words.check_words, "source/fabric/a.cc", "std::unordered_map<int, int> m;  // not a pure room\n"),
        (words.check_words, "python/cenote/a.py", "model.eval()\ncursor.execute(x)\n"),
        (waits.check_waits, "source/bin/a.cc", "changed_.wait_for(lock, 1s);\nthread_.join();  // No deadline: it was told to stop.\n"),
        (waits.check_waits, "python/cenote/a.py", "thread.join(5.0)\nrun = subprocess.run(\n    command,\n    timeout=5,\n)\n"),
        (words.check_hash_order, "source/node/a.cc", "absl::flat_hash_set<int> s;\nfor (int i : v) s.insert(i);\n"),
        (words.check_names, "source/base/utility_function.h", "// x\n#pragma once\n"),
        (shape.check_readmes, "source/base/README.md", "line\n" * 20 + "```cc\n" + "code\n" * 30 + "```\n"),
        (shape.check_references, "source/base/CMakeLists.txt", "file(GLOB x clo*.cc)\n"),
        (dependencies.check_imports, "python/cenote/cli.py", "try:\n    import nixl\nexcept ImportError:\n    nixl = None\n"),
    ],
)
def test_lookalike_passes(rule: Rule, path: str, text: str) -> None:
    assert rule(tree_with(**{path: text})) == []


def test_known_giant_may_shrink_but_not_grow() -> None:
    def said(limit: int) -> list[str]:
        listed = f"source/base/clock.cc grow {limit}\n"
        tree = tree_with(**{"source/base/clock.cc": LONG, "tests/tidy/long_functions.txt": listed})
        return [violation.what for violation in shape.check_functions(tree)]

    assert said(83) == []
    assert said(82) == ["grow() has 83 lines, the limit is 82"]
    assert said(90) == ["grow() shrank to 83 lines"]
