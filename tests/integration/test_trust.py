"""Goal: on a running cluster each role may do what is its own and is told the rest by exit code 7 with the way to it; certificates are
replaced, revoked and lapse under load without a request of others lost."""

from __future__ import annotations

import os
import resource
import signal
import threading
import time
from pathlib import Path

import pytest
import torch
from integration.running import SETTINGS, BringUp, Running, make, until
from integration.small_models import Stack

from cenote import certificate_desk as desks
from cenote import certificates, state, temperatures
from cenote.certificate_desk import Desk
from cenote.cluster import Cluster
from cenote.errors import Error
from cenote.state import Reach


def _desk(running: Running) -> Desk:
    return desks.open_desk(str(running.directory))


def _connect(running: Running, directory: Path) -> Cluster:
    known = state.find(str(running.directory))
    return Cluster(Reach(known.controller, directory, known))


def _person(running: Running, where: Path, role: str, tenant: str = "", days: float = 1.0) -> Cluster:
    desks.issue(_desk(running), f"{role}-{where.name}", role, tenant, days, where)
    return _connect(running, where)


def _refusal(call, *arguments: object) -> Error:
    with pytest.raises(Error) as refused:
        call(*arguments)
    assert refused.value.exit_code == 7, refused.value
    return refused.value


def test_each_role_may_do_what_is_its_own(shared: Running, tmp_path: Path) -> None:
    module, x = Stack(layers=2, width=64).eval(), torch.randn(1, 64)
    with torch.no_grad():
        expected = module(x)
    with _person(shared, tmp_path / "d", "deployer") as deployer, _person(shared, tmp_path / "c", "client") as client:
        deployer.deploy(module, (x,), name="roles")
        torch.testing.assert_close(client.infer("roles", x), expected, rtol=1e-5, atol=1e-6)
        assert client.status()["members"] and [m["name"] for m in client.models("roles")] == ["roles"]
        digest = client.models("roles")[0]["record"]["digest"]
        said = _refusal(client.publish, f"roles@{digest}", "mine").message
        assert "client-c (client) may not publish models" in said and "certificates issue NAME --role deployer" in said
        for call in (client.rollback, client.remove, client.evict, deployer.evict):
            _refusal(call, "roles")
        with pytest.raises(Error) as refused:
            client.deploy(module, (x,), name="roles-of-client")
        assert refused.value.exit_code == 7 and "may not deploy models" in refused.value.message
        for person in (client, deployer):
            _refusal(person._controller().drain, "memory-0")
        assert deployer.publish(f"roles@{digest}", "mine")["tag"] == "mine"
        deployer.remove("roles")


def test_the_tool_says_it_by_exit_code_7(shared: Running, tmp_path: Path) -> None:
    desks.issue(_desk(shared), "carol", "client", "", 1, tmp_path / "carol")
    address = state.find(str(shared.directory)).controller
    ran = shared.tool("evict", "whatever", "--cluster", address, "--certificates", str(tmp_path / "carol"))
    assert ran.returncode == 7, ran
    assert "carol (client) may not evict models" in ran.stderr and "--role operator" in ran.stderr
    listed = shared.tool("models", "--cluster", address, "--certificates", str(tmp_path / "carol"))
    assert listed.returncode == 0, listed


def test_a_lapsed_certificate_is_refused_with_the_way_to_another(shared: Running, tmp_path: Path) -> None:
    person = _person(shared, tmp_path / "late", "client", days=2 / 86400)
    end = time.monotonic() + 30
    while (left := certificates.validity(tmp_path / "late", "client")) is not None and left.days_left >= 0:
        assert time.monotonic() < end
        time.sleep(0.2)
    said = _refusal(person.status).message
    assert "expired" in said and "cenote certificates issue" in said


def test_a_revoked_certificate_is_refused_also_on_open_connections(shared: Running, tmp_path: Path) -> None:
    module, x = Stack(layers=2, width=64, seed=5).eval(), torch.randn(1, 64)
    with shared.connect() as cluster, _person(shared, tmp_path / "leaver", "client") as leaver:
        cluster.deploy(module, (x,), name="revoked")
        leaver.infer("revoked", x)
        desks.revoke(_desk(shared), "client-leaver")

        def refused() -> bool:
            try:
                leaver.infer("revoked", x, deadline_s=10)
            except Error as error:
                assert error.exit_code == 7 and "revoked" in error.message, error
                return True
            return False

        until(refused, "the revoked certificate is refused")
        cluster.infer("revoked", x)
        cluster.remove("revoked")


class _Load:
    """Requests one after another, until stopped; every failure is kept."""

    def __init__(self, cluster: Cluster, name: str, x: torch.Tensor, expected: torch.Tensor) -> None:
        self._cluster, self._name, self._x, self._expected = cluster, name, x, expected
        self.answered = 0
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                torch.testing.assert_close(self._cluster.infer(self._name, self._x), self._expected, rtol=1e-5, atol=1e-6)
                self.answered += 1
            except (Error, AssertionError) as error:
                self.failures.append(str(error))

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


def _shown(controller: str, directory: Path) -> str:
    """The serial that a daemon shows to a new connection."""
    import socket
    import ssl

    from cryptography import x509

    context = ssl.create_default_context(cafile=str(directory / "ca.crt"))
    context.load_cert_chain(directory / "client.crt", directory / "client.key")
    host, _, port = controller.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as plain, context.wrap_socket(plain, server_hostname=certificates.NODE_NAME) as tls:
        shown = tls.getpeercert(binary_form=True)
    assert shown is not None
    return f"{x509.load_der_x509_certificate(shown).serial_number:x}"


def test_certificates_and_authority_rotate_under_load_without_a_request_lost(tmp_path: Path, bring_up: BringUp) -> None:
    running = bring_up(make(tmp_path))
    desk = _desk(running)
    module, x = Stack(layers=2, width=64).eval(), torch.randn(1, 64)
    with torch.no_grad():
        expected = module(x)
    addresses = [state.find(str(running.directory)).controller, f"127.0.0.1:{running.ports[1]}", f"127.0.0.1:{running.ports[3]}"]
    with running.connect() as cluster:
        cluster.deploy(module, (x,), name="served")
        temperatures.wait_ready(cluster, "served")
        pids = {m["name"]: m["pid"] for m in cluster.status()["members"]}
        load = _Load(cluster, "served", x, expected)
        try:
            for renewed in (running.json("certificates", "rotate", "--all"), running.json("certificates", "rotate", "--authority")):
                assert {"node", "client"} <= set(renewed["renewed"])
                node = certificates.validity(desk.directory, "node")
                assert node is not None
                for address in addresses:
                    until(lambda a=address, n=node: _shown(a, desk.directory) == n.serial, f"{address} shows the new certificate")
                with running.connect() as fresh:
                    assert fresh.infer("served", x) is not None
            before = load.answered
            until(lambda: load.answered > before, "requests go on")
        finally:
            load.stop()
        assert load.failures == []
        assert {m["name"]: m["pid"] for m in cluster.status()["members"]} == pids
    assert running.json("certificates", "rotate", "--drop-old-authority")["dropped"] == 1
    actions = [entry["action"] for entry in running.json("audit")]
    assert "certificate rotate" in actions and "certificate authority" in actions


TENANTS = """
[[tenant]]
name = "vision"
pool_bytes_max = "1 MiB"
models_max = 2

[[tenant]]
name = "speech"
"""


def test_tenants_keep_to_their_names_and_limits_and_every_change_is_audited(tmp_path: Path, bring_up: BringUp) -> None:
    running = bring_up(make(tmp_path, SETTINGS + TENANTS))
    x = torch.randn(1, 64)
    small, large = Stack(layers=2, width=64).eval(), Stack(layers=2, width=512).eval()  # 33 KiB and 2 MiB.
    with (
        _person(running, tmp_path / "v", "deployer", "vision") as vision,
        _person(running, tmp_path / "s", "deployer", "speech") as speech,
        running.connect() as operator,
    ):
        vision.deploy(small, (x,), name="mine")
        with pytest.raises(Error) as refused:
            vision.deploy(large, (torch.randn(1, 512),), name="too-large")
        assert refused.value.exit_code == 6
        for word in ("tenant vision uses", "may have 1.0 MiB", "cenote remove", "pool_bytes_max"):
            assert word in refused.value.message, refused.value.message
        said = _refusal(speech.remove, "mine").message
        assert "deployer-s (deployer of tenant speech) may not remove mine: it belongs to tenant vision" in said
        speech.deploy(large, (torch.randn(1, 512),), name="theirs")
        assert {m["name"]: m["tenant"] for m in operator.models()} == {"mine": "vision", "theirs": "speech"}
        use = {t["name"]: t for t in operator.status()["tenants"]}
        assert 0 < use["vision"]["used_bytes"] <= 1 << 20 and use["vision"]["pool_bytes_max"] == 1 << 20 and use["vision"]["models"] == 1
        assert use["speech"]["used_bytes"] > 2 << 20
        shown = running.tool("status").stdout
        assert "vision" in shown and "1.0 MiB" in shown
        os.kill(next(m["pid"] for m in operator.status()["members"] if m["role"] == "controller"), signal.SIGKILL)
        until(lambda: {m["name"]: m["tenant"] for m in operator.models()} == {"mine": "vision", "theirs": "speech"}, "owners outlive the controller")
        until(lambda: vision.models() is not None, "the controller is reached again")
        vision.remove("mine")
        operator.evict("theirs")
    entries = [e for e in running.json("audit", "-n", "100") if not e["action"].startswith("certificate")]
    told = [(e["action"], e["what"]["model"], e["who"]["subject"], e["who"]["tenant"], e["outcome"]) for e in entries]
    assert told == [
        ("deploy", "mine", "deployer-v", "vision", "ok"),
        ("remove", "mine", "deployer-s", "speech", "permission_denied"),
        ("deploy", "theirs", "deployer-s", "speech", "ok"),
        ("remove", "mine", "deployer-v", "vision", "ok"),
        ("evict", "theirs", certificates.user_name(), "default", "ok"),
    ]
    assert all(e["who"]["peer"].startswith("ipv4:127.0.0.1") and e["who"]["serial"] and e["time"] < e["ended"] for e in entries)
    assert "permission_denied" in running.tool("audit").stdout


def test_a_change_that_cannot_be_audited_is_refused_and_serving_goes_on(tmp_path: Path, bring_up: BringUp) -> None:
    running = bring_up(make(tmp_path))
    module, x = Stack(layers=2, width=64).eval(), torch.randn(1, 64)
    log = running.directory / "audit" / "controller.jsonl"
    with running.connect() as cluster:
        cluster.deploy(module, (x,), name="kept")
        pid = next(m["pid"] for m in cluster.status()["members"] if m["role"] == "controller")
        # No file of the controller may grow beyond what the log has: its disk is full, for the log's next line at least.
        before = resource.prlimit(pid, resource.RLIMIT_FSIZE, (log.stat().st_size + 10, resource.RLIM_INFINITY))
        with pytest.raises(Error) as refused:
            cluster.remove("kept")
        assert refused.value.exit_code == 6
        assert "audit log" in refused.value.message and "make room" in refused.value.message
        assert [m["name"] for m in cluster.models()] == ["kept"]
        assert cluster.infer("kept", x) is not None
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
        cluster.remove("kept")
    told = [(e["action"], e["outcome"]) for e in running.json("audit")]
    assert told == [("deploy", "ok"), ("remove", "ok")]
