"""Runs cells one after another on one cluster; after a cell that failed, on a new one."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from tests.faults import report
from tests.faults.cells import Cell, inflicted
from tests.faults.checks import Baseline, measure, whole_again
from tests.faults.hosts import Hosts, hosts_up
from tests.faults.load import Workload
from tests.faults.report import Outcome

_BEFORE_S = 0.5  # The load runs for so long before the fault, and again after it.


def _run_cell(cell: Cell, hosts: Hosts, workload: Workload, before: Baseline, seed: int) -> Outcome:
    outcome = Outcome(cell)
    begun = time.monotonic()
    try:
        with workload.running(cell.state, cell.target) as load:
            if cell.state != "drain":  # That is under way at once.
                time.sleep(_BEFORE_S)
            with inflicted(cell, hosts, workload, seed):
                pass
            healed = time.monotonic()
            time.sleep(_BEFORE_S)
        outcome.broken += load.broken
        outcome.answered, outcome.deployed, outcome.retried, outcome.slowest_s = load.answered, load.deployed, load.retried, load.slowest_s
        _, broken = whole_again(hosts, workload, before)
        outcome.whole_s = time.monotonic() - healed
        outcome.broken += broken
    except Exception as error:
        outcome.broken.append(f"{type(error).__name__}: {error}")
    outcome.seconds = time.monotonic() - begun
    return outcome


def run_cells(cells: list[Cell], directory: Path, seed: int, junit: Path | None) -> bool:
    outcomes: list[Outcome] = []
    left = list(cells)
    attempt = 0
    while left:
        attempt += 1
        folder = directory / f"cluster-{attempt}"
        folder.mkdir()
        with hosts_up(folder) as hosts:
            print(f"cluster up: {len(hosts.everyone())} daemons on {len(hosts.network.hosts)} hosts; logs in {folder}/*/logs", flush=True)
            workload = Workload(hosts)
            before = measure(hosts)
            while left:
                outcome = _run_cell(left.pop(0), hosts, workload, before, seed)
                outcomes.append(outcome)
                print(f"[{len(outcomes)}/{len(cells)}] {outcome.line()}", flush=True)
                for text in outcome.broken:
                    print(f"      {text}", flush=True)
                if outcome.broken:
                    print(hosts.logs(), flush=True)
                    break
        shutil.copytree(folder, directory / f"kept-{attempt}", ignore=shutil.ignore_patterns("filler"), dirs_exist_ok=True)
    print()
    print(report.table(outcomes))
    failed = sum(1 for outcome in outcomes if outcome.broken)
    print(f"\n{len(outcomes) - failed} passed, {failed} failed")
    if junit is not None:
        report.write_junit(junit, outcomes)
    return failed == 0
