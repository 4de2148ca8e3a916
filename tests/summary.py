"""Adds up the results of the steps of tests/run.sh: each step's own summary line, then "N passed, N failed[, N skipped]".

A step counts its tests by the JUnit file RESULTS/ID.xml that ctest or pytest wrote. A step that failed without a failed test in
that file (a build, a crash of the runner, a sanitizer's report) counts as one failure. Exit code 1 if anything failed.
"""

from __future__ import annotations

import argparse
import re
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

# ctest: "100% tests passed, 0 tests failed out of 12". pytest: "=== 5 passed, 1 skipped in 3.20s ===".
OWN_SUMMARY = re.compile(r"^(\d+% tests passed, .*|=+ .* in [\d.]+s.* =+)$", re.MULTILINE)


@dataclass
class Counts:
    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed" + (f", {self.skipped} skipped" if self.skipped else "")


def count_junit(path: Path) -> Counts:
    """Test cases of a JUnit file; none if it is missing or cut off."""
    counts = Counts()
    try:
        cases = list(ElementTree.parse(path).iter("testcase"))
    except (OSError, ElementTree.ParseError):
        return counts
    for case in cases:
        kinds = {child.tag for child in case}
        if kinds & {"failure", "error"} or case.get("status") == "fail":
            counts.failed += 1
        elif "skipped" in kinds or case.get("status") in ("notrun", "disabled"):
            counts.skipped += 1
        else:
            counts.passed += 1
    return counts


def why_skipped(path: Path) -> str:
    """The reason that the first test left out in a JUnit file gives."""
    try:
        return next((case.get("message", "") for case in ElementTree.parse(path).iter("skipped")), "")
    except (OSError, ElementTree.ParseError):
        return ""


def own_summary(log: Path) -> str | None:
    """The last summary line that ctest or pytest printed into `log`."""
    try:
        found = OWN_SUMMARY.findall(log.read_text(errors="replace"))
    except OSError:
        return None
    return found[-1] if found else None


def summarize(logs: Path, steps: list[tuple[str, str]], failed_steps: list[str]) -> tuple[list[str], Counts]:
    """Lines to print, and the sum. `steps`: (id, title) of each test step; failed steps besides them (builds) count too."""
    lines: list[str] = []
    total = Counts()
    for step, title in steps:
        counts = count_junit(logs / "results" / f"{step}.xml")
        if step in failed_steps and counts.failed == 0:
            counts.failed = 1
        total = Counts(
            total.passed + counts.passed, total.failed + counts.failed, total.skipped + counts.skipped
        )
        summary = own_summary(logs / f"{step}.log") if counts != Counts() else None
        if counts.skipped and not counts.passed and not counts.failed:
            lines.append(f"{title}: left out, {why_skipped(logs / 'results' / f'{step}.xml') or 'no reason given'}")
        elif summary:
            lines.append(f"{title}: {summary}")
        elif counts.failed:
            lines.append(f"{title}: failed")
    total.failed += len([step for step in failed_steps if step not in {name for name, _ in steps}])
    return lines, total


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--logs", type=Path, required=True, help="folder of the steps' logs; results/ID.xml below it")
    parser.add_argument("--failed-steps", default="", help="ids, separated by blanks")
    parser.add_argument("steps", nargs="*", help="ID:TITLE of each test step")
    options = parser.parse_args()
    steps = [(step, title) for step, _, title in (word.partition(":") for word in options.steps)]
    lines, total = summarize(options.logs, steps, options.failed_steps.split())
    print("\n".join([*lines, str(total)]))
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main())
