"""What readers notice of a repair: cold requests before and while a lost memory server's blocks are copied.

A cluster of its own: three memory servers, two replicas, one agent with one device, on this machine. One caller asks for a model of 64 MiB that lies nowhere on
the host, again and again. Fillers give the repair something to do. In each round one memory server is killed (SIGKILL); it comes back with
nothing, and what it held is copied to it from the others at memory.repair_gb_per_s. A request counts as `repairing` if copies were under way
before and after it.
wait_ms: how long the request waited for its weights (its waterfall); request_ms: what the caller waited for the answer.

Example: PYTHONPATH=python CENOTE_BUILD=build/release .venv/bin/python tests/bench/repair_readers.py --rounds 6
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from cenote import temperatures
from cenote.cluster import Cluster
from cenote.private_cluster import private_cluster

SERVERS = 3
WIDTH = 2048
LAYERS = 4  # 16 MiB each.
FILLER_WIDTH = 8192  # 256 MiB each.
PATIENCE_S = 120.0


def _settings(gb_per_s: float) -> str:
    memory = ""
    for i in range(SERVERS):
        memory += f'[[memory]]\nport = {7710 + 2 * i}\nfabric_port = {7711 + 2 * i}\ncapacity = "2 GiB"\nrepair_gb_per_s = {gb_per_s}\n'
    agent = '[[agent]]\ncache_capacity = "640 MiB"\n[[agent.device]]\nname = "host:0"\nthreads = 1\n'
    return f"[[router]]\nport = 7701\n{memory}{agent}[placement]\nreplicas = 2\n"


def _until(what: str, true: Callable[[], Any]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not true():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {PATIENCE_S:.0f} s")
        time.sleep(0.02)


def _repair(cluster: Cluster) -> dict[str, Any]:
    return cluster.status()["repair"]


def _whole(cluster: Cluster) -> bool:
    repair = _repair(cluster)
    return not repair["short_blocks"] and not repair["copying"] and min(m["replicas_min"] for m in cluster.models()) == 2


class Readers:
    """One caller, and what its cold requests took: (wait ms, request ms)."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        torch.manual_seed(1)
        model = torch.nn.Sequential(*(torch.nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(LAYERS))).eval()
        cluster.deploy(model, (torch.zeros(1, WIDTH),), name="read")
        name = cluster.card("read").signature["inputs"][0]["name"]
        self.inputs = [(name, torch.zeros(1, WIDTH))]

    def ask(self) -> tuple[float, float]:
        temperatures.make_cold(self.cluster, "read")
        waterfall = self.cluster.ask_flat("read", self.inputs, deadline_s=60.0).waterfall
        if waterfall.temperature != "cold":
            raise RuntimeError(f"a request for what was evicted was {waterfall.temperature}")
        return waterfall.stages_us["wait_us"] / 1e3, waterfall.client_us / 1e3


def _fill(cluster: Cluster, fillers: int) -> None:
    for number in range(fillers):
        torch.manual_seed(100 + number)
        model = torch.nn.Linear(FILLER_WIDTH, FILLER_WIDTH, bias=False).eval()
        name = f"filler-{number}"
        cluster.deploy(model, (torch.zeros(1, FILLER_WIDTH),), name=name)
        temperatures.make_cold(cluster, name)


def _spread(samples: list[tuple[float, float]], which: int) -> dict[str, float]:
    values = sorted(sample[which] for sample in samples)
    return {"p50": round(statistics.median(values), 2), "p95": round(values[int(len(values) * 0.95)], 2)}


def _round(cluster: Cluster, readers: Readers, victim: str, quiet_samples: int) -> tuple[list[Any], list[Any], dict[str, Any]]:
    quiet = [readers.ask() for _ in range(quiet_samples)]
    before = _repair(cluster)["copied_bytes"]
    (pid,) = [m["pid"] for m in cluster.status()["members"] if m["name"] == victim]
    os.kill(pid, signal.SIGKILL)
    _until("copies begin", lambda: _repair(cluster)["copying"])
    begun = time.monotonic()
    repairing = []
    while True:
        sample = readers.ask()
        if not _repair(cluster)["copying"]:
            break
        repairing.append(sample)
    seconds = time.monotonic() - begun
    _until("every block has its replicas", lambda: _whole(cluster))
    copied = _repair(cluster)["copied_bytes"] - before
    return quiet, repairing, {"server": victim, "seconds": round(seconds, 2), "gb": round(copied / 1e9, 3)}


def measure(rounds: int, fillers: int, gb_per_s: float, quiet_samples: int) -> dict[str, Any]:
    quiet: list[Any] = []
    repairing: list[Any] = []
    repairs = []
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "repair.toml"
        settings.write_text(_settings(gb_per_s))
        with private_cluster(settings, name="repair-readers") as own:
            readers = Readers(own.cluster)
            _fill(own.cluster, fillers)
            _until("every block has its replicas", lambda: _whole(own.cluster))
            for _ in range(3):
                readers.ask()
            for number in range(rounds):
                one = _round(own.cluster, readers, f"memory-{number % SERVERS}", quiet_samples)
                quiet += one[0]
                repairing += one[1]
                repairs.append(one[2])
    figures = {
        kind: {"requests": len(samples), "wait_ms": _spread(samples, 0), "request_ms": _spread(samples, 1)}
        for kind, samples in (("quiet", quiet), ("repairing", repairing))
    }
    ratios = {key: round(figures["repairing"][key]["p50"] / figures["quiet"][key]["p50"], 3) for key in ("wait_ms", "request_ms")}
    return {"repair_gb_per_s": gb_per_s, **figures, "p50_ratio": ratios, "repairs": repairs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6, help="servers killed, one after the other")
    parser.add_argument("--fillers", type=int, default=6, help="models of 256 MiB that nobody asks for")
    parser.add_argument("--gb-per-s", type=float, default=0.25, help="memory.repair_gb_per_s; 0: not paced")
    parser.add_argument("--quiet-samples", type=int, default=25, help="requests before each round's loss")
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.rounds, arguments.fillers, arguments.gb_per_s, arguments.quiet_samples), indent=2))


if __name__ == "__main__":
    main()
