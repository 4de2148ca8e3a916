"""Finds the build: the native module `_native`, and the programs beside it.

$CENOTE_BUILD names a build directory; without it the release build of this checkout is taken, then the newest other one.
"""

from __future__ import annotations

import functools
import importlib.machinery
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

from cenote.errors import Error

SOURCE_ROOT = Path(__file__).resolve().parents[2]
_PREFERRED = ("release", "dev")


def _holds_module(directory: Path) -> bool:
    return any((directory / "lib").glob("_native*.so"))


@functools.cache
def build_directory() -> Path:
    named = os.environ.get("CENOTE_BUILD")
    if named:
        directory = Path(named).resolve()
        if not _holds_module(directory):
            raise Error(
                "not_found",
                f"CENOTE_BUILD={named}: no lib/_native*.so there; build it with `ninja -C {named}` or unset the variable",
            )
        return directory
    builds = SOURCE_ROOT / "build"
    for preset in _PREFERRED:
        if _holds_module(builds / preset):
            return builds / preset
    others = [path.parent.parent for path in builds.glob("*/lib/_native*.so")]
    if not others:
        raise Error(
            "not_found",
            f"no build of Cenote under {builds}; make one with `cmake --preset release && cmake --build --preset release`",
        )
    return max(others, key=lambda path: max(so.stat().st_mtime for so in (path / "lib").glob("_native*.so")))


def program(name: str) -> Path:
    """The path of a program of the build, such as `cenoted`."""
    path = build_directory() / "bin" / name
    if not os.access(path, os.X_OK):
        raise Error("not_found", f"{path} is not there; build it with `ninja -C {build_directory()} {name}`")
    return path


@functools.cache
def load() -> ModuleType:
    """The native module. ~15 ms the first time (gRPC), so only for calls that need it."""
    present = sys.modules.get("cenote._native")
    if present is not None:
        return present
    (path, *_) = sorted((build_directory() / "lib").glob("_native*.so"))
    loader = importlib.machinery.ExtensionFileLoader("cenote._native", str(path))
    spec = importlib.util.spec_from_file_location("cenote._native", str(path), loader=loader)
    assert spec is not None
    try:
        module = importlib.util.module_from_spec(spec)
    except ImportError as error:
        raise Error("unimplemented", f"{path} does not load: {error}; rebuild it with the Python that runs `cenote`") from error
    loader.exec_module(module)
    sys.modules["cenote._native"] = module
    return module
