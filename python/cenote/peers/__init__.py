"""Rivals of the fabric, measured beside it: one-sided reads of 1 MiB chunks between two processes of this host, over TCP.

They come from PyPI into an environment of their own ($XDG_CACHE_HOME/cenote/peers), made on the first use: their dependencies must not meet
Cenote's.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from cenote.errors import Error

REQUIREMENTS = ("numpy==2.4.6", "mooncake-transfer-engine-non-cuda==0.3.13.post1", "nixl==1.5.1")
# Label of the figure -> script beside this file, and what makes the library use TCP.
PEERS = {"Mooncake tcp": ("read_mooncake.py", {"MC_LOG_LEVEL": "WARNING"}), "NIXL UCX tcp": ("read_nixl.py", {"UCX_TLS": "tcp", "UCX_LOG_LEVEL": "error"})}
_INSTALL_TIMEOUT_S = 900
_TIMEOUT_S = 180


def _environment_directory() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "cenote" / "peers"


def _ensure(report: Callable[[str], None]) -> Path:
    """Its Python. A half-made environment is made anew."""
    directory = _environment_directory()
    python = directory / "bin" / "python"
    stamp = directory / "requirements"
    wanted = "\n".join(REQUIREMENTS)
    if stamp.is_file() and stamp.read_text() == wanted:
        return python
    report("installing Mooncake and NIXL into an environment of their own")
    shutil.rmtree(directory, ignore_errors=True)
    directory.parent.mkdir(parents=True, exist_ok=True)
    for command in ([sys.executable, "-m", "venv", str(directory)], [str(python), "-m", "pip", "install", "-q", *REQUIREMENTS]):
        try:
            ran = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            raise Error("deadline_exceeded", f"installing {REQUIREMENTS[1:]} took more than {_INSTALL_TIMEOUT_S} s") from error
        if ran.returncode != 0:
            raise Error("unavailable", f"the peers cannot be installed: {(ran.stderr.strip() or ran.stdout.strip())[-400:]}")
    stamp.write_text(wanted)
    return python


def measure(report: Callable[[str], None] = lambda _: None) -> dict[str, float]:
    """GB/s of each, median of its passes. Every byte read is checked."""
    python = _ensure(report)
    found: dict[str, float] = {}
    for label, (script, variables) in PEERS.items():
        report(f"measuring {label}")
        path = Path(__file__).with_name(script)
        try:
            ran = subprocess.run([str(python), str(path)], capture_output=True, text=True, timeout=_TIMEOUT_S, env=os.environ | variables)
        except subprocess.TimeoutExpired as error:
            raise Error("deadline_exceeded", f"{label} gave no figure within {_TIMEOUT_S} s") from error
        lines = [line for line in ran.stdout.splitlines() if line.startswith("{")]
        if ran.returncode != 0 or not lines:
            raise Error("internal", f"{label} failed: {ran.stderr.strip()[-400:]}")
        found[label] = round(float(json.loads(lines[-1])["gb_per_s"]), 3)
    return found
