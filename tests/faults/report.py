"""What a run prints and writes: a line per cell as it ends, the table at the end, JUnit for tests/summary.py."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.cells import FAULTS, STATES, TARGETS, Cell, impossible


@dataclass
class Outcome:
    cell: Cell
    seconds: float = 0.0
    whole_s: float = 0.0  # From the end of the fault to full service.
    slowest_s: float = 0.0  # Of the requests under load.
    answered: int = 0
    deployed: int = 0
    retried: int = 0
    broken: list[str] = field(default_factory=list)

    def line(self) -> str:
        done = [f"whole {self.whole_s:.1f} s"]
        done += [f"{self.answered} answers, slowest {self.slowest_s:.2f} s"] if self.answered else []
        done += [f"{self.deployed} deploys"] if self.deployed else []
        done += [f"{self.retried} changes retried"] if self.retried else []
        return f"{'FAIL' if self.broken else 'ok  '} {str(self.cell):30} {self.seconds:5.1f} s  {', '.join(done)}"


def table(outcomes: list[Outcome]) -> str:
    """Rows: role and fault; columns: state. Numbers: seconds from the end of the fault to full service."""
    by_cell = {outcome.cell: outcome for outcome in outcomes}
    lines = [f"{'':22}" + "".join(f"{state:>10}" for state in STATES)]
    for role, fault in itertools.product(TARGETS, FAULTS):
        if all(impossible(role, fault, state) for state in STATES):
            continue
        row = []
        for state in STATES:
            outcome = by_cell.get(Cell(role, fault, state))
            row.append("-" if impossible(role, fault, state) else "" if outcome is None else "FAIL" if outcome.broken else f"{outcome.whole_s:.1f}")
        lines.append(f"{role + ' ' + fault:22}" + "".join(f"{text:>10}" for text in row))
    reasons: dict[str, list[str]] = {}
    for role, fault in itertools.product(TARGETS, FAULTS):
        if why := impossible(role, fault, "idle"):
            reasons.setdefault(why, []).append(f"{role} {fault}")
    return "\n".join([*lines, "", "Cells that do not exist:", *(f"  {why}: {', '.join(cells)}" for why, cells in reasons.items())])


def write_junit(path: Path, outcomes: list[Outcome], skipped: str | None = None) -> None:
    suite = ElementTree.Element("testsuite", name="faults")
    for outcome in outcomes:
        case = ElementTree.SubElement(suite, "testcase", name=str(outcome.cell), time=f"{outcome.seconds:.1f}")
        if outcome.broken:
            ElementTree.SubElement(case, "failure", message=outcome.broken[0][:500]).text = "\n".join(outcome.broken)
    if skipped is not None:
        ElementTree.SubElement(ElementTree.SubElement(suite, "testcase", name="faults"), "skipped", message=skipped)
    ElementTree.ElementTree(suite).write(path, encoding="utf-8", xml_declaration=True)
