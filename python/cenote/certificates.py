"""Keys of a cluster: its own CA, one certificate for its daemons, one for whoever runs it, and bundles for other people.

EC P-256. Keys are 0600, the directory 0700. The CA's key stays in the state directory, so that lapsing certificates can be
renewed by the next `cenote up` or `cenote certificates rotate` without a new CA. What a certificate may do stands in it as a URI
(source/wire/caller.h); what has been handed out in issued.jsonl beside it, what counts no more in revoked.txt.
"""

from __future__ import annotations

import datetime
import getpass
import ipaddress
import os
import re
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
ROLES = ("operator", "deployer", "client")  # That people may have; daemons have "node".
_CLOCK_SKEW = datetime.timedelta(hours=1)
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,62}")


@dataclass(frozen=True)
class Validity:
    name: str
    expires: datetime.datetime
    days_left: int
    hosts: tuple[str, ...]  # Alternative names but the role's.
    subject: str = ""
    role: str = ""  # The role's URI; empty: made before there were roles, or a CA.
    serial: str = ""  # Lower-case hexadecimal, as revoked.txt has it.


def is_name(text: str) -> bool:
    """What settings take for names of clusters and tenants."""
    return _NAME.fullmatch(text) is not None


def role_uri(cluster: str, role: str, tenant: str = "") -> str:
    return f"cenote://{cluster}/role/{role}" + (f"/tenant/{tenant}" if tenant else "")


def user_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # An account without an entry, as containers have them.
        return f"uid {os.getuid()}"


def write_file(path: Path, data: bytes, mode: int) -> None:
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

    write_file(
        directory / f"{name}.key",
        key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()),
        0o600,
    )
    write_file(directory / f"{name}.crt", certificate.public_bytes(form.Encoding.PEM), 0o644)


def _subject(cluster: str, common_name: str) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, f"cenote {cluster}"[:64]),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64]),
        ]
    )


def _start(subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, days: float) -> x509.CertificateBuilder:
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


def make_authority(directory: Path, cluster: str) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """A new CA. The one that signed until now stays trusted beside it while it is valid: ca.crt holds the new one first."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec

    now = datetime.datetime.now(datetime.timezone.utc)
    before = read_authority(directory)
    kept = [] if before is None or before[1].not_valid_after_utc < now else [before[1]]

    key = ec.generate_private_key(ec.SECP256R1())
    subject = _subject(cluster, "certificate authority")
    certificate = (
        _start(subject, subject, key.public_key(), CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    # The certificates first: whenever this stops, the key there is belongs to one of them.
    write_file(directory / "ca.crt", b"".join(c.public_bytes(form.Encoding.PEM) for c in [certificate, *kept]), 0o644)
    write_file(directory / "ca.key", key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()), 0o600)
    return key, certificate


def read_authority(directory: Path) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate] | None:
    """The CA that signs: the one of ca.crt whose key is ca.key. None: there is none that can be used."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        key = serialization.load_pem_private_key((directory / "ca.key").read_bytes(), None)
        certificates = x509.load_pem_x509_certificates((directory / "ca.crt").read_bytes())
    except (OSError, ValueError, TypeError):
        return None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        return None
    own = [certificate for certificate in certificates if certificate.public_key() == key.public_key()]
    return (key, own[0]) if own else None


@dataclass(frozen=True)
class Leaf:
    """What a certificate says of its holder."""

    subject: str
    uri: str
    hosts: tuple[str, ...] = ()  # Daemons only: DNS names and addresses.
    days: float | None = None  # None: LEAF_DAYS.


def make_leaf(
    directory: Path, name: str, cluster: str, leaf: Leaf, authority: tuple[ec.EllipticCurvePrivateKey, x509.Certificate]
) -> x509.Certificate:
    """NAME.key, then NAME.crt, each replaced as a whole: a daemon that watches them sees no half."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID

    key = ec.generate_private_key(ec.SECP256R1())
    ca_key, ca_certificate = authority
    uses = [ExtendedKeyUsageOID.CLIENT_AUTH] + ([ExtendedKeyUsageOID.SERVER_AUTH] if leaf.hosts else [])
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(leaf.uri)]
    for host in leaf.hosts:
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
    builder = (
        _start(_subject(cluster, leaf.subject), ca_certificate.subject, key.public_key(), LEAF_DAYS if leaf.days is None else leaf.days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
    )
    certificate = builder.sign(ca_key, hashes.SHA256())
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    _write_pair(directory, name, key, certificate)
    return certificate


def read_certificate(directory: Path, name: str) -> x509.Certificate | None:
    """The first of the file. None: not there or not readable."""
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificate((directory / f"{name}.crt").read_bytes())
    except (OSError, ValueError):
        return None


def validity(directory: Path, name: str) -> Validity | None:
    """None: not there or not readable."""
    certificate = read_certificate(directory, name)
    return describe(name, certificate) if certificate is not None else None


def describe(name: str, certificate: x509.Certificate) -> Validity:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    expires = certificate.not_valid_after_utc
    hosts: list[str] = []
    role = ""
    try:
        for entry in certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value:
            if str(entry.value).startswith("cenote://"):
                role = str(entry.value)
            else:
                hosts.append(str(entry.value))
    except x509.ExtensionNotFound:
        pass
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    left = expires - datetime.datetime.now(datetime.timezone.utc)
    return Validity(name, expires, left.days, tuple(hosts), str(names[0].value) if names else "", role, f"{certificate.serial_number:x}")


def validities(directory: Path) -> list[Validity]:
    """Of the CA, the daemons' and the tool's own certificate, as far as they are there: for whoever warns of what lapses."""
    return [found for found in (validity(directory, name) for name in ("ca", "node", "client")) if found is not None]


def signed_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _usable(directory: Path, name: str, leaf: Leaf, authority: x509.Certificate, renew_days: int) -> bool:
    from cryptography.hazmat.primitives import serialization

    certificate = read_certificate(directory, name)
    if certificate is None or not signed_by(certificate, authority):
        return False
    present = describe(name, certificate)
    try:
        key = serialization.load_pem_private_key((directory / f"{name}.key").read_bytes(), None)
    except (OSError, ValueError, TypeError):
        return False
    same = key.public_key() == certificate.public_key() and present.role == leaf.uri
    return same and present.days_left >= renew_days and set(leaf.hosts) <= set(present.hosts)


def ensure(directory: Path, cluster: str, hosts: Iterable[str], *, renew_days: int = RENEW_DAYS) -> list[str]:
    """Makes what is missing, lapsing within `renew_days`, signed by another CA, or without its role or one of `hosts`.

    Returns the names of what it made. The user's own certificate is an operator's.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(0o700)
    made: list[str] = []
    authority = read_authority(directory)
    if authority is None or describe("ca", authority[1]).days_left < RENEW_DAYS:
        authority = make_authority(directory, cluster)
        made.append("ca")
    for name, leaf in own_leaves(cluster, hosts).items():
        if not _usable(directory, name, leaf, authority[1], renew_days):
            make_leaf(directory, name, cluster, leaf, authority)
            made.append(name)
    return made


def own_leaves(cluster: str, hosts: Iterable[str]) -> dict[str, Leaf]:
    """The certificates that every machine of a cluster has: its daemons' and its operator's."""
    names = tuple(dict.fromkeys([NODE_NAME, *hosts, "localhost", "127.0.0.1", "::1"]))
    return {
        "node": Leaf("node", role_uri(cluster, "node"), names),
        "client": Leaf(user_name(), role_uri(cluster, "operator")),
    }
