"""What both peers' scripts do alike: a server process with known bytes, a client that reads them in passes and checks them. Runs in the
peers' own environment, where the package `cenote` is not."""

from __future__ import annotations

import json
import mmap
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

SIZE = 256 << 20
CHUNK = 1 << 20
PASSES = 7


def pattern() -> np.ndarray:
    return np.arange(SIZE // 8, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)


def buffer() -> np.ndarray:
    array = np.frombuffer(mmap.mmap(-1, SIZE), dtype=np.uint64)
    array[:] = 0
    return array


def run(serve: Callable[[np.ndarray], dict[str, Any]], read: Callable[[np.ndarray, dict[str, Any]], Callable[[], None]]) -> None:
    """`serve` registers the array and tells how to reach it; `read` connects and returns what reads it all once."""
    from_server, to_client = os.pipe()
    hold_read, hold_write = os.pipe()
    server = os.fork()
    if server == 0:
        os.close(hold_write)
        array = buffer()
        array[:] = pattern()
        os.write(to_client, (json.dumps(serve(array)) + "\n").encode())
        os.read(hold_read, 1)  # Until the client ends, however it does.
        os._exit(0)
    os.close(hold_read)
    with os.fdopen(from_server) as lines:
        where = json.loads(lines.readline())  # No deadline: the parent's is on all of this process.
    array = buffer()
    once = read(array, where)
    once()  # Connections and page faults.
    rates = []
    for _ in range(PASSES):
        array[:] = 0
        begun = time.perf_counter()
        once()
        rates.append(SIZE / (time.perf_counter() - begun) / 1e9)
    if not np.array_equal(array, pattern()):
        sys.stderr.write("the bytes read are not the bytes served\n")
        os._exit(1)
    print(json.dumps({"gb_per_s": statistics.median(rates)}), flush=True)
    os.close(hold_write)
    os.waitpid(server, 0)
    os._exit(0)  # The libraries' own threads would hold a normal exit up.
