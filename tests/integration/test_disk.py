"""Goal: what memory servers keep on disk outlives them: restarts, arenas that are too small, full disks and decayed files cost time at most."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from integration.cases import check, deploy_stacks
from integration.running import SETTINGS, BringUp, Running, make, member, until

from cenote import lifecycle, temperatures
from cenote.cluster import Cluster
from cenote.errors import Error

SERVERS = ("memory-0", "memory-1")


def _with_disks(base: Path, arena: str = "96 MiB", scrub: str = "0s", folder: str = "blocks") -> Running:
    """Both memory servers keep their blocks below `folder`."""
    text = SETTINGS
    for n in range(2):
        old = f'fabric_port = {{fabric_{n}}}\ncapacity = "96 MiB"\n'
        assert old in text
        text = text.replace(old, f'fabric_port = {{fabric_{n}}}\ncapacity = "{arena}"\ndata_dir = "{base}/{folder}/{n}"\nscrub_interval = "{scrub}"\n')
    (base / folder).mkdir(exist_ok=True)
    return make(base, text)


def _files(running: Running, n: int) -> list[Path]:
    return sorted((running.settings.parent / "blocks" / str(n) / "blocks").glob("*/*"))


def _flip(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(100)
        byte = file.read(1)
        file.seek(100)
        file.write(bytes([byte[0] ^ 1]))


def _kill(cluster: Cluster, names: tuple[str, ...]) -> None:
    """SIGKILL; returns when all are back and their blocks known."""
    before = {name: member(cluster, name)["pid"] for name in names}
    for pid in before.values():
        os.kill(pid, signal.SIGKILL)
    for name, pid in before.items():
        until(lambda name=name, pid=pid: member(cluster, name)["pid"] != pid, f"{name} is back")


def _storage(cluster: Cluster, name: str) -> dict[str, Any]:
    return member(cluster, name)["storage"]


def test_restarted_servers_serve_their_blocks_again_and_removed_models_leave_the_disk(tmp_path: Path, bring_up: BringUp) -> None:
    running = bring_up(_with_disks(tmp_path))
    with running.connect() as cluster:
        cases = deploy_stacks(cluster, "kept", 2, layers=4, width=512)
        until(lambda: all(m["replicas_min"] == 2 for m in cluster.models()), "all replicas are known")
        events = cluster.status()["events"]
        _kill(cluster, SERVERS)
        until(lambda: all(m["replicas_min"] == 2 for m in cluster.models()), "all replicas live again")
        assert cluster.status()["events"] == events, "nothing was deployed, lost or found anew"
        for case in cases:
            temperatures.make_cold(cluster, case[0])
            check(cluster, case)
        until(lambda: sum(_storage(cluster, name)["read_back_bytes"] for name in SERVERS) >= 2 * 4 * 512 * 512 * 4, "all of it came from disk")
        assert "disk " in running.tool("status").stdout

        cluster.remove("kept0")
        cluster.remove("kept1")
        until(lambda: not _files(running, 0) and not _files(running, 1), "removed models leave the disk")


def test_a_cluster_that_was_down_serves_what_it_had(tmp_path: Path, bring_up: BringUp) -> None:
    running = bring_up(_with_disks(tmp_path))
    with running.connect() as cluster:
        (case,) = deploy_stacks(cluster, "kept", 1, layers=4, width=512)
    running.down()
    running.up()
    with running.connect() as cluster:
        until(lambda: cluster.models() and cluster.models()[0]["replicas_min"] == 2, "both replicas are there")
        check(cluster, case)


def test_models_together_and_one_alone_may_exceed_the_arena(tmp_path: Path, bring_up: BringUp) -> None:
    running = bring_up(_with_disks(tmp_path, arena="16 MiB"))  # 12 of them for blocks.
    with running.connect() as cluster:
        cases = deploy_stacks(cluster, "big", 3, layers=6, width=1024)  # 24 MiB each.
        for _ in range(2):
            for case in cases:
                temperatures.make_cold(cluster, case[0])
                check(cluster, case)
        for name in SERVERS:
            report = member(cluster, name)
            assert report["memory"]["used_bytes"] > 3 * 24 << 20
            assert report["storage"]["arena_used_bytes"] <= report["storage"]["arena_capacity_bytes"] == 12 << 20
        until(lambda: sum(_storage(cluster, name)["read_back_bytes"] for name in SERVERS) > 3 * 24 << 20, "blocks were read back more than once")
        assert member(cluster, "agent-0")["integrity_failures"] == 0


def test_decayed_files_are_set_aside_reported_and_read_from_the_other_server(tmp_path: Path, bring_up: BringUp) -> None:
    running = bring_up(_with_disks(tmp_path))
    with running.connect() as cluster:
        (case,) = deploy_stacks(cluster, "decayed", 1, layers=8, width=512)
        for path in _files(running, 0):
            _flip(path)
        _kill(cluster, ("memory-0",))
        temperatures.make_cold(cluster, case[0])
        check(cluster, case)
        until(lambda: _storage(cluster, "memory-0")["corrupt_blocks"] >= 1, "it noticed")
        until(lambda: cluster.status()["repair"]["copied_blocks"] >= 1, "it said so: the other server's replicas were copied")
        until(lambda: cluster.models()[0]["replicas_min"] == 2, "each block has two replicas again")
        assert list((tmp_path / "blocks" / "0" / "quarantine").iterdir())
        assert "corrupt" in running.tool("status").stdout
        assert member(cluster, "agent-0")["integrity_failures"] == 0, "no reader ever got them"


def test_the_scrubber_finds_decayed_files_and_writes_them_anew_from_the_arena(tmp_path: Path, bring_up: BringUp) -> None:
    running = bring_up(_with_disks(tmp_path, scrub="1s"))
    with running.connect() as cluster:
        deploy_stacks(cluster, "scrubbed", 1, layers=4, width=512)
        path = _files(running, 0)[0]
        whole = path.read_bytes()
        _flip(path)
        until(lambda: _storage(cluster, "memory-0")["corrupt_blocks"] == 1, "it was found")
        until(lambda: path.exists() and path.read_bytes() == whole, "it is whole again")
        assert cluster.models()[0]["replicas_min"] == 2


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "cenote-test", str(folder)], capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"a small file system needs the right to mount: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_refuses_the_deploy_serves_what_it_has_and_takes_more_once_there_is_room(
    tmp_path: Path, small_disk: Path, bring_up: BringUp
) -> None:
    running = bring_up(_with_disks(tmp_path, folder=small_disk.name))
    with running.connect() as cluster:
        (case,) = deploy_stacks(cluster, "first", 1, layers=2, width=1024)  # 8 MiB on each, of 24.
        with pytest.raises(Error) as refused:
            deploy_stacks(cluster, "second", 1, layers=4, width=1024)
        assert refused.value.exit_code == 6 and "No space left" in refused.value.message and "data_capacity" in refused.value.message, refused.value
        until(lambda: any("No space left" in note for name in SERVERS for note in member(cluster, name)["notes"]), "it says so")
        temperatures.make_cold(cluster, case[0])
        check(cluster, case)
        assert not list(small_disk.glob("*/blocks/*/*.tmp"))

        subprocess.run(["mount", "-o", "remount,size=96m", str(small_disk)], check=True)
        deadline = time.monotonic() + 60
        while True:
            try:
                (second,) = deploy_stacks(cluster, "third", 1, layers=4, width=1024)
                break
            except Error as error:
                assert error.exit_code == 6 and time.monotonic() < deadline, error
                time.sleep(1)
        check(cluster, second)


def test_another_servers_folder_is_refused_with_the_remedy(tmp_path: Path) -> None:
    running = _with_disks(tmp_path)
    running.up()
    running.down()
    text = running.settings.read_text()
    running.settings.write_text(text.replace("blocks/0", "blocks/X").replace("blocks/1", "blocks/0").replace("blocks/X", "blocks/1"))
    try:
        with pytest.raises(Error, match="memory-"):
            lifecycle.up(running.settings, [], timeout_s=20)
        log = (running.directory / "logs" / "memory-0.log").read_text()
        assert "it belongs to memory-1" in log and "name a folder of its own" in log, log
    finally:
        running.down()
    until(lambda: not running.leftovers(), f"nothing is left: {running.leftovers()}", 10)


def test_settings_refuse_one_folder_for_two_servers(tmp_path: Path) -> None:
    running = _with_disks(tmp_path)
    running.settings.write_text(running.settings.read_text().replace("blocks/1", "blocks/0"))
    checked = running.tool("settings", "check", str(running.settings))
    assert checked.returncode == 2 and "a folder of its own" in checked.stdout + checked.stderr, checked
