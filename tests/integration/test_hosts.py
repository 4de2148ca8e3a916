"""Goal: what is shared on a host is shared: one fetch for all its devices, one copy of the weights, turns at the link. What is not shared
stays apart: two agents on one machine are two hosts, and so are two clusters.

Method: paced links, so that fetches last long enough to meet; the kernel's own word on pages and files.
"""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from integration.cases import Case, check, deploy_stacks
from integration.running import BringUp, Running, make, member, until, with_agents

from cenote import lifecycle, temperatures
from cenote.cluster import Answer, Cluster
from cenote.errors import Error

HOST_DEVICES = "".join(f'[[agent.device]]\nname = "host:{i}"\nthreads = 1\n\n' for i in range(2))


def _agent(name: str, devices: str, *, gb_per_s: float = 0, cache: str = "64 MiB", directory: str = "auto") -> str:
    return f"""[[agent]]
name = "{name}"
cache_capacity = "{cache}"
cache_directory = "{directory}"
read_timeout = "1s"
link_gb_per_s = {gb_per_s}

{devices}"""


def _emulated(models: list[list[str]]) -> str:
    """A device for each list of names that it may serve."""
    return "".join(
        f'[[agent.device]]\nname = "emulated:{i}"\nthreads = 1\nmemory = "64 MiB"\nmodels = {names}\n\n' for i, names in enumerate(models)
    )


def _fetched(cluster: Cluster, agent: str = "agent-0") -> int:
    return member(cluster, agent)["fetched_bytes"]


def _bytes_of(cluster: Cluster, model: str) -> int:
    """Of all its blocks: what a host that has nothing of it must read."""
    record = cluster.resolve(model, blocks=True)["record"]
    return sum(size for _, size in record["manifest_blocks"] + record["blocks"])


@dataclass
class Asked:
    """An answer and when it came, in seconds after all were asked."""

    answer: Answer
    at_s: float


def _ask_at_once(cluster: Cluster, cases: list[Case], *, lead_s: float = 0.0) -> list[Asked]:
    """All at the same time, but the first `lead_s` earlier. Checked against PyTorch's answers."""
    asked: dict[int, Asked] = {}
    begun = time.monotonic()

    def ask(index: int) -> None:
        name, x, expected = cases[index]
        answer = cluster.ask(name, (x,), deadline_s=60)
        asked[index] = Asked(answer, time.monotonic() - begun)
        torch.testing.assert_close(answer.outputs, expected, rtol=1e-5, atol=1e-6)

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(len(cases))]
    for index, thread in enumerate(threads):
        thread.start()
        if index == 0:
            time.sleep(lead_s)
    for thread in threads:
        thread.join()
    return [asked[index] for index in range(len(cases))]


def _cache_pages(pid: int) -> dict[str, int]:
    """Bytes of the cache that the process maps, as /proc/PID/smaps counts them: Rss, Pss, Private, ..."""
    counts: dict[str, int] = {}
    inside = False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            inside = line.endswith(".cache")
        elif inside and line.endswith(" kB"):
            key, number = line.split(":")
            key = "Private" if key.startswith("Private_") and "Hugetlb" not in key else key
            counts[key] = counts.get(key, 0) + int(number.split()[0]) * 1024
    return counts


def _anonymous(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"^RssAnon:\s+(\d+) kB", status, re.MULTILINE)[1]) * 1024


# ---- one host ---------------------------------------------------------------------------------------------------------------------


def test_two_executors_asked_at_once_for_a_cold_model_cost_one_fetch_and_one_copy(tmp_path: Path, bring_up: BringUp) -> None:
    running = bring_up(with_agents(tmp_path, _agent("agent-0", HOST_DEVICES, gb_per_s=0.1)))
    with running.connect() as cluster:
        (small,) = deploy_stacks(cluster, "small", 1, layers=2, width=64)
        temperatures.wait_ready(cluster, "small0")
        (big,) = deploy_stacks(cluster, "big", 1, layers=8, width=1024)
        weights = 8 * 1024 * 1024 * 4
        temperatures.make_cold(cluster, "big0")
        _ask_at_once(cluster, [small] * 4)
        executors = [e["pid"] for e in member(cluster, "agent-0")["executors"]]
        before, anonymous = _fetched(cluster), [_anonymous(pid) for pid in executors]

        asked = _ask_at_once(cluster, [big] * 4)
        cold = {one.answer.executor for one in asked if one.answer.waterfall.temperature == "cold"}
        assert len(cold) == 2, asked
        wanted = before + _bytes_of(cluster, "big0")
        until(lambda: _fetched(cluster) >= wanted, "the fetch is reported")
        temperatures.wait_ready(cluster, "big0")
        assert _fetched(cluster) == wanted

        agent = member(cluster, "agent-0")["pid"]
        pages = {pid: _cache_pages(pid) for pid in [*executors, agent]}
        for pid in executors:
            assert pages[pid]["Rss"] >= weights, pages
            assert pages[pid]["Private"] < 1 << 20, pages
        # Proportional shares add up to what is really there: no more than the agent maps, with pages that are ready for the next fetch.
        assert sum(found["Pss"] for found in pages.values()) <= pages[agent]["Rss"] + (1 << 20), pages
        for pid, was in zip(executors, anonymous, strict=True):
            assert _anonymous(pid) - was < weights // 2, f"{pid}: a copy of its own?"


@pytest.fixture(scope="module")
def four_devices(tmp_path_factory: pytest.TempPathFactory, bring_up_for_all: BringUp) -> Running:
    """Four emulated devices of one host; own0 is for the first only, and so on, "shared0" for all. 32 MiB take 0.67 s."""
    devices = _emulated([[f"own{i}", f"small{i}", "shared0"] for i in range(4)])
    return bring_up_for_all(with_agents(tmp_path_factory.mktemp("four"), _agent("agent-0", devices, gb_per_s=0.05)))


@pytest.fixture
def four(four_devices: Running) -> Iterator[Cluster]:
    with four_devices.connect() as cluster:
        yield cluster
        for name in {model["name"] for model in cluster.models()}:
            cluster.remove(name)


def _cold(cluster: Cluster, cases: list[Case]) -> None:
    for name, _, _ in cases:
        temperatures.wait_ready(cluster, name)
        temperatures.make_cold(cluster, name)


def test_devices_of_a_host_take_turns_at_its_link(four: Cluster) -> None:
    large = deploy_stacks(four, "own", 1, layers=8, width=1024)
    small = deploy_stacks(four, "small", 4, layers=2, width=512)[1:]
    _cold(four, large + small)
    before = _fetched(four)
    asked = _ask_at_once(four, large + small, lead_s=0.1)
    assert {one.answer.executor for one in asked} == {f"agent-0/emulated:{i}" for i in range(4)}
    # A sixteenth of its size each: done long before, though it was asked for first.
    for one in asked[1:]:
        assert one.answer.waterfall.temperature == "cold" and one.at_s < 0.7 * asked[0].at_s, asked

    wanted = before + sum(_bytes_of(four, name) for name, _, _ in large + small)
    until(lambda: _fetched(four) >= wanted, "the fetches are reported")
    assert _fetched(four) == wanted


def test_models_of_one_size_for_four_devices_are_there_at_about_the_same_time(four: Cluster) -> None:
    cases = deploy_stacks(four, "own", 4, layers=2, width=1024)
    _cold(four, cases)
    ends = sorted(one.at_s for one in _ask_at_once(four, cases))
    # One after another they would end at 1/4, 2/4, 3/4 and 4/4.
    assert ends[0] > 0.6 * ends[-1], ends


def test_a_model_for_four_devices_is_fetched_once(four: Cluster) -> None:
    cases = deploy_stacks(four, "shared", 1, layers=4, width=512)
    _cold(four, cases)
    before = _fetched(four)
    temperatures.assign(four, "shared0")
    temperatures.wait_ready(four, "shared0")
    assert len(temperatures.readiness(four, "shared0")) == 4
    wanted = before + _bytes_of(four, "shared0")
    until(lambda: _fetched(four) >= wanted, "the fetch is reported")
    asked = _ask_at_once(four, cases * 8)
    assert len({one.answer.executor for one in asked}) == 4
    assert _fetched(four) == wanted


# ---- two hosts on one machine ------------------------------------------------------------------------------------------------------


def _place(running: Running, agent: dict[str, Any]) -> dict[str, Any]:
    """What an agent has of this machine: processes, the file of its cache, socket, state, ports."""
    path, inode = next(
        (line.split(maxsplit=5)[5], line.split()[4]) for line in Path(f"/proc/{agent['pid']}/maps").read_text().splitlines() if line.endswith(".cache")
    )
    socket = running.directory / "run" / f"{agent['name']}.sock"
    return {
        "pid": agent["pid"],
        "executors": [(e["name"], e["pid"], e["incarnation"], e["address"]) for e in agent["executors"]],
        "cache": (path, inode),
        "socket": (socket, socket.stat().st_ino),
        "pinned": agent["cache"]["pinned_bytes"],
        "used": agent["cache"]["used_bytes"],
        "fetched": agent["fetched_bytes"],
    }


def _settled(cluster: Cluster, running: Running, name: str) -> dict[str, Any]:
    """Its place when two reports in turn say the same."""
    seen: list[dict[str, Any]] = []

    def still() -> bool:
        time.sleep(0.15)
        seen.append(_place(running, member(cluster, name)))
        return len(seen) > 1 and seen[-1] == seen[-2]

    until(still, f"{name} is at rest")
    return seen[-1]


def _ready(cluster: Cluster, model: str, devices: int) -> None:
    def true() -> bool:
        ready = temperatures.readiness(cluster, model)
        return len(ready) == devices and all(state in temperatures.READY for state in ready.values())

    until(true, f"{model} is ready on {devices} devices")


@pytest.mark.parametrize("directory", ["auto", "/dev/shm"])
def test_two_agents_on_one_machine_are_two_hosts(tmp_path: Path, bring_up: BringUp, directory: str) -> None:
    agents = "".join(_agent(f"agent-{i}", HOST_DEVICES, directory=directory) for i in range(2))
    running = bring_up(with_agents(tmp_path, agents))
    with running.connect() as cluster:
        (case,) = deploy_stacks(cluster, "model", 1, layers=4, width=512)
        size = _bytes_of(cluster, "model0")
        _ready(cluster, "model0", 4)
        zero, one = _settled(cluster, running, "agent-0"), _settled(cluster, running, "agent-1")
        assert zero["fetched"] == one["fetched"] == size  # Each for itself.
        assert zero["pinned"] == one["pinned"] >= size
        for key in ("pid", "cache", "socket"):
            assert zero[key] != one[key]
        assert zero["cache"][0] != one["cache"][0]
        assert len({address for place in (zero, one) for _, _, _, address in place["executors"]}) == 4

        os.kill(one["pid"], signal.SIGKILL)
        until(lambda: member(cluster, "agent-1")["pid"] != one["pid"], "agent-1 is back")
        check(cluster, case)
        _ready(cluster, "model0", 4)
        assert _settled(cluster, running, "agent-0") == zero
        again = _settled(cluster, running, "agent-1")
        assert again["fetched"] == size and again["cache"][0] == one["cache"][0]  # A cache of its own, empty when it came.

        cluster.drain("agent-1")
        until(lambda: member(cluster, "agent-1")["pid"] != again["pid"], "agent-1 ended in order and is back")
        assert "drained by the controller's word" in (running.directory / "logs" / "agent-1.log").read_text()
        check(cluster, case)
        _ready(cluster, "model0", 4)
        assert _settled(cluster, running, "agent-0") == zero
        assert _settled(cluster, running, "agent-1")["fetched"] == size
        if directory == "/dev/shm":
            assert {path.name for path in Path(directory).glob(f"*{running.name}*")} == {Path(place["cache"][0]).name for place in (zero, one)}


def test_status_shows_each_agent_with_its_own_executors_and_figures(tmp_path: Path, bring_up: BringUp) -> None:
    agents = _agent("agent-0", HOST_DEVICES) + _agent("agent-1", HOST_DEVICES, cache="32 MiB")
    running = bring_up(with_agents(tmp_path, agents))
    with running.connect() as cluster:
        deploy_stacks(cluster, "model", 1, layers=2, width=64)
        _ready(cluster, "model0", 4)
        found = {m["name"]: m for m in running.json("status")["members"] if m["role"] == "agent"}
        assert [e["name"] for e in found["agent-1"]["executors"]] == ["agent-1/host:0", "agent-1/host:1"]
        shown = running.tool("status").stdout.splitlines()
        first = next(i for i, line in enumerate(shown) if "agent-0" in line)
        words = [re.search(r"agent-\d|host:\d", line)[0] for line in shown[first : first + 6]]
        assert words == ["agent-0", "host:0", "host:1", "agent-1", "host:0", "host:1"]
        assert "of 64 MiB" in shown[first] and "of 32 MiB" in shown[first + 3]
        for line, process in zip(shown[first:], [p for m in found.values() for p in [m, *m["executors"]]], strict=False):
            assert str(process["pid"]) in line
            assert "host:" not in line or "models: 1 mapped" in line


# ---- two clusters on one machine ---------------------------------------------------------------------------------------------------


def test_two_clusters_on_one_machine_do_not_touch_each_other(tmp_path: Path, bring_up: BringUp) -> None:
    ours, theirs = [tmp_path / name for name in ("ours", "theirs")]
    ours.mkdir()
    theirs.mkdir()
    left, right = bring_up(make(ours)), bring_up(make(theirs))
    with left.connect() as a, right.connect() as b:
        (mine,) = deploy_stacks(a, "model", 1, layers=2, width=64)
        module_of_theirs = deploy_stacks(b, "model", 2, layers=3, width=64)
        assert len(a.models()) == 1 and len(b.models()) == 2
        _ready(a, "model0", 2)
        place = _settled(a, left, "agent-0")
        check(b, module_of_theirs[0])
        os.kill(member(b, "agent-0")["pid"], signal.SIGKILL)
        check(b, module_of_theirs[1])
        right.down()
        check(a, mine)
        assert _settled(a, left, "agent-0") == place
    assert not [found for found in right.leftovers() if found.startswith(("process", "socket", "shared"))]


def test_a_second_cluster_of_a_name_that_is_up_is_refused(running: Running, tmp_path: Path) -> None:
    base = tmp_path / "second"
    base.mkdir()
    second = make(base)
    second.settings.write_text(second.settings.read_text().replace(second.name, running.name))
    with pytest.raises(Error, match=f"cluster '{running.name}' is up already.*{running.directory}.*cluster.name"):
        lifecycle.up(second.settings, [], timeout_s=60)
    assert not second.directory.exists() or not list(second.directory.glob("run/*"))
    with running.connect() as cluster:
        assert len(cluster.status()["members"]) == 6
