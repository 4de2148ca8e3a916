"""/proc and /sys as they are: entries that are missing, unreadable, cut off or nonsense read as nothing. Nothing here raises."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_TEXT_BYTES_MAX = 1 << 20
_ENTRIES_MAX = 4096


@dataclass(frozen=True)
class Sysfs:
    """A tree, the machine's own unless a test makes one."""

    root: Path = Path("/")

    def text(self, path: str) -> str:
        """"" where there is none."""
        try:
            with open(self.root / path, "rb") as file:
                return file.read(_TEXT_BYTES_MAX).decode(errors="replace").strip("\0 \t\n")
        except (OSError, ValueError):
            return ""

    def number(self, path: str, base: int = 10) -> int | None:
        try:
            return int(self.text(path).split()[0], base)
        except (ValueError, IndexError):
            return None

    def names(self, path: str) -> list[str]:
        """What lies in a folder, numbers in their order."""
        try:
            found = [entry.name for entry, _ in zip((self.root / path).iterdir(), range(_ENTRIES_MAX), strict=False)]
        except OSError:
            return []
        return sorted(found, key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() and len(name) < 10 else 0, name))

    def exists(self, path: str) -> bool:
        try:
            return (self.root / path).exists()
        except OSError:
            return False

    def fields(self, path: str) -> dict[str, int]:
        """"Name: 12 kB" lines, such as meminfo's; kB become bytes. Lines that are none are left out."""
        found = {}
        for line in self.text(path).splitlines():
            key, _, value = line.partition(":")
            words = value.split()
            if words and words[0].isdecimal() and len(words[0]) < 19:
                found[key.strip()] = int(words[0]) * (1024 if words[1:] == ["kB"] else 1)
        return found
