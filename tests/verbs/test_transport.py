"""Goal: our transport keeps its word over real verbs. Method: its unit tests, provider verbs;ofi_rxm, all in one guest with an RDMA device.

Reads, writes, keys that are wrong, revoked or read-only, deadlines, peers that are killed, stopped, absent or vanish while they connect;
then real memory servers: slabs that are sealed, abandoned or expired take no more writes, and the arena takes none.
"""

from __future__ import annotations

import subprocess
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

import pytest
from verbs.conftest import ROOT, program
from verbs.guest import Guest

SERVERS = ("a_slab_cannot_be_written*", "the_arena_can_be_read*")
LIFE_S = 540  # 60 s on a machine that does nothing else.
pytestmark = pytest.mark.timeout(LIFE_S + 60)
PROGRAMS = {
    "fabric_conformance_test": "*verbs*",
    "fabric_process_test": "*verbs*",
    "bin_control_plane_test": ":".join(f"ControlPlane.{name}" for name in SERVERS),
}


def _cases() -> list[tuple[str, str]]:
    """(program, test) as the programs list them; a program that is not built is one case, which fails."""
    cases = []
    for name, tests in PROGRAMS.items():
        if not program(name).exists():
            cases.append((name, ""))
            continue
        listed = subprocess.run([program(name), "--gtest_list_tests", f"--gtest_filter={tests}"], capture_output=True, text=True, timeout=60)
        suite = ""
        for line in (line.split("#")[0].rstrip() for line in listed.stdout.splitlines()):
            if line.endswith("."):
                suite = line
            elif line.startswith("  "):
                cases.append((name, suite + line.strip()))
    return cases


@dataclass
class Ran:
    """What one guest made of all programs."""

    explained: str
    results: dict[tuple[str, str], ElementTree.Element]


@pytest.fixture(scope="module")
def ran(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    guest = Guest(tmp_path_factory.mktemp("guest"), seconds=LIFE_S, environment={"CENOTE_TEST_VERBS_ADDRESS": "10.77.0.1"})
    lines = [f"{program(name)} '--gtest_filter={tests}' --gtest_output=xml:/out/{name}.xml; echo '{name}: exit code '$?" for name, tests in PROGRAMS.items()]
    try:
        guest.start(made, ["bash", "-c", "\n".join(lines)], ROOT)
        guest.wait()
    finally:
        guest.kill()
    results = {}
    for name in PROGRAMS:
        if (guest.folder / f"{name}.xml").exists():
            for case in ElementTree.parse(guest.folder / f"{name}.xml").iter("testcase"):
                results[name, f"{case.get('classname')}.{case.get('name')}"] = case
    return Ran(guest.explain(), results)


@pytest.mark.parametrize(("name", "case"), _cases())
def test_verbs(ran: Ran, name: str, case: str) -> None:
    assert case, f"{program(name)} is not built"
    assert (name, case) in ran.results, f"{name} did not finish:\n{ran.explained}"
    result = ran.results[name, case]
    assert result.get("status") == "run", result.attrib
    failures = [failure.get("message", "") for failure in result.iter("failure")]
    assert not failures, "\n".join(failures)
    if result.get("result") == "skipped":
        pytest.skip(" ".join(skipped.get("message", "") for skipped in result.iter("skipped")).strip())
