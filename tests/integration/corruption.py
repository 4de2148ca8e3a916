"""Bytes that change where they lie, as in failing memory or on a failing disk. Found by 16 numbers that stand before them."""

from __future__ import annotations

import os
from pathlib import Path

_SIGN_BYTE = 3          # Of the number after a sample, a little-endian float: what changes must be seen in the answer.
_EXPONENT_BIT = 0x40
_MAPPING_BYTES_MIN = 4 << 20


def flip_memory(pid: int, sample: bytes) -> int:
    """Changes the number after each occurrence of `sample` in a process's shared and large private mappings, as failing memory would.
    Returns how many."""
    flipped = 0
    machine_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
        for line in maps:
            span, rights, *_ = line.split()
            begin, end = (int(word, 16) for word in span.split("-"))
            # What is larger than the machine is a reservation: the shadow of a sanitizer, 14 TiB of it.
            if not _MAPPING_BYTES_MIN <= end - begin <= machine_bytes or not rights.startswith("rw") or "[" in line:
                continue
            try:
                memory.seek(begin)
                content = memory.read(end - begin)
            except OSError:
                continue
            at = content.find(sample)
            while 0 <= at < len(content) - len(sample) - _SIGN_BYTE:
                victim = at + len(sample) + _SIGN_BYTE
                memory.seek(begin + victim)
                memory.write(bytes([content[victim] ^ _EXPONENT_BIT]))
                flipped += 1
                at = content.find(sample, victim)
    return flipped


def flip_files(folder: Path, sample: bytes) -> int:
    """The same in every file below `folder`."""
    flipped = 0
    for path in folder.rglob("*"):
        if not path.is_file():
            continue
        content = bytearray(path.read_bytes())
        at = content.find(sample)
        victim = at + len(sample) + _SIGN_BYTE
        if at < 0 or victim >= len(content):
            continue
        with open(path, "r+b") as file:
            file.seek(victim)
            file.write(bytes([content[victim] ^ _EXPONENT_BIT]))
        flipped += 1
    return flipped
