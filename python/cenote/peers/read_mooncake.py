"""Mooncake's TransferEngine, protocol tcp."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import transfer  # Beside this file.


def _engine(array: np.ndarray) -> Any:
    try:
        from mooncake.engine import TransferEngine
    except ImportError as error:
        raise SystemExit(f"Mooncake does not load: {error}") from error
    engine = TransferEngine()
    if engine.initialize("127.0.0.1", "P2PHANDSHAKE", "tcp", "") != 0 or engine.register_memory(array.ctypes.data, transfer.SIZE) != 0:
        raise SystemExit("Mooncake's engine does not start")
    return engine


_kept: list[Any] = []


def serve(array: np.ndarray) -> dict[str, Any]:
    engine = _engine(array)
    _kept.append(engine)
    return {"server": f"127.0.0.1:{engine.get_rpc_port()}", "address": array.ctypes.data}


def read(array: np.ndarray, where: dict[str, Any]) -> Callable[[], None]:
    engine = _engine(array)
    count = transfer.SIZE // transfer.CHUNK
    targets = [array.ctypes.data + i * transfer.CHUNK for i in range(count)]
    sources = [where["address"] + i * transfer.CHUNK for i in range(count)]

    def once() -> None:
        if engine.batch_transfer_sync_read(where["server"], targets, sources, [transfer.CHUNK] * count) != 0:
            raise SystemExit("Mooncake's read failed")

    return once


if __name__ == "__main__":
    transfer.run(serve, read)
