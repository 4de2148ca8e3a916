"""Puts a model where a measurement wants it: nowhere on the host (cold), in the host's cache and mapped (cached), or run before (resident).

Definitions: cold: nothing of the model on the host, executors warmed by others; cached: in the host's cache, then mapped and
warmed at assignment by an executor that never ran it for anyone; resident: run before.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from cenote import processes
from cenote.cluster import Cluster
from cenote.errors import Error

_POLL_S = 0.02
READY = ("mapped", "resident")


def executors(cluster: Cluster) -> list[dict[str, Any]]:
    return [e for member in cluster.status()["members"] if member["role"] == "agent" for e in member["executors"]]


def readiness(cluster: Cluster, model: str) -> dict[str, str]:
    """Device -> how ready it says it is."""
    info = cluster.resolve(model)
    return {device: state["readiness"] for device, state in zip(info["devices"], info["ready"], strict=True)}


def _until(what: str, true: Callable[[], bool], timeout_s: float) -> None:
    end = time.monotonic() + timeout_s
    while not true():
        if time.monotonic() > end:
            raise Error("deadline_exceeded", f"{what}: not within {timeout_s:g} s; `cenote status` and `cenote logs` say more")
        time.sleep(_POLL_S)


def make_cold(cluster: Cluster, model: str, timeout_s: float = 60.0) -> None:
    """Evicts it and waits until no device has anything of it."""
    cluster.evict(model)
    _until(f"evict '{model}'", lambda: all(state == "none" for state in readiness(cluster, model).values()), timeout_s)


def wait_ready(cluster: Cluster, model: str, timeout_s: float = 120.0) -> None:
    """Until every device that may serve it reports it mapped or resident, as they do after a deploy without being asked."""
    _until(f"'{model}' ready", lambda: all(state in READY for state in readiness(cluster, model).values()), timeout_s)


def wait_resident(cluster: Cluster, model: str, timeout_s: float = 60.0) -> None:
    """Until the device that answered last says so: an evicted model is loaded by requests only."""
    _until(f"'{model}' resident", lambda: "resident" in readiness(cluster, model).values(), timeout_s)


def restart_executors(cluster: Cluster, timeout_s: float = 60.0) -> float:
    """SIGKILLs every executor; returns when all are back. The host's cache stays. Returns the seconds that took."""
    before = {e["name"]: e["incarnation"] for e in executors(cluster)}
    begun = time.monotonic()
    for executor in executors(cluster):
        started = processes.start_time(executor["pid"])
        if started is not None:
            processes.kill(executor["pid"], started)

    def all_back() -> bool:
        now = {e["name"]: e for e in executors(cluster)}
        return all(n in now and now[n]["incarnation"] not in (0, old) and now[n]["address"] for n, old in before.items())

    _until("executors back", all_back, timeout_s)
    return time.monotonic() - begun


def assign(cluster: Cluster, model: str) -> None:
    """Publishes it anew, which ends the effect of evict(): devices prefetch it again."""
    info = cluster.resolve(model)
    cluster.publish(f"{info['name']}@{info['record']['digest']}", "latest")


def make_cached(cluster: Cluster, model: str, timeout_s: float = 120.0) -> None:
    """Of a model in the host's cache: fresh executors have it mapped and warm, and no request was sent to it."""
    restart_executors(cluster, timeout_s)
    assign(cluster, model)
    wait_ready(cluster, model, timeout_s)
