"""How answers appear: tables and bars for people, JSON for programs. Rich is imported only when something is drawn."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

_consoles: dict[bool, Any] = {}


def console(*, stderr: bool = False) -> Console:
    """Honours NO_COLOR; a pipe gets plain text, 120 columns wide."""
    if stderr not in _consoles:
        from rich.console import Console

        class Answer(Console):
            def on_broken_pipe(self) -> None:
                raise BrokenPipeError  # cli.py knows what `| head` means; Rich would exit with 1.

        stream = sys.stderr if stderr else sys.stdout
        _consoles[stderr] = Answer(stderr=stderr, width=None if stream.isatty() else 120, highlight=False, emoji=False)
    return _consoles[stderr]


def print_json(value: Any) -> None:
    json.dump(value, sys.stdout, indent=2, default=str)
    sys.stdout.write("\n")


def say(text: str, style: str | None = None) -> None:
    console().print(text, style=style, markup=False)


def note(text: str) -> None:
    """To standard error: what a program that reads the answer must not stumble over."""
    console(stderr=True).print(text, style="dim", markup=False)


def format_bytes(count: float) -> str:
    """As base/units.h writes them: "1.5 GiB", "930 MiB", "12 B"."""
    if count < 1024:
        return f"{count:.0f} B"
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        count /= 1024
        if count < 1023.5 or unit == "TiB":
            return f"{count:.1f} {unit}" if count < 9.95 else f"{count:.0f} {unit}"
    raise AssertionError


def format_ms(milliseconds: float) -> str:
    if milliseconds < 9.95:
        return f"{milliseconds:.2f} ms"
    return f"{milliseconds:.1f} ms" if milliseconds < 999.5 else f"{milliseconds / 1000:.2f} s"


def format_age(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[str] = ()) -> None:
    """Columns named in `right` are numbers. Cells may hold Rich markup; the caller escapes foreign text."""
    from rich import box
    from rich.table import Table

    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", show_edge=False)
    numbers = set(right)
    for column in columns:
        drawn.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*row)
    console().print(drawn)


def escape(text: str) -> str:
    from rich.markup import escape as rich_escape

    return rich_escape(text)


def byte_progress() -> Progress:
    """For long transfers; on standard error, gone when done. Silent where that is not a terminal."""
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    stream = console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(compact=True),
        console=stream,
        transient=True,
        disable=not stream.is_terminal,
    )
