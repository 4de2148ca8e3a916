"""Goal: tests/run.sh cannot hide a failure. Method: small plans run by third_party/progress.sh, small results summed by summary.py."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

import summary
from tidy.tree import ROOT

JUNIT = """<testsuites><testsuite><testcase name="a"/><testcase name="b"/>{extra}</testsuite></testsuites>"""


def plan(tmp_path: Path, body: str) -> list[str]:
    """The command line of a script that sources progress.sh, logs to `tmp_path` and goes on with `body`."""
    script = f'set -euo pipefail\n. "{ROOT}/third_party/progress.sh"\nprogress_begin "{tmp_path}"\n{body}\n'
    return ["bash", "-c", script]


def test_failing_command_inside_a_step_fails_the_step(tmp_path: Path) -> None:
    body = """
bad() { echo told; false; echo not reached; }
fine() { echo fine; }
plan one 1 test "first one" bad
plan two 1 must "second one" fine
plan three 1 must "third one" bad
plan four 1 must "fourth one" fine
run_plan
echo "broken=$PLAN_BROKEN failed=${FAILED_STEPS[*]}"
"""
    done = subprocess.run(plan(tmp_path, body), capture_output=True, text=True, timeout=60)
    assert "broken=three failed=one three" in done.stdout, done.stdout + done.stderr
    failure = r"\[1/4\] first one: FAILED after \d+ s \(exit code 1\)\. The end of its log, (.*):"
    assert re.search(failure, done.stdout).group(1) == f"{tmp_path}/one.log"
    assert (tmp_path / "one.log").read_text() == "told\n"
    assert "fourth" not in done.stdout
    assert (tmp_path / "two.seconds").exists() and not (tmp_path / "one.seconds").exists()


def test_long_step_says_how_far_it_is(tmp_path: Path) -> None:
    body = """
quiet() { sleep 2.2; }
counting() { echo "[3/4] Building x"; sleep 2.2; }
plan one 7 must "quiet one" quiet
plan two 9 must "counting one" counting
run_plan
"""
    environment = {**os.environ, "PROGRESS_EVERY": "1"}
    done = subprocess.run(plan(tmp_path, body), capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[1/2] quiet one: about 7 s, in all 16 s left" in done.stdout
    assert re.search(r"^      \d+ s, about \d+ s left$", done.stdout, re.MULTILINE)
    assert re.search(r"^      \d+ s, 3 of 4, about \d+ s left$", done.stdout, re.MULTILINE)


def test_interrupt_ends_what_the_step_started(tmp_path: Path) -> None:
    body = 'slow() { sleep 600 & echo $! >"$PROGRESS_DIR/child"; wait; }\nplan one 1 must "slow one" slow\nrun_plan\n'
    process = subprocess.Popen(plan(tmp_path, body), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    child = tmp_path / "child"
    deadline = time.monotonic() + 30
    while not (child.exists() and child.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    pid = int(child.read_text())
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 143
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.05)
    pytest.fail(f"the step's child {pid} outlived the interrupt")


def write_step(logs: Path, step: str, extra: str, own: str) -> None:
    (logs / "results").mkdir(exist_ok=True)
    (logs / "results" / f"{step}.xml").write_text(JUNIT.format(extra=extra))
    (logs / f"{step}.log").write_text(f"noise\n{own}\n")


def test_summary_adds_up_ctest_and_pytest(tmp_path: Path) -> None:
    write_step(tmp_path, "unit", "", "100% tests passed, 0 tests failed out of 2")
    write_step(tmp_path, "python", "<testcase><skipped/></testcase>", "==== 2 passed, 1 skipped in 1.20s ====")
    lines, total = summary.summarize(tmp_path, [("unit", "unit tests"), ("python", "Python tests")], [])
    assert lines == [
        "unit tests: 100% tests passed, 0 tests failed out of 2",
        "Python tests: ==== 2 passed, 1 skipped in 1.20s ====",
    ]
    assert str(total) == "4 passed, 0 failed, 1 skipped"


@pytest.mark.parametrize("extra", ["<testcase><failure/></testcase>", "<testcase><error/></testcase>", '<testcase status="fail"/>'])
def test_summary_counts_a_failed_case_once(tmp_path: Path, extra: str) -> None:
    write_step(tmp_path, "unit", extra, "67% tests passed, 1 tests failed out of 3")
    _, total = summary.summarize(tmp_path, [("unit", "unit tests")], ["unit"])
    assert str(total) == "2 passed, 1 failed"


def test_summary_says_why_a_whole_step_was_left_out(tmp_path: Path) -> None:
    results = tmp_path / "results"
    results.mkdir()
    case = '<testcase><skipped message="no QEMU here"/></testcase>'
    (results / "verbs.xml").write_text(f"<testsuites><testsuite>{case}{case}</testsuite></testsuites>")
    (tmp_path / "verbs.log").write_text("==== 2 skipped in 0.20s ====\n")
    lines, total = summary.summarize(tmp_path, [("verbs", "over verbs")], [])
    assert lines == ["over verbs: left out, no QEMU here"]
    assert str(total) == "0 passed, 0 failed, 2 skipped"


def test_summary_counts_steps_that_failed_without_a_failed_case(tmp_path: Path) -> None:
    write_step(tmp_path, "asan", "", "==== 2 passed in 1.20s ====")
    (tmp_path / "results" / "cut.xml").write_text("<testsuites><testsuite><testcase")
    steps = [("asan", "on sanitized daemons"), ("cut", "cut off"), ("never", "never ran")]
    _, total = summary.summarize(tmp_path, steps, ["asan", "cut", "build"])
    assert str(total) == "2 passed, 3 failed"
