"""NIXL, backend UCX; the environment chooses UCX's transports."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import transfer  # Beside this file.

_kept: list[Any] = []


def _agent(name: str, array: np.ndarray) -> Any:
    try:
        from nixl_cu13._api import nixl_agent, nixl_agent_config
    except ImportError as error:
        raise SystemExit(f"NIXL does not load: {error}") from error
    agent = nixl_agent(name, nixl_agent_config(enable_prog_thread=True, backends=["UCX"]))
    _kept.append((agent, agent.register_memory([(array.ctypes.data, transfer.SIZE, 0, "")], "DRAM")))
    return agent


def serve(array: np.ndarray) -> dict[str, Any]:
    agent = _agent("server", array)
    return {"metadata": base64.b64encode(agent.get_agent_metadata()).decode(), "address": array.ctypes.data}


def read(array: np.ndarray, where: dict[str, Any]) -> Callable[[], None]:
    agent = _agent("client", array)
    peer = agent.add_remote_agent(base64.b64decode(where["metadata"]))
    count = transfer.SIZE // transfer.CHUNK

    def chunks(base: int) -> Any:
        return agent.get_xfer_descs([(base + i * transfer.CHUNK, transfer.CHUNK, 0) for i in range(count)], "DRAM")

    def once() -> None:
        handle = agent.initialize_xfer("READ", chunks(array.ctypes.data), chunks(where["address"]), peer)
        state = agent.transfer(handle)
        while state == "PROC":
            time.sleep(0.0002)
            state = agent.check_xfer_state(handle)
        agent.release_xfer_handle(handle)
        if state != "DONE":
            raise SystemExit(f"NIXL's read ended as {state}")

    return once


if __name__ == "__main__":
    transfer.run(serve, read)
