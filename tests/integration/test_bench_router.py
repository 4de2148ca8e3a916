"""Goal: `cenote bench router` measures what it says, at a tiny scale; many idle callers stay within the router's bounds. Figures gate nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from cenote import bench_router
from cenote.private_cluster import private_cluster

MANY = 10_000  # Callers; with TESTS_LONG=1, as tests/run.sh --long says it. They take a minute and 3 GiB.


def bench(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "cenote.cli", "bench", "router", *arguments, "-o", "json"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    return dict(json.loads(ran.stdout))


def test_every_figure_is_there_and_makes_sense() -> None:
    result = bench("--rounds", "1", "--seconds", "0.5", "--outstanding", "8", "--idle", "40")
    assert result["requests_per_s"] > 0 and result["bare_requests_per_s"] > 0
    assert result["ratio"] == pytest.approx(result["requests_per_s"] / result["bare_requests_per_s"], rel=0.01)
    for load in ("one_outstanding", "full_load"):
        for way in bench_router.WAYS:
            figures = result[load][way]
            assert 0 < figures["p50_us"] <= figures["p99_us"], (load, way, figures)
    full = result["full_load"]
    assert full["router"]["router_cpu_us"] > full["executor"]["router_cpu_us"]  # Who asks the executor himself leaves the router alone.
    assert full["bare"]["relay_cpu_us"] > 0 and full["executor"]["executor_cpu_us"] > 0
    assert result["settings"]["request_bytes"] > 64 and result["settings"]["reply_bytes"] > 64  # 16 floats and their frame.
    assert result["idle_clients"]["connected"] == 40 and result["idle_clients"]["refusal"] == ""
    assert result["machine"]["cores"] == os.cpu_count() and result["build_type"]


def test_one_caller_more_than_sessions_max_is_told_so() -> None:
    overrides = ["router[0].sessions_max=30"]
    with bench_router.settings_file(8) as settings, private_cluster(settings, overrides, name="router") as own, bench_router.loads(own) as loads:
        got = loads.client.ask(way="idle", sessions=40)
        assert got["welcomed"] == 29  # The bench's own caller is one.
        assert "30 callers are connected here, router.sessions_max" in got["refusal"]
        assert loads.client.ask(way="router", outstanding=8, seconds=0.2)["failed"] == 0


@pytest.mark.skipif(not os.environ.get("TESTS_LONG"), reason="tests/run.sh --long runs it on the plain build; sanitizers need too long for so many connections")
def test_ten_thousand_callers_fit() -> None:
    with bench_router.settings_file(8) as settings, private_cluster(settings, name="router") as own, bench_router.loads(own) as loads:
        idle = bench_router.hold_idle(loads, MANY)
        assert idle["connected"] == MANY, idle
        assert idle["bytes_each"] < 512 << 10, idle
        with_them = loads.client.ask(way="router", outstanding=8, seconds=2.0)
        assert with_them["failed"] == 0 and with_them["requests"] > 0
