"""What whoever runs a cluster does with certificates: hand out bundles, renew, change the CA, revoke. Each is audited.

A bundle is a directory with ca.crt, client.crt and client.key: `cenote --cluster HOST:PORT --certificates DIR` takes it.
Daemons look at their files each second, so nothing here restarts anything.
"""

from __future__ import annotations

import datetime
import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cenote import audit, certificates, state
from cenote.certificates import Leaf
from cenote.errors import Error, refused, usage

ISSUED_FILE = "issued.jsonl"
REVOKED_FILE = "revoked.txt"
DAYS_MAX = certificates.LEAF_DAYS
# Until every daemon surely trusts what ca.crt says now: source/wire/credentials.h kRotationDelay, and half as much again.
TRUST_WAIT_S = 3.0
_UNITS = {"min": 1 / 1440, "h": 1 / 24, "d": 1.0, "w": 7.0}


@dataclass(frozen=True)
class Issued:
    subject: str
    role: str
    tenant: str
    serial: str
    issued: str  # UTC, ISO 8601; as the next.
    expires: str


@dataclass(frozen=True)
class Desk:
    """The directory of certificates of one cluster, on the machine that has its CA's key."""

    directory: Path
    cluster: str

    @property
    def state_directory(self) -> Path:
        return self.directory.parent


def open_desk(cluster: str | None) -> Desk:
    """By name or state directory, up or down; None: $CENOTE_CLUSTER, else the only one that is up."""
    wanted = cluster or os.environ.get("CENOTE_CLUSTER")
    directory = state.find(None).directory if wanted is None else Path(wanted) if os.sep in wanted else state.state_home() / wanted
    known = state.read(directory)
    certificate_directory = known.certificates if known is not None else directory / "certificates"
    if certificates.read_authority(certificate_directory) is None:
        raise Error(
            "not_found",
            f"{certificate_directory} has no CA that can sign (ca.crt, ca.key): name a cluster of this machine, or run this where `cenote up` made them",
        )
    node = certificates.validity(certificate_directory, "node")
    named = node.role.removeprefix("cenote://").partition("/")[0] if node is not None and node.role else ""
    name = known.name if known is not None else named or directory.name
    return Desk(certificate_directory, name)


def parse_days(text: str) -> float:
    """ "12h", "90d", "4w": of which at most LEAF_DAYS are given."""
    for unit, days in sorted(_UNITS.items(), key=lambda item: -len(item[0])):
        number = text.removesuffix(unit).strip()
        if text.endswith(unit) and number.replace(".", "", 1).isdigit() and float(number) > 0:
            if float(number) * days > DAYS_MAX:
                raise usage(f"--valid-for {text}: at most {DAYS_MAX}d; a certificate is renewed, not made for ever")
            return float(number) * days
    raise usage(f"--valid-for '{text}': write a number and one of min, h, d, w, such as 90d")


def _utc(moment: datetime.datetime) -> str:
    return moment.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def issue(desk: Desk, subject: str, role: str, tenant: str, days: float, out: Path) -> Issued:
    """A bundle for one person or program. Its directory must not hold another's."""
    if role not in certificates.ROLES:
        raise usage(f"--role '{role}': one of {', '.join(certificates.ROLES)}")
    if not 0 < len(subject.encode()) <= 64 or not subject.isascii() or not subject.isprintable():
        raise usage(f"'{subject}': who it is for has 1 to 64 printable ASCII characters")
    if tenant and not certificates.is_name(tenant):
        raise usage(f"--tenant '{tenant}': letters, digits, '-', '_' and '.', at most 63, not beginning with '.'")
    if tenant and role == "operator":
        raise usage("an operator is no tenant's: leave --tenant out")
    if role == "deployer":
        tenant = tenant or "default"
    if (out / "client.key").exists():
        raise Error("already_exists", f"{out} holds a bundle already: name another directory with --out, or remove it first")
    authority = certificates.read_authority(desk.directory)
    assert authority is not None
    with audit.local(desk.state_directory, "certificate issue", {"subject": subject, "role": role, "tenant": tenant}) as entry:
        out.mkdir(mode=0o700, parents=True, exist_ok=True)
        leaf = Leaf(subject, certificates.role_uri(desk.cluster, role, tenant), (), days)
        certificate = certificates.make_leaf(out, "client", desk.cluster, leaf, authority)
        shutil.copyfile(desk.directory / "ca.crt", out / "ca.crt")
        made = Issued(
            subject, role, tenant, f"{certificate.serial_number:x}", _utc(datetime.datetime.now(datetime.timezone.utc)), _utc(certificate.not_valid_after_utc)
        )  # fmt: skip
        entry.what["serial"] = made.serial
        with open(desk.directory / ISSUED_FILE, "a") as file:
            file.write(json.dumps(asdict(made)) + "\n")
            file.flush()
            os.fsync(file.fileno())
    return made


def issued(desk: Desk) -> list[Issued]:
    path = desk.directory / ISSUED_FILE
    found = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            found.append(Issued(**json.loads(line)))
        except (ValueError, TypeError):  # A line that a crash cut short.
            continue
    return found


def revoked(desk: Desk) -> set[str]:
    path = desk.directory / REVOKED_FILE
    lines = path.read_text().splitlines() if path.exists() else []
    return {serial for line in lines if (serial := line.partition("#")[0].strip().lower().lstrip("0"))}


def revoke(desk: Desk, which: str) -> list[str]:
    """By serial (or 6 first digits of one) or by subject: all of that name. Daemons refuse them within about two seconds."""
    known = issued(desk)
    own = [validity for name in ("client", "node") if (validity := certificates.validity(desk.directory, name)) is not None]
    wanted = which.lower().lstrip("0")
    serials = {i.serial for i in known if i.subject == which or (len(wanted) >= 6 and i.serial.startswith(wanted))}
    if not serials and len(wanted) >= 6 and all(c in "0123456789abcdef" for c in wanted):
        serials = {wanted}  # Of a bundle whose record is lost.
    if not serials:
        names = ", ".join(sorted({i.subject for i in known})) or "nobody"
        raise Error("not_found", f"no certificate '{which}' was issued here; give a serial, or one of: {names}")
    for validity in own:
        if validity.serial in serials:
            raise refused(f"{validity.serial} is this cluster's own {validity.name} certificate: `cenote certificates rotate --all` replaces it first")
    fresh = sorted(serials - revoked(desk))
    with audit.local(desk.state_directory, "certificate revoke", {"which": which, "serials": fresh}):
        path = desk.directory / REVOKED_FILE
        before = path.read_text() if path.exists() else "# Serials of certificates that count no more.\n"
        subjects = {i.serial: i.subject for i in known}
        lines = [f"{serial}  # {subjects.get(serial, 'unknown')}, {audit.now()}\n" for serial in fresh]
        certificates.write_file(path, (before + "".join(lines)).encode(), 0o600)
    return sorted(serials)


def rotate(desk: Desk, *, everything: bool = False) -> list[str]:
    """Renews what lapses within RENEW_DAYS, or all. Connections that are open go on; new ones show the new certificates."""
    node = certificates.validity(desk.directory, "node")
    hosts = [host for host in node.hosts if host != certificates.NODE_NAME] if node is not None else []
    days = certificates.LEAF_DAYS + 1 if everything else certificates.RENEW_DAYS
    with audit.local(desk.state_directory, "certificate rotate", {"all": everything}) as entry:
        made = certificates.ensure(desk.directory, desk.cluster, hosts, renew_days=days)
        entry.what["renewed"] = made
    return made


def change_authority(desk: Desk, report: Callable[[str], None] = lambda _: None) -> list[str]:
    """A new CA beside the old one; once all daemons trust both, the certificates of this machine are signed by the new one."""
    with audit.local(desk.state_directory, "certificate authority", {}) as entry:
        authority = certificates.make_authority(desk.directory, desk.cluster)
        entry.what["serial"] = f"{authority[1].serial_number:x}"
    report("waiting until every daemon trusts the new authority")
    time.sleep(TRUST_WAIT_S)
    return ["ca", *rotate(desk)]


def drop_old_authorities(desk: Desk) -> int:
    """Trusts the newest CA alone: what the ones before signed is refused from then on. Returns how many went."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization as form

    authority = certificates.read_authority(desk.directory)
    assert authority is not None
    present = x509.load_pem_x509_certificates((desk.directory / "ca.crt").read_bytes())
    for name in ("node", "client"):
        leaf = certificates.read_certificate(desk.directory, name)
        if leaf is None or not certificates.signed_by(leaf, authority[1]):
            raise refused(f"{name}.crt is still signed by an older authority: run `cenote certificates rotate` first")
    with audit.local(desk.state_directory, "certificate authority drop", {"dropped": len(present) - 1}):
        certificates.write_file(desk.directory / "ca.crt", authority[1].public_bytes(form.Encoding.PEM), 0o644)
    return len(present) - 1


def listing(desk: Desk) -> list[dict[str, Any]]:
    """This machine's own and all that was issued here, newest last."""
    gone = revoked(desk)
    now = datetime.datetime.now(datetime.timezone.utc)
    rows = []
    for own in certificates.validities(desk.directory):
        role = own.role.partition("/role/")[2].partition("/")[0] if own.role else "authority" if own.name == "ca" else ""
        rows.append({"file": f"{own.name}.crt", "subject": own.subject, "role": role, "tenant": "", "serial": own.serial,
                     "expires": _utc(own.expires), "days_left": own.days_left, "revoked": own.serial in gone})  # fmt: skip
    for one in issued(desk):
        expires = datetime.datetime.strptime(one.expires, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=datetime.timezone.utc)
        rows.append({"file": "", "subject": one.subject, "role": one.role, "tenant": one.tenant, "serial": one.serial,
                     "expires": one.expires, "days_left": (expires - now).days, "revoked": one.serial in gone})  # fmt: skip
    return rows
