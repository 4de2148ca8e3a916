"""Where a request's time went, as an executor tells it with each reply, and as bars."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cenote.show import format_bytes, format_ms

if TYPE_CHECKING:
    from rich.table import Table

# Field of message/infer.h, label, colour. Stages overlap: they need not sum to the total.
STAGES = (
    ("router_us", "router", "blue"),
    ("queue_us", "queue", "blue"),
    ("resolve_us", "resolve", "cyan"),
    ("network_us", "network", "yellow"),
    ("verify_us", "verify", "magenta"),
    ("copy_us", "map or copy", "bright_blue"),
    ("wait_us", "wait for weights", "red"),
    ("compute_us", "compute", "green"),
)
_EIGHTHS = " ▏▎▍▌▋▊▉█"


@dataclass(frozen=True)
class Waterfall:
    """Microseconds and bytes of one request; `client_us` is what the caller waited."""

    temperature: str  # cold, cached, resident
    stages_us: dict[str, int]
    total_us: int  # At the executor.
    client_us: int
    network_bytes: int
    copied_bytes: int

    @classmethod
    def read(cls, raw: Mapping[str, Any], client_us: int) -> Waterfall:
        stages = {field: raw[field] for field, _, _ in STAGES}
        return cls(raw["temperature"], stages, raw["total_us"], client_us, raw["network_bytes"], raw["copied_bytes"])

    def as_json(self) -> dict[str, Any]:
        return {
            "temperature": self.temperature,
            **self.stages_us,
            "total_us": self.total_us,
            "client_us": self.client_us,
            "network_bytes": self.network_bytes,
            "copied_bytes": self.copied_bytes,
        }


def bar(value: float, full: float, width: int) -> str:
    """A bar of eighths of a cell; anything above zero shows at least one."""
    if full <= 0 or value <= 0:
        return ""
    eighths = max(1, min(width * 8, round(value / full * width * 8)))
    return "█" * (eighths // 8) + (_EIGHTHS[eighths % 8] if eighths % 8 else "")


def draw(waterfall: Waterfall, *, full_us: int | None = None, width: int = 40) -> Table:
    """One line a stage, scaled so that `full_us` (default: this request's total) fills the width."""
    from rich.table import Table
    from rich.text import Text

    full = full_us or max(waterfall.client_us, 1)
    table = Table.grid(padding=(0, 1))
    table.add_column(justify="right", style="dim", min_width=17)
    table.add_column(min_width=width, max_width=width)
    table.add_column(justify="right", min_width=9)
    table.add_column(style="dim")
    extra = {
        "network_us": format_bytes(waterfall.network_bytes) if waterfall.network_bytes else "",
        "copy_us": format_bytes(waterfall.copied_bytes) if waterfall.copied_bytes else "",
    }
    for field, label, colour in STAGES:
        value = waterfall.stages_us[field]
        if value >= 10:
            table.add_row(label, Text(bar(value, full, width), style=colour), format_ms(value / 1000), extra.get(field, ""))
    if waterfall.client_us > waterfall.total_us:
        way = waterfall.client_us - waterfall.total_us
        table.add_row("there and back", Text(bar(way, full, width), style="blue"), format_ms(way / 1000), "")
    table.add_row("answer after", Text(bar(waterfall.client_us, full, width), style="bold white"), format_ms(waterfall.client_us / 1000), waterfall.temperature)
    return table
