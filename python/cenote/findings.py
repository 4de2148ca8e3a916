"""What `cenote doctor` finds: how bad it is, what it means, and the command that mends it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

# ok: as it should be. note: works, and could be better. warning: works worse than this machine could. error: something will not work.
Level = Literal["ok", "note", "warning", "error"]
DEGRADING: tuple[Level, ...] = ("warning", "error")


@dataclass(frozen=True)
class Finding:
    check: str
    level: Level
    text: str  # What is.
    meaning: str = ""  # What follows from it; empty where the text says it.
    remedy: str = ""  # A command, or a setting with its value.


Check = Callable[[], Iterator[Finding]]


def run(name: str, check: Check) -> list[Finding]:
    """All findings of a check; one that fails to run is a finding too, after those it came to before."""
    findings: list[Finding] = []
    try:
        findings.extend(check())
    except Exception as error:  # Whatever a strange machine makes of a check, the others still run.
        findings.append(Finding(name, "warning", f"could not be checked: {error}", "this part of the examination is missing", "cenote doctor"))
    return findings
