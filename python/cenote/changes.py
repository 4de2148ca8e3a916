"""Asking the controller through its restarts: a change carries the id of its operation, so that asking again never makes it twice."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from cenote.errors import Error

# ask(call, *arguments, timeout_s): one try of a controller's call.
Ask = Callable[..., Any]
TRANSIENT = ("unavailable", "deadline_exceeded")
RETRY_FOR_S = 20.0
_TRY_S = 10.0
_PAUSE_S_MAX = 1.0


def new_operation() -> bytes:
    return os.urandom(16)


def patiently(ask: Ask, call: str, *arguments: Any, retry_for_s: float = RETRY_FOR_S) -> Any:
    """Again and again while nobody answers, for `retry_for_s` at most. Only for calls that may be made twice."""
    until = time.monotonic() + retry_for_s
    pause = 0.05
    while True:
        try:
            return ask(call, *arguments, max(0.1, min(_TRY_S, until - time.monotonic())))
        except Error as error:
            if error.code not in TRANSIENT or time.monotonic() + pause >= until:
                raise
        time.sleep(pause)
        pause = min(2 * pause, _PAUSE_S_MAX)
