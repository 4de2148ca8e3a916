"""The audit log: who changed what, when, and how it ended.

STATE/audit/controller.jsonl is the controller's (source/store/audit_log.h), STATE/audit/local.jsonl of tools on the cluster's own machine
(certificates, restore). JSON, one object a line, append only, on the disk before the change is answered; at FILE_BYTES_MAX a file
becomes NAME.jsonl.1 and the one before it goes. An entry of the controller has two lines: phase "begin" before, phase "end" after
the change, with the same id; one without an end was under way when the controller died.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cenote.errors import Error

DIRECTORY = "audit"
FILE_BYTES_MAX = 8 << 20  # Of the tools' own file.
_LINE_BYTES_MAX = 64 << 10


@dataclass
class Entry:
    action: str
    what: dict[str, Any]


def now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _append(path: Path, line: dict[str, Any]) -> None:
    """On the disk when it returns. An error means that nothing may be changed."""
    data = (json.dumps(line, sort_keys=True) + "\n").encode()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size + len(data) > FILE_BYTES_MAX:
            path.replace(path.with_name(path.name + ".1"))
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":  # A crash cut the last line short: this one is not to be lost with it.
            data = b"\n" + data
        written = os.write(descriptor, data)
        if written != len(data):
            raise Error("resource_exhausted", f"{path}: {written} of {len(data)} bytes of an entry could be written; free some space")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def local(state_directory: Path, action: str, what: dict[str, Any]) -> Iterator[Entry]:
    """Around a change made on the cluster's own machine: it is written down before it is made, and its outcome after.

    What cannot be written down is not done: the body does not run.
    """
    from cenote.certificates import user_name

    entry = Entry(action, dict(what))
    path = state_directory / DIRECTORY / "local.jsonl"
    who = {"subject": user_name(), "role": "operator", "tenant": "", "peer": f"local uid {os.getuid()}", "serial": ""}
    common = {"id": secrets.token_hex(8), "action": action, "who": who}
    _append(path, common | {"time": now(), "phase": "begin", "what": entry.what})
    try:
        yield entry
    except BaseException as error:
        code = error.code if isinstance(error, Error) else "unknown"
        _append(path, common | {"time": now(), "phase": "end", "what": entry.what, "outcome": code, "message": str(error)[:1024]})
        raise
    _append(path, common | {"time": now(), "phase": "end", "what": entry.what, "outcome": "ok", "message": ""})


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with open(path, "rb") as file:
            while raw := file.readline(_LINE_BYTES_MAX):
                with contextlib.suppress(ValueError):  # A line that a crash cut short, or a file that is not one.
                    line = json.loads(raw)
                    if isinstance(line, dict) and isinstance(line.get("id"), str) and isinstance(line.get("time"), str):
                        yield line
    except FileNotFoundError:
        return


def read(state_directory: Path) -> list[dict[str, Any]]:
    """All entries, oldest first: time, ended, id, action, who, what, outcome, message. outcome "unfinished": no end was written."""
    directory = state_directory / DIRECTORY
    entries: dict[str, dict[str, Any]] = {}
    for name in ("controller", "local"):
        for path in (directory / f"{name}.jsonl.1", directory / f"{name}.jsonl"):
            for line in _lines(path):
                entry = entries.setdefault(line["id"], {"time": line["time"], "ended": None, "outcome": "unfinished", "message": ""})
                entry |= {key: line[key] for key in ("id", "action", "who", "what") if key in line}
                if line.get("phase") == "end":
                    entry |= {"ended": line["time"], "outcome": line.get("outcome", "unknown"), "message": line.get("message", "")}
    return sorted(entries.values(), key=lambda entry: entry["time"])
