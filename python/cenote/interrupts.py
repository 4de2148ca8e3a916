"""Ctrl-C that is not lost: libraries swallow a KeyboardInterrupt now and then, so whoever is about to do what cannot be undone asks again."""

from __future__ import annotations

import signal
from types import FrameType

_asked = False


def _on_signal(_signal: int, _frame: FrameType | None) -> None:
    global _asked
    _asked = True
    raise KeyboardInterrupt


def install() -> None:
    """For a program's main: SIGTERM means the same as Ctrl-C. An ignored SIGINT (a job in the background of a script) stays ignored."""
    signal.signal(signal.SIGTERM, _on_signal)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _on_signal)


def asked() -> bool:
    return _asked


def check() -> None:
    """KeyboardInterrupt, if one was asked for before."""
    if _asked:
        raise KeyboardInterrupt
