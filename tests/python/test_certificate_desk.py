"""Goal: whoever runs a cluster hands out certificates that say who their holder is and what he may do, renews, changes the authority and
revokes; each of it is written down before it is done, or not done."""

from __future__ import annotations

import datetime
import stat
from pathlib import Path

import pytest
from cryptography import x509

from cenote import audit, certificates
from cenote import certificate_desk as desks
from cenote.certificate_desk import Desk
from cenote.errors import Error


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    certificates.ensure(tmp_path / "state" / "certificates", "lab", ["10.0.0.1"])
    return desks.open_desk(str(tmp_path / "state"))


def test_own_certificates_say_their_roles(desk: Desk) -> None:
    assert desk.cluster == "lab"
    node, client = certificates.validity(desk.directory, "node"), certificates.validity(desk.directory, "client")
    assert node is not None and node.role == "cenote://lab/role/node"
    assert client is not None and client.role == "cenote://lab/role/operator" and client.subject == certificates.user_name()
    assert [one.name for one in certificates.validities(desk.directory)] == ["ca", "node", "client"]


def test_a_client_certificate_from_before_roles_is_made_anew(desk: Desk, tmp_path: Path) -> None:
    authority = certificates.read_authority(desk.directory)
    assert authority is not None
    certificates.make_leaf(desk.directory, "client", "lab", certificates.Leaf("client", "urn:nothing"), authority)
    assert certificates.ensure(desk.directory, "lab", ["10.0.0.1"]) == ["client"]


def test_a_bundle_is_private_signed_and_says_role_tenant_and_end(desk: Desk, tmp_path: Path) -> None:
    made = desks.issue(desk, "alice", "deployer", "vision", desks.parse_days("36h"), tmp_path / "alice")
    assert stat.S_IMODE((tmp_path / "alice" / "client.key").stat().st_mode) == 0o600
    found = certificates.validity(tmp_path / "alice", "client")
    assert found is not None
    assert (found.subject, found.role, found.serial) == ("alice", "cenote://lab/role/deployer/tenant/vision", made.serial)
    left = found.expires - datetime.datetime.now(datetime.timezone.utc)
    assert datetime.timedelta(hours=35) < left <= datetime.timedelta(hours=36)
    leaf = x509.load_pem_x509_certificate((tmp_path / "alice" / "client.crt").read_bytes())
    leaf.verify_directly_issued_by(x509.load_pem_x509_certificate((tmp_path / "alice" / "ca.crt").read_bytes()))
    assert list(leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH]
    assert [row["subject"] for row in desks.listing(desk)][-1] == "alice"


@pytest.mark.parametrize(
    ("subject", "role", "tenant", "days"),
    [("a", "root", "", "1d"), ("a", "node", "", "1d"), ("", "client", "", "1d"), ("x" * 65, "client", "", "1d"), ("\u00e4", "client", "", "1d"),
     ("a", "deployer", "a/b", "1d"), ("a", "operator", "x", "1d"), ("a", "client", "", "0d"), ("a", "client", "", "826d"), ("a", "client", "", "soon")],
)  # fmt: skip
def test_what_no_certificate_can_say_is_refused_as_usage(desk: Desk, tmp_path: Path, subject: str, role: str, tenant: str, days: str) -> None:
    with pytest.raises(Error) as refused:
        desks.issue(desk, subject, role, tenant, desks.parse_days(days), tmp_path / "out")
    assert refused.value.exit_code == 2
    assert not (tmp_path / "out").exists()


def test_a_bundle_is_not_written_over_another(desk: Desk, tmp_path: Path) -> None:
    desks.issue(desk, "alice", "client", "", 1, tmp_path / "out")
    with pytest.raises(Error) as refused:
        desks.issue(desk, "bob", "client", "", 1, tmp_path / "out")
    assert refused.value.exit_code == 6


def test_rotation_renews_what_lapses_and_keeps_hosts_and_authority(desk: Desk) -> None:
    before = {name: certificates.validity(desk.directory, name) for name in ("ca", "node", "client")}
    assert desks.rotate(desk) == []
    assert desks.rotate(desk, everything=True) == ["node", "client"]
    after = {name: certificates.validity(desk.directory, name) for name in ("ca", "node", "client")}
    assert after["ca"] == before["ca"]
    node_before, node = before["node"], after["node"]
    assert node_before is not None and node is not None
    assert node.serial != node_before.serial and set(node.hosts) == set(node_before.hosts)


def test_an_authority_changes_while_the_old_one_is_trusted_until_it_is_dropped(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desks, "TRUST_WAIT_S", 0)
    old = x509.load_pem_x509_certificate((desk.directory / "ca.crt").read_bytes())
    desks.issue(desk, "alice", "client", "", 1, tmp_path / "alice")
    assert desks.change_authority(desk) == ["ca", "node", "client"]
    both = x509.load_pem_x509_certificates((desk.directory / "ca.crt").read_bytes())
    assert len(both) == 2 and both[1] == old
    certificates.read_certificate(desk.directory, "node").verify_directly_issued_by(both[0])  # type: ignore[union-attr]
    assert certificates.ensure(desk.directory, "lab", ["10.0.0.1"]) == []
    assert desks.drop_old_authorities(desk) == 1
    assert x509.load_pem_x509_certificates((desk.directory / "ca.crt").read_bytes()) == both[:1]


def test_an_authority_is_not_dropped_while_this_machine_needs_it(desk: Desk) -> None:
    certificates.make_authority(desk.directory, "lab")
    with pytest.raises(Error) as refused:
        desks.drop_old_authorities(desk)
    assert refused.value.exit_code == 6 and "rotate" in refused.value.message


def test_a_change_of_authority_that_stopped_half_way_still_signs(desk: Desk) -> None:
    key = (desk.directory / "ca.key").read_bytes()
    old = x509.load_pem_x509_certificate((desk.directory / "ca.crt").read_bytes())
    certificates.make_authority(desk.directory, "lab")
    (desk.directory / "ca.key").write_bytes(key)  # As if it had stopped after ca.crt.
    authority = certificates.read_authority(desk.directory)
    assert authority is not None and authority[1] == old


def test_people_are_revoked_by_name_or_serial_and_own_certificates_never(desk: Desk, tmp_path: Path) -> None:
    alice = desks.issue(desk, "alice", "client", "", 1, tmp_path / "a1")
    second = desks.issue(desk, "alice", "client", "", 1, tmp_path / "a2")
    bob = desks.issue(desk, "bob", "client", "", 1, tmp_path / "b")
    assert desks.revoke(desk, "alice") == sorted([alice.serial, second.serial])
    assert desks.revoke(desk, bob.serial[:8]) == [bob.serial]
    assert desks.revoked(desk) == {alice.serial, second.serial, bob.serial}
    own = certificates.validity(desk.directory, "client")
    assert own is not None
    with pytest.raises(Error):
        desks.revoke(desk, own.serial)
    with pytest.raises(Error) as unknown:
        desks.revoke(desk, "carol")
    assert unknown.value.exit_code == 4


def test_all_of_it_is_audited_with_who_and_how_it_ended(desk: Desk, tmp_path: Path) -> None:
    made = desks.issue(desk, "alice", "client", "", 1, tmp_path / "a")
    desks.revoke(desk, "alice")
    desks.rotate(desk)
    entries = audit.read(desk.state_directory)
    assert [entry["action"] for entry in entries] == ["certificate issue", "certificate revoke", "certificate rotate"]
    assert all(entry["outcome"] == "ok" and entry["who"]["subject"] == certificates.user_name() and entry["time"].endswith("Z") for entry in entries)
    assert entries[0]["what"]["serial"] == made.serial


def test_what_cannot_be_audited_is_not_done(desk: Desk, tmp_path: Path) -> None:
    (desk.state_directory / "audit").mkdir(exist_ok=True)
    (desk.state_directory / "audit" / "local.jsonl").mkdir()  # Not a file: no entry can be written.
    with pytest.raises(OSError):
        desks.issue(desk, "alice", "client", "", 1, tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_failures_and_what_never_ended_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(Error), audit.local(tmp_path, "restore", {"file": "x"}):
        raise Error("data_loss", "damaged")
    log = tmp_path / "audit" / "local.jsonl"
    begun = log.read_text().splitlines()[0].replace('"id": "', '"id": "f')
    with open(log, "a") as file:
        file.write(begun + "\n" + begun[: len(begun) // 2])  # One that never ended, and a line cut short.
    first, second = audit.read(tmp_path)
    assert (first["outcome"], first["message"]) == ("data_loss", "damaged")
    assert second["outcome"] == "unfinished"


def test_the_log_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "FILE_BYTES_MAX", 4096)
    for number in range(60):
        with audit.local(tmp_path, "restore", {"number": number}):
            pass
    files = sorted(path.name for path in (tmp_path / "audit").iterdir())
    assert files == ["local.jsonl", "local.jsonl.1"]
    assert all(path.stat().st_size <= 4096 for path in (tmp_path / "audit").iterdir())
    assert audit.read(tmp_path)[-1]["what"] == {"number": 59}
