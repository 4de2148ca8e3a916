"""The repository as the rules see it: tracked files and their text. Self-tests make small trees of their own."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[2]

CODE = {".cc", ".h", ".cu", ".py", ".sh", ".proto", ".cmake"}


@dataclass(frozen=True)
class Violation:
    """One broken rule: where, what, and what to do instead."""

    path: str
    line: int  # 0: the file as a whole.
    what: str
    remedy: str

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}" if self.line else self.path
        return f"{place}: {self.what}. {self.remedy}"


@dataclass
class Tree:
    """Paths (relative, with /) and texts; `sizes` in bytes. Binary files have a size and no text."""

    texts: dict[str, str]
    sizes: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of_checkout(cls, root: Path = ROOT) -> Tree:
        """Every file that git tracks, as it lies in the working tree."""
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, check=True, capture_output=True, text=True)
        tree = cls({})
        for name in filter(None, listed.stdout.split("\0")):
            path = root / name
            if not path.is_file():  # Deleted in the working tree, or a submodule.
                continue
            data = path.read_bytes()
            tree.sizes[name] = len(data)
            try:
                tree.texts[name] = data.decode()
            except UnicodeDecodeError:
                continue
        return tree

    def under(self, folder: str, *suffixes: str) -> list[str]:
        """Text files below `folder` ("" for all) that end in one of `suffixes` (all, if none is given)."""
        prefix = f"{folder}/" if folder else ""
        return [
            path
            for path in sorted(self.texts)
            if path.startswith(prefix) and (not suffixes or PurePosixPath(path).suffix in suffixes)
        ]

    def code(self) -> list[str]:
        return [
            path
            for path in self.under("")
            if PurePosixPath(path).suffix in CODE or PurePosixPath(path).name == "CMakeLists.txt"
            or self.texts[path].startswith("#!")
        ]

    def lines(self, path: str) -> list[tuple[int, str]]:
        return list(enumerate(self.texts[path].splitlines(), start=1))
