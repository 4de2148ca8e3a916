"""Keys of a local cluster: its own CA, one certificate for its daemons, one for the people who use it.

EC P-256. Keys are 0600, the directory 0700. The CA's key stays in the state directory, so that lapsing certificates can be
renewed by the next `cenote up` without a new CA.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

CA_DAYS = 3650
LEAF_DAYS = 825
RENEW_DAYS = 30
NODE_NAME = "node.cenote"  # source/wire/credentials.h: what makes a peer a daemon; never in the client's certificate.
_CLOCK_SKEW = datetime.timedelta(hours=1)


@dataclass(frozen=True)
class Validity:
    name: str
    expires: datetime.datetime
    days_left: int
    hosts: tuple[str, ...]


def _write(path: Path, data: bytes, mode: int) -> None:
    """Whole or not at all, never readable to others in between."""
    part = path.with_suffix(path.suffix + ".part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def _write_pair(directory: Path, name: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
    from cryptography.hazmat.primitives import serialization as form

    _write(
        directory / f"{name}.key",
        key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()),
        0o600,
    )
    _write(directory / f"{name}.crt", certificate.public_bytes(form.Encoding.PEM), 0o644)


def _subject(cluster: str, common_name: str) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, f"cenote {cluster}"[:64]),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64]),
        ]
    )


def _start(subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, days: int) -> x509.CertificateBuilder:
    from cryptography import x509

    now = datetime.datetime.now(datetime.timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _make_ca(directory: Path, cluster: str) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = _subject(cluster, "certificate authority")
    certificate = (
        _start(subject, subject, key.public_key(), CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    _write_pair(directory, "ca", key, certificate)
    return key, certificate


def _read_ca(directory: Path) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate] | None:
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        key = serialization.load_pem_private_key((directory / "ca.key").read_bytes(), None)
        certificate = x509.load_pem_x509_certificate((directory / "ca.crt").read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        return None
    return key, certificate


def _make_leaf(
    directory: Path, cluster: str, name: str, hosts: Iterable[str], ca: tuple[ec.EllipticCurvePrivateKey, x509.Certificate]
) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID

    key = ec.generate_private_key(ec.SECP256R1())
    ca_key, ca_certificate = ca
    uses = [ExtendedKeyUsageOID.CLIENT_AUTH]
    if name == "node":
        uses.append(ExtendedKeyUsageOID.SERVER_AUTH)
    builder = (
        _start(_subject(cluster, name), ca_certificate.subject, key.public_key(), LEAF_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
    )
    names: list[x509.GeneralName] = []
    for host in hosts:
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    _write_pair(directory, name, key, builder.sign(ca_key, hashes.SHA256()))


def validity(directory: Path, name: str) -> Validity | None:
    """None: not there or not readable."""
    from cryptography import x509

    try:
        certificate = x509.load_pem_x509_certificate((directory / f"{name}.crt").read_bytes())
    except (OSError, ValueError):
        return None
    expires = certificate.not_valid_after_utc
    hosts: list[str] = []
    try:
        for entry in certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value:
            hosts.append(str(entry.value))
    except x509.ExtensionNotFound:
        pass
    left = expires - datetime.datetime.now(datetime.timezone.utc)
    return Validity(name, expires, left.days, tuple(hosts))


def ensure(directory: Path, cluster: str, hosts: Iterable[str]) -> list[str]:
    """Makes what is missing, lapsing within RENEW_DAYS, or without one of `hosts`; returns the names of what it made."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(0o700)
    wanted = list(dict.fromkeys([NODE_NAME, *hosts, "localhost", "127.0.0.1", "::1"]))
    made: list[str] = []
    ca = _read_ca(directory)
    ca_validity = validity(directory, "ca")
    if ca is None or ca_validity is None or ca_validity.days_left < RENEW_DAYS:
        ca = _make_ca(directory, cluster)
        made.append("ca")
    new_ca = bool(made)
    leaves: tuple[tuple[str, list[str]], ...] = (("node", wanted), ("client", []))
    for name, needed in leaves:
        present = validity(directory, name)
        usable = present is not None and present.days_left >= RENEW_DAYS and set(needed) <= set(present.hosts)
        if new_ca or not usable or not (directory / f"{name}.key").exists():
            _make_leaf(directory, cluster, name, needed, ca)
            made.append(name)
    return made
