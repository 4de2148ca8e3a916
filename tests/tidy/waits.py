"""Nothing waits for ever: each call that can has a deadline, or says beside it what ends it."""

from __future__ import annotations

import re

from tidy.tree import Tree, Violation

_REMEDY = "Give it a deadline; or say what ends it, on this line or above: 'No deadline: ...'"
_REASON = re.compile(r"(//|#).*No deadline: \w")
_CALL_ENDS = re.compile(r"\bset_(deadline|timeout)\(|silence_max")
_CPP = [
    r"\b\w+\.wait\((lock|guard)\b",              # A condition variable's; wait_for and wait_until have deadlines.
    r"\b\w+_?\.wait\((true|false|\w+), std::memory_order",
    r"\.join\(\)",
    r"\bfuture\w*\.(get|wait)\(\)",
    r"\bwaitpid\([^;]*, 0\)",
    r"\b(recv|accept)\(",
    r"\bpoll\([^;]*, -1\)",
    r"\bLOCK_EX\)|\bF_SETLKW\b",                  # Without LOCK_NB.
]  # fmt: skip
_PYTHON = [
    r"\.(wait|join|communicate|result|acquire|get)\(\)",
    r"\.readline\(\)",
    r"\bfor \w+ in [\w.]*\bstdout:",
    r"\bsubprocess\.(run|check_output|check_call)\((?!.*timeout)",
    r"\bselect\.select\([^,]*,[^,]*,[^,]*\)",
    r"\burlopen\((?!.*timeout)",
]  # fmt: skip
# Simulated time ends by itself; programs of measurements are children with a deadline.
_EXEMPT = ("source/simulate/", "source/bin/bench_")


def check_waits(tree: Tree) -> list[Violation]:
    found = []
    for folder, suffixes, patterns in (("source", (".cc", ".h"), _CPP), ("python", (".cc", ".h"), _CPP), ("python", (".py",), _PYTHON)):
        forever = re.compile("|".join(patterns))
        for path in tree.under(folder, *suffixes):
            if path.startswith(_EXEMPT):
                continue
            lines = [line for _, line in tree.lines(path)]
            if "grpc::ClientContext context" in tree.texts[path] and not _CALL_ENDS.search(tree.texts[path]):
                found.append(Violation(path, 0, "a call without a deadline", _REMEDY))
            for at, line in enumerate(lines):
                match = forever.search(line)
                if match is None or line.lstrip().startswith(("//", "#")) or "timeout=" in " ".join(lines[at : at + 4]):
                    continue
                if not any(_REASON.search(near) for near in lines[max(0, at - 1) : at + 1]):
                    found.append(Violation(path, at + 1, f"'{match.group(0)}'", _REMEDY))
    return found
