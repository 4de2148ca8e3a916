"""Goal: a cluster comes up whole or not at all, says what it is, and leaves nothing behind, however it ends."""

from __future__ import annotations

import json
import os
import signal
import socket

import pytest
from integration.running import Running, until

from cenote import lifecycle, processes, state
from cenote.errors import Error

DAEMONS = {"controller", "router-0", "router-1", "memory-0", "memory-1", "agent-0"}


def test_up_and_down_twice_each(settings_only: Running) -> None:
    up = settings_only.tool("up", str(settings_only.settings), "-o", "json")
    assert up.returncode == 0, up.stderr + settings_only.logs()
    first = json.loads(up.stdout)
    assert set(first["members"]) == DAEMONS and first["already_up"] is False
    again = settings_only.json("up", str(settings_only.settings))
    assert again["already_up"] is True

    other = settings_only.tool("up", str(settings_only.settings), "--set", "log.level=debug")
    assert other.returncode == 6 and "cenote down" in other.stderr

    down = settings_only.json("down")
    assert down["stopped"] is True and down["killed"] == []
    until(lambda: not settings_only.leftovers(), "nothing is left", 10)
    assert settings_only.tool("down").stdout.strip() == "nothing is up"


def test_status_shows_every_daemon_with_its_memory_and_cpu(shared: Running) -> None:
    status = shared.json("status")
    members = {m["name"]: m for m in status["members"]}
    assert set(members) == DAEMONS and status["lost"] == []
    for member in members.values():
        for process in [member, *member["executors"]]:
            assert process["pid"] > 0 and process["rss_bytes"] > 1 << 20 and 0 < process["cpu_percent"] <= 400
        assert processes.start_time(member["pid"]) is not None
    # What slabs are carved from is not for blocks.
    assert 64 << 20 <= members["memory-0"]["memory"]["capacity_bytes"] <= 96 << 20
    assert [e["device"] for e in members["agent-0"]["executors"]] == ["host:0", "host:1"]
    shown = shared.tool("status")
    assert shown.returncode == 0 and all(name in shown.stdout for name in DAEMONS)


def test_logs_are_there_by_name(shared: Running) -> None:
    lines = shared.json("logs", "memory-1", "-n", "3")
    assert 1 <= len(lines["memory-1"]) <= 3
    unknown = shared.tool("logs", "memory-9")
    assert unknown.returncode == 4 and "memory-1" in unknown.stderr


def test_a_cluster_is_reached_by_address_and_certificates(shared: Running, tmp_path) -> None:
    address = state.find(str(shared.directory)).controller
    reached = shared.tool("models", "--cluster", address, "--certificates", str(shared.directory / "certificates"), "-o", "json")
    assert reached.returncode == 0, reached.stderr
    from cenote import certificates

    certificates.ensure(tmp_path / "foreign", "foreign", [])
    foreign = shared.tool("models", "--cluster", address, "--certificates", str(tmp_path / "foreign"))
    assert foreign.returncode in (3, 7), foreign


def test_a_port_that_is_taken_is_named_with_who_has_it_and_nothing_starts(settings_only: Running) -> None:
    port = settings_only.ports[1]
    with socket.create_server(("127.0.0.1", port)):
        up = settings_only.tool("up", str(settings_only.settings))
        assert up.returncode == 6, up
        for word in (str(port), "router-0", f"pid {os.getpid()}"):
            assert word in up.stderr, up.stderr
        assert [left for left in settings_only.leftovers() if not left.startswith(f"port {port} ")] == []
    down = settings_only.tool("down")
    assert down.returncode == 0, down
    assert f"no cluster '{settings_only.name}' is up here" in down.stdout or down.stdout.strip() == "nothing is up", down


def test_daemons_that_do_not_come_are_named_and_nothing_stays(settings_only: Running) -> None:
    with pytest.raises(Error, match="memory-1") as late:
        lifecycle.up(settings_only.settings, [], timeout_s=0.001)
    assert late.value.exit_code == 124
    until(lambda: not settings_only.leftovers(), f"nothing is left: {settings_only.leftovers()}", 10)
    assert settings_only.tool("status").returncode == 3


def test_an_address_of_another_host_is_named_before_anything_starts(settings_only: Running) -> None:
    # 192.0.2.0/24 is no one's (RFC 5737).
    up = settings_only.tool("up", str(settings_only.settings), "--set", "memory[1].host=192.0.2.1")
    assert up.returncode == 6 and "memory-1: 192.0.2.1" in up.stderr, up
    assert not settings_only.leftovers()


def test_daemons_on_any_address_of_this_machine_are_looked_after(settings_only: Running) -> None:
    hosts = [word for kind in ("controller", "router", "memory", "agent") for word in ("--set", f"{kind}.host=127.0.0.2")]
    up = settings_only.tool("up", str(settings_only.settings), *hosts)
    assert up.returncode == 0 and "127.0.0.2" in up.stdout, up


def test_a_killed_supervisor_takes_its_daemons_along_and_up_works_again(running: Running) -> None:
    found = lifecycle.supervisor(running.directory)
    assert found is not None
    os.kill(found["pid"], signal.SIGKILL)
    until(lambda: not [line for line in running.leftovers() if line.startswith("process")], "its daemons end with it", 20)
    running.up()
    with running.connect() as cluster:
        assert {m["name"] for m in cluster.status()["members"]} == DAEMONS


@pytest.mark.parametrize("name", sorted(DAEMONS))
def test_a_killed_daemon_is_back(shared: Running, name: str) -> None:
    with shared.connect() as cluster:
        before = {m["name"]: m for m in until(cluster.status, "status")["members"]}[name]
        os.kill(before["pid"], signal.SIGKILL)

        def back() -> bool:
            now = {m["name"]: m for m in cluster.status(timeout_s=2)["members"]}
            return name in now and now[name]["pid"] != before["pid"] and set(now) == DAEMONS

        until(back, f"{name} is back")
        until(lambda: all(e["address"] for m in cluster.status()["members"] for e in m["executors"]), "executors are up")
