"""Goal: the tool says what is wrong in one line, with the promised exit code, before anything is started."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = (
    "up", "down", "status", "logs", "deploy", "models", "publish", "rollback", "remove", "evict", "backup", "restore", "rebuild", "infer", "doctor", "version",
    "settings check", "settings show", "bench pool", "bench cold", "bench router",
)  # fmt: skip


@pytest.fixture
def cenote(tmp_path: Path):
    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("CENOTE_") or k == "CENOTE_BUILD"}
        env = clean | {"XDG_STATE_HOME": str(tmp_path / "state"), "COLUMNS": "200", "NO_COLOR": "1"} | environment
        return subprocess.run(
            [sys.executable, "-m", "cenote.cli", *arguments], capture_output=True, text=True, timeout=120, env=env, cwd=tmp_path
        )

    return run


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_an_example(cenote, command: str) -> None:
    shown = cenote(*command.split(), "--help")
    assert shown.returncode == 0
    assert f"cenote {command}" in " ".join(shown.stdout.split()), shown.stdout


def test_nothing_is_up(cenote) -> None:
    down = cenote("down")
    assert (down.returncode, down.stdout.strip()) == (0, "nothing is up")
    assert json.loads(cenote("down", "-o", "json").stdout)["stopped"] is False
    for command in (["status"], ["models"], ["infer", "x", "--text", "y"], ["evict", "x"]):
        refused = cenote(*command)
        assert refused.returncode == 3, refused
        assert "cenote up" in refused.stderr and refused.stdout == ""


def test_errors_are_json_where_json_was_asked_for(cenote) -> None:
    refused = cenote("status", "-o", "json")
    assert json.loads(refused.stderr)["error"]["exit_code"] == refused.returncode == 3


def test_usage_errors_exit_2(cenote) -> None:
    assert cenote("status", "--nonsense").returncode == 2
    assert cenote("nonsense").returncode == 2
    assert cenote("infer").returncode == 2
    assert cenote("deploy", "x").returncode == 2
    both = cenote("deploy", "x", "--preset", "resnet18", "--hf", ".")
    assert both.returncode == 2 and "--preset" in both.stderr and "--hf" in both.stderr


def test_an_address_without_certificates_is_refused(cenote, tmp_path: Path) -> None:
    refused = cenote("status", "--cluster", "127.0.0.1:1")
    assert refused.returncode == 2 and "--certificates" in refused.stderr
    missing = cenote("status", "--cluster", "127.0.0.1:1", "--certificates", str(tmp_path))
    assert missing.returncode == 4 and "ca.crt" in missing.stderr


def test_a_settings_file_with_an_unknown_key_is_refused_with_the_nearest_name(cenote, tmp_path: Path) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text('[cluster]\nname = "x"\n[[agent]]\ncache_capcity = "1 GiB"\n')
    for command in (["up", str(bad)], ["settings", "check", str(bad)]):
        refused = cenote(*command)
        assert refused.returncode == 2, refused
        assert "bad.toml:4" in refused.stderr and "cache_capacity" in refused.stderr
    assert not (tmp_path / "state").exists()


def test_a_settings_file_that_is_not_there(cenote) -> None:
    refused = cenote("up", "nowhere.toml")
    assert refused.returncode == 4 and "nowhere.toml" in refused.stderr


def test_environment_and_flags_override_the_file(cenote) -> None:
    file = str(ROOT / "settings" / "local.toml")
    shown = json.loads(cenote("settings", "show", file, "-o", "json", CENOTE_LOG_LEVEL="debug").stdout)
    assert shown["log"]["level"] == "debug"
    shown = json.loads(cenote("settings", "show", file, "--set", "log.level=error", "-o", "json", CENOTE_LOG_LEVEL="debug").stdout)
    assert shown["log"]["level"] == "error"
    assert "log.level = info" in cenote("settings", "show", file).stdout


def test_a_port_that_is_taken_is_named_with_who_has_it(cenote, tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        refused = cenote("up", str(ROOT / "settings" / "local.toml"), "--set", f"controller.port={port}")
        assert refused.returncode == 6, refused
        assert f"127.0.0.1:{port}" in refused.stderr and "controller" in refused.stderr and f"pid {os.getpid()}" in refused.stderr
    assert not list((tmp_path / "state").rglob("cluster.json"))
    assert cenote("down").stdout.strip() == "nothing is up"


def test_doctor_names_findings_and_remedies(cenote) -> None:
    ran = cenote("doctor", str(ROOT / "settings" / "local.toml"), "-o", "json")
    report = json.loads(ran.stdout)
    assert ran.returncode == (0 if report["ok"] else 1)
    checks = {finding["check"] for finding in report["findings"]}
    expected = "build fabric memlock numa libtorch clock settings memory ports".split() + ["rdma devices", "huge pages", "shared memory"]
    assert set(expected) <= checks
    assert all(finding["remedy"] and finding["meaning"] for finding in report["findings"] if finding["level"] in ("warning", "error"))


def test_status_path_imports_no_torch() -> None:
    heavy = ("torch", "numpy", "typer", "pydantic", "rich")
    code = f"import sys, cenote.cli as c, cenote.cluster, cenote.status; c.run(['status', '-o', 'json']); print([m for m in {heavy} if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=os.environ | {"CENOTE_CLUSTER": "none-such"})
    assert "no cluster 'none-such' is up" in ran.stderr
    assert ran.stdout.strip() == "[]"


@pytest.mark.parametrize("more", [["extra"], ["-o", "jsn"], ["--nonsense", "x"]])
def test_status_leaves_what_it_does_not_understand_to_the_parser(cenote, more: list[str]) -> None:
    ran = cenote("status", *more)
    assert ran.returncode == 2
    assert "Usage: cenote status" in ran.stderr


@pytest.mark.parametrize(
    ("override", "exit_code", "said"),
    [
        ("memory.capacity=16 TiB", 6, "does not start: cannot map an arena of 16.0 TiB"),
        ("agent.cache_directory=/nowhere/at/all", 4, "agent-0 does not start: cannot create the cache /nowhere/at/all"),
        ("agent.device.name=cuda:0", 6, "agent-0/cuda:0 does not start: device cuda:0: this build has no CUDA plug-in"),
        ("controller.host=192.0.2.1", 6, "192.0.2.1 is no address of this host"),
    ],
)
def test_what_this_machine_cannot_give_ends_up_with_the_daemons_own_words(cenote, tmp_path: Path, override: str, exit_code: int, said: str) -> None:
    from cenote import lifecycle, processes

    settings = ["--set", "cluster.name=cannot", "--set", f"cluster.state_directory={tmp_path}/cannot"]
    keys = ["controller.port", *[f"{key}.port" for key in ("router[0]", "router[1]", "memory[0]", "memory[1]")]]
    keys += ["memory[0].fabric_port", "memory[1].fabric_port"]
    for key, port in zip(keys, processes.free_ports(len(keys)), strict=True):
        settings += ["--set", f"{key}={port}"]
    text = (ROOT / "settings" / "local.toml").read_text()
    (tmp_path / "one.toml").write_text(text[: text.rindex("[[agent.device]]")])
    ran = cenote("up", str(tmp_path / "one.toml"), *settings, "--set", override)
    assert (ran.returncode, said in ran.stderr) == (exit_code, True), ran.stderr
    assert len(ran.stderr.strip().splitlines()) == 1
    assert lifecycle.supervisor(tmp_path / "cannot") is None


def _with_streams(streams: str) -> subprocess.CompletedProcess[str]:
    shell = f'"{sys.executable}" -m cenote.cli version {streams}; echo "code $?" >&9'
    return subprocess.run(["bash", "-o", "pipefail", "-c", f"{{ {shell}; }} 9>&1"], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(("streams", "code"), [(">&-", 0), (">&- 2>&-", 0), ("<&- >&- 2>&-", 0), (">/dev/full", 6), ("--nonsense 2>&-", 2)])
def test_closed_and_full_streams_change_no_exit_code_and_end_in_no_traceback(streams: str, code: int) -> None:
    ran = _with_streams(streams)
    assert ran.stdout.splitlines()[-1] == f"code {code}", ran
    assert "Traceback" not in ran.stderr


def test_a_reader_that_has_enough_is_no_failure() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("CENOTE_") or k == "CENOTE_BUILD"}
    for command in (["version"], ["settings", "show", str(ROOT / "settings" / "local.toml")]):
        ran = subprocess.run(
            [sys.executable, "-m", "cenote.cli", *command], stdout=writer, stderr=subprocess.PIPE, text=True, timeout=120, env=environment
        )
        assert (ran.returncode, ran.stderr) == (0, ""), command
    os.close(writer)


def test_an_empty_cluster_is_not_the_only_one(cenote) -> None:
    for command in (["status"], ["down"], ["models"]):
        refused = cenote(*command, "--cluster", "")
        assert refused.returncode == 2 and "--cluster is empty" in refused.stderr, refused


def test_deadlines_that_no_clock_can_hold_are_refused(cenote) -> None:
    for deadline in ("inf", "1e300", "nan", "0"):
        assert cenote("infer", "x", "--text", "y", "--deadline", deadline).returncode == 2


def test_a_folder_is_no_settings_file(cenote, tmp_path: Path) -> None:
    refused = cenote("up", str(tmp_path))
    assert refused.returncode == 2 and f"{tmp_path} is not a file" in refused.stderr
