"""Goal: names, tags and histories survive any death of the controller, the loss of its file, and being put back; nothing in the pool is
dropped by a catalogue that does not know it."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from integration.cases import Case, check, deploy_stacks
from integration.running import Running, member, until
from integration.small_models import Stack

from cenote import catalogue, lifecycle, processes
from cenote.cluster import Cluster
from cenote.export import export_model

_SEED = 20
_KILLS = 7  # The supervisor waits twice as long before each start.


@contextlib.contextmanager
def _killing(cluster: Cluster, seed: int, kills: int) -> Iterator[list[int]]:
    """SIGKILLs each controller at a random instant of its life, `kills` times."""
    killed: list[int] = []
    stop = threading.Event()
    rng = random.Random(seed)

    def run() -> None:
        while len(killed) < kills and not stop.is_set():
            pid = until(lambda: member(cluster, "controller")["pid"], "a controller")
            if pid in killed:
                continue
            stop.wait(rng.uniform(0.0, 0.4))
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            killed.append(pid)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield killed
    finally:
        stop.set()
        thread.join()


def _tags(cluster: Cluster) -> dict[str, str]:
    found = until(lambda: cluster.models() or [None], "the list of models")
    return {f"{m['name']}:{tag}": m["record"]["digest"] for m in found if m for tag in m["tags"]}


def test_changes_are_made_once_though_controllers_die_at_any_instant(running: Running) -> None:
    rng = random.Random(_SEED)
    exported = [export_model(Stack(layers=1, width=16, seed=seed).eval(), (torch.randn(1, 16),), name="m") for seed in range(4)]
    histories: dict[str, list[str]] = {}  # What each tag should point at, newest last.

    def deploy(cluster: Cluster) -> None:
        name = rng.choice("ab")
        result = cluster.deploy_exported(rng.choice(exported), name=name, update=True)
        assert f"{name}:latest" in histories or not result.already_existed
        history = histories.setdefault(f"{name}:latest", [])
        if history[-1:] != [result.digest]:
            history.append(result.digest)

    def publish(cluster: Cluster) -> None:
        digest = rng.choice(histories["a:latest"])
        assert cluster.publish(f"a@{digest}", "stable")["revision"] == digest
        history = histories.setdefault("a:stable", [])
        if history[-1:] != [digest]:
            history.append(digest)

    def rollback(cluster: Cluster) -> None:
        deep = [tag for tag, history in histories.items() if len(history) > 1]
        if not deep:
            return
        tag = rng.choice(deep)
        history = histories[tag]
        move = cluster.rollback(tag)
        assert (move["previous"], move["revision"]) == (history[-1], history[-2]), "rolled back twice, or not at all"
        history.pop()

    def remove(cluster: Cluster) -> None:
        if "b:latest" in histories:
            assert cluster.remove("b")["revisions"]
            del histories["b:latest"]

    def evict(cluster: Cluster) -> None:
        cluster.evict("a")

    with running.connect() as cluster, running.connect() as watcher:
        deploy_first: list[Callable[[Cluster], None]] = [deploy] * 4
        histories["a:latest"] = [cluster.deploy_exported(exported[0], name="a").digest]
        with _killing(watcher, _SEED, kills=_KILLS) as killed:
            changes = 0
            while len(killed) < _KILLS or changes < 20:
                rng.choice([*deploy_first, publish, rollback, rollback, remove, evict])(cluster)
                changes += 1
                assert _tags(cluster) == {tag: history[-1] for tag, history in histories.items()}
        assert len(set(killed)) == _KILLS
        # What the histories are is seen by rolling all the way back.
        for tag, history in histories.items():
            while len(history) > 1:
                assert cluster.rollback(tag)["revision"] == history[-2]
                history.pop()


def _runs(pid: int) -> bool:
    """False also of a zombie: what it had open is closed."""
    return bool(processes.command(pid))


def _supervisor(running: Running) -> int:
    found = lifecycle.supervisor(running.directory)
    assert found is not None
    return int(found["pid"])


def _lose_catalogue(running: Running, cluster: Cluster, instead: Path | None = None) -> None:
    """The controller dies, and its file is gone, or another one, before the next one starts."""
    before = member(cluster, "controller")["pid"]
    path = running.directory / "catalogue.db"
    supervisor = _supervisor(running)
    os.kill(supervisor, signal.SIGSTOP)
    try:
        os.kill(before, signal.SIGKILL)
        until(lambda: not _runs(before), "the controller is dead")
        for file in running.directory.glob("catalogue.db*"):
            if file != instead:
                file.unlink()
        if instead is not None:
            instead.rename(path)
    finally:
        os.kill(supervisor, signal.SIGCONT)
    until(lambda: member(cluster, "controller")["pid"] != before, "the next controller")
    until(lambda: {"memory-0", "memory-1"} <= {m["name"] for m in cluster.status()["members"]}, "the memory servers are members")


def _used(cluster: Cluster) -> int:
    return sum(m["memory"]["used_bytes"] for m in cluster.status()["members"] if m["role"] == "memory")


def _deploy(cluster: Cluster) -> list[Case]:
    return deploy_stacks(cluster, "m", 3, layers=2, width=64)


def test_a_lost_catalogue_drops_nothing_and_is_made_anew_from_the_pool(running: Running) -> None:
    with running.connect() as cluster:
        cases = _deploy(cluster)
        newer = cluster.deploy(Stack(layers=2, width=64, seed=9).eval(), (torch.randn(1, 64),), name="m0", update=True).digest
        digests = {(m["name"], m["record"]["digest"], m["record"]["created_us"]) for m in cluster.models()}
        used = _used(cluster)
        _lose_catalogue(running, cluster)
        assert cluster.models() == []
        held = until(lambda: cluster.status()["held_because"], "drops are held")
        assert "another catalogue" in held
        time.sleep(6)  # Longer than the lease, before whose end nothing is dropped anyhow.
        assert _used(cluster) == used
        assert "cenote rebuild" in running.tool("status").stdout

        result = running.json("rebuild")
        assert (len(result["adopted"]), sorted(result["latest"]), result["incomplete"], result["held"]) == (4, ["m0", "m1", "m2"], [], False)
        assert {(m["name"], m["record"]["digest"], m["record"]["created_us"]) for m in cluster.models()} == digests
        assert cluster.resolve("m0")["record"]["digest"] == newer
        assert cluster.status()["held_because"] == ""
        for case in cases[1:]:
            check(cluster, case)
        cluster.remove("m2")
        until(lambda: _used(cluster) < used, "what is removed is freed again")
        check(cluster, cases[1])


def test_a_backup_brings_back_what_was_and_a_rebuild_what_came_after(running: Running, tmp_path: Path) -> None:
    file = tmp_path / "catalogue.backup"
    with running.connect() as cluster:
        cases = _deploy(cluster)
        cluster.publish(f"m0@{cluster.resolve('m0')['record']['digest']}", "stable")
        written = running.json("backup", str(file))
        assert written["revisions"] == 3
        again = running.tool("backup", str(file))
        assert (again.returncode, "--force" in again.stderr) == (6, True)
        assert running.tool("backup", str(file), "--force").returncode == 0
        up = running.tool("restore", str(file), "--cluster", str(running.directory))
        assert (up.returncode, "cenote down" in up.stderr) == (6, True)
        tags = _tags(cluster)
        later = cluster.deploy(Stack(layers=2, width=64, seed=9).eval(), (torch.randn(1, 64),), name="later").digest
        catalogue.restore(file, str(_stopped_copy(running, tmp_path)))
        _lose_catalogue(running, cluster, instead=_into(running, tmp_path / "copy" / "catalogue.db"))
        assert _tags(cluster) == tags
        assert "restored from a backup" in until(lambda: cluster.status()["held_because"], "drops are held")
        result = running.json("rebuild")
        assert [called.split("@")[0] for called in result["adopted"]] == ["later"]
        assert cluster.resolve("later")["record"]["digest"] == later
        for case in cases:
            check(cluster, case)


def _stopped_copy(running: Running, base: Path) -> Path:
    """A state directory of the same cluster that nobody uses: the pool of this one lives in memory, and must stay up."""
    copy = base / "copy"
    copy.mkdir()
    (copy / "settings.toml").write_bytes((running.directory / "settings.toml").read_bytes())
    return copy


def _into(running: Running, file: Path) -> Path:
    target = running.directory / "catalogue.db.put-back"
    target.write_bytes(file.read_bytes())
    return target
