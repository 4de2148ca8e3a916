"""Goal: a cluster's keys are private, belong together, name who may be a daemon, and are renewed before they lapse."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography import x509

from cenote import certificates


def _load(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_keys_are_private_and_certificates_verify(tmp_path: Path) -> None:
    directory = tmp_path / "certificates"
    assert certificates.ensure(directory, "test", ["10.1.2.3", "example.org"]) == ["ca", "node", "client"]
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    authority = _load(directory / "ca.crt")
    for name in ("node", "client"):
        assert stat.S_IMODE((directory / f"{name}.key").stat().st_mode) == 0o600
        _load(directory / f"{name}.crt").verify_directly_issued_by(authority)
    node = certificates.validity(directory, "node")
    assert node is not None and {"10.1.2.3", "example.org", "127.0.0.1", "localhost", certificates.NODE_NAME} <= set(node.hosts)


def test_a_client_cannot_pose_as_a_daemon(tmp_path: Path) -> None:
    certificates.ensure(tmp_path, "test", [])
    client = certificates.validity(tmp_path, "client")
    assert client is not None and certificates.NODE_NAME not in client.hosts
    usage = _load(tmp_path / "client.crt").extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH]


def test_what_is_good_is_kept(tmp_path: Path) -> None:
    certificates.ensure(tmp_path, "test", ["10.0.0.1"])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert certificates.ensure(tmp_path, "test", ["10.0.0.1"]) == []
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_new_host_remakes_only_the_daemons_certificate(tmp_path: Path) -> None:
    certificates.ensure(tmp_path, "test", [])
    assert certificates.ensure(tmp_path, "test", ["10.9.9.9"]) == ["node"]


def test_lapsing_certificates_are_renewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificates, "LEAF_DAYS", certificates.RENEW_DAYS - 1)
    certificates.ensure(tmp_path, "test", [])
    monkeypatch.setattr(certificates, "LEAF_DAYS", 100)
    assert certificates.ensure(tmp_path, "test", []) == ["node", "client"]
    assert certificates.ensure(tmp_path, "test", []) == []


def test_a_damaged_authority_is_replaced_with_all_it_signed(tmp_path: Path) -> None:
    certificates.ensure(tmp_path, "test", [])
    (tmp_path / "ca.key").write_text("nonsense")
    assert certificates.ensure(tmp_path, "test", []) == ["ca", "node", "client"]
