"""Goal: whatever stops a deploy, the cluster is as if it had never begun, and the tool says so by its exit code."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest
from integration.running import SETTINGS, BringUp, Running, make, stopped, until
from integration.small_models import make_large

from cenote.cluster import Cluster

MODELS = Path(__file__).with_name("small_models.py")


@pytest.fixture
def patient(tmp_path: Path, bring_up: BringUp) -> Running:
    """Its controller waits long for a silent member, so that a stopped memory server holds a deploy up and does not end it."""
    return bring_up(make(tmp_path, SETTINGS.replace('member_timeout = "3s"', 'member_timeout = "60s"')))


def _servers(cluster: Cluster) -> dict[str, dict]:
    return {m["name"]: m for m in cluster.status()["members"] if m["role"] == "memory"}


def _start(running: Running) -> subprocess.Popen[str]:
    return subprocess.Popen(
        running.command("deploy", "large", "--python", f"{MODELS}:make_large"),
        env=running.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=running.directory.parent,
    )  # fmt: skip


def _until_half_sent(cluster: Cluster, deploy: subprocess.Popen[str]) -> None:
    until(lambda: deploy.poll() is not None or _servers(cluster)["memory-0"]["memory"]["used_bytes"] > 0, "memory-0 has something")


def _interrupt(deploy: subprocess.Popen[str], how: signal.Signals) -> None:
    deploy.send_signal(how)
    output, errors = deploy.communicate(timeout=60)
    assert deploy.returncode == 130, (deploy.returncode, output, errors)
    assert "Traceback" not in errors, errors


def _expect_nothing(cluster: Cluster) -> None:
    assert cluster.models() == []
    until(
        lambda: all(s["slabs_open"] == 0 and s["memory"]["used_bytes"] == 0 for s in _servers(cluster).values()),
        "slabs and unpublished blocks are gone",
    )


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_while_a_deploy_sends_leaves_nothing(patient: Running, how: signal.Signals) -> None:
    with patient.connect() as cluster:
        with stopped(_servers(cluster)["memory-1"]["pid"]):
            deploy = _start(patient)
            _until_half_sent(cluster, deploy)
            _interrupt(deploy, how)
        _expect_nothing(cluster)


def test_ctrl_c_while_torch_is_imported_leaves_nothing(patient: Running) -> None:
    with patient.connect() as cluster:
        deploy = _start(patient)
        until(lambda: deploy.poll() is not None or b"libtorch" in Path(f"/proc/{deploy.pid}/maps").read_bytes(), "it imports torch")
        _interrupt(deploy, signal.SIGINT)
        _expect_nothing(cluster)


def test_a_deploy_that_is_killed_is_forgotten_when_its_lease_ends(patient: Running) -> None:
    with patient.connect() as cluster:
        with stopped(_servers(cluster)["memory-1"]["pid"]):
            deploy = _start(patient)
            _until_half_sent(cluster, deploy)
            deploy.kill()
            deploy.communicate(timeout=60)
        _expect_nothing(cluster)
        module, inputs = make_large()
        assert cluster.deploy(module.eval(), inputs, name="large").already_existed is False  # The name is free.
