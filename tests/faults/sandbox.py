"""Namespaces of our own for everything the matrix starts: they end with it, however it ends, and nothing of them is seen from outside."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

_INSIDE = "CENOTE_FAULTS_INSIDE"
_PROGRAMS = ("unshare", "ip", "tc", "mount")


def _flags() -> list[str]:
    flags = ["--mount", "--net", "--ipc", "--pid", "--fork", "--kill-child=SIGKILL", "--mount-proc", "--propagation", "private"]
    return flags if os.geteuid() == 0 else ["--user", "--map-root-user", *flags]


def unavailable() -> str | None:
    """Why this machine cannot have it, with the remedy; None: it can."""
    absent = [program for program in _PROGRAMS if shutil.which(program, path=_path()) is None]
    if absent:
        return f"{', '.join(absent)}: not installed; apt-get install util-linux iproute2"
    tried = subprocess.run(["unshare", *_flags(), "true"], capture_output=True, text=True, timeout=30)
    if tried.returncode != 0:
        return f"namespaces are refused here ({tried.stderr.strip()}); run as root, or allow user namespaces (sysctl kernel.unprivileged_userns_clone=1)"
    return None


def _path() -> str:
    return os.environ.get("PATH", "") + ":/usr/sbin:/sbin"  # Where Debian keeps ip and tc, and an account's PATH does not look.


def enter(arguments: list[str]) -> None:
    """Returns inside the sandbox; outside, becomes a process that waits for the one inside and ends as it does."""
    if os.environ.get(_INSIDE) == "1":
        _become_second()
        return
    environment = os.environ | {_INSIDE: "1", "PATH": _path()}
    command = ["unshare", *_flags(), sys.executable, "-m", "tests.faults", *arguments]
    os.execvpe("unshare", command, environment)


def _become_second() -> None:
    """The first process of a PID namespace inherits orphans and must bury them; the matrix itself is its child."""
    os.environ[_INSIDE] = "2"
    for directory in ("/dev/shm", "/run"):
        subprocess.run(["mount", "-t", "tmpfs", "cenote-faults", directory], check=True)
    Path("/run/netns").mkdir()
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    child = os.fork()
    if child:
        _reap_until(child)


def _reap_until(child: int) -> NoReturn:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The child of the same terminal hears it, and says how to end.
    signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGTERM))
    while True:
        with contextlib.suppress(InterruptedError, ChildProcessError):
            pid, status = os.wait()
            if pid == child:
                sys.stdout.flush()
                os._exit(os.waitstatus_to_exitcode(status) & 0xFF if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))
