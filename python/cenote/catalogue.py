"""Keeping the catalogue: a backup of a running cluster, putting one back, and making the catalogue anew from what the pool holds."""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cenote import audit, lifecycle, native, state
from cenote.errors import Error, refused

if TYPE_CHECKING:
    from cenote.cluster import Cluster

_FILE = "catalogue.db"
_BACKUP_BYTES_MAX = 4 << 30
_PAGE_TIMEOUT_S = 30.0
_READS_MAX = 3


@dataclass(frozen=True)
class BackedUp:
    file: Path
    cluster: str
    bytes: int
    revisions: int
    events: int
    fingerprint: str


@dataclass(frozen=True)
class Restored:
    directory: Path
    cluster: str
    revisions: int
    created_us: int  # When the backup was made.
    kept: Path | None  # The catalogue that was replaced.


@dataclass
class Rebuilt:
    adopted: list[str] = field(default_factory=list)  # name@digest, oldest first.
    latest: list[str] = field(default_factory=list)  # Names whose tag `latest` was set.
    incomplete: list[str] = field(default_factory=list)  # With the reason.
    unknown_blocks: int = 0  # Held by memory servers, needed by no revision.
    unknown_bytes: int = 0
    absent: list[str] = field(default_factory=list)  # Memory servers that are not up.
    held: bool = True  # Memory servers keep what no revision needs.


# ---- backup ----------------------------------------------------------------------------------------------------------


def _read_events(cluster: Cluster) -> tuple[str, int, list[bytes]]:
    """The catalogue's name, the sequence of its last event, and all events up to it: what comes meanwhile is left out."""
    for attempt in range(_READS_MAX):
        try:
            page = cluster.ask_controller("read_events", 0, _PAGE_TIMEOUT_S)
            name, first, last, events = page["cluster"], page["first"], page["last"], list(page["events"])
            while first + len(events) <= last:
                events += cluster.ask_controller("read_events", first + len(events), _PAGE_TIMEOUT_S)["events"]
            return name, last, events[: last + 1 - first]
        except Error as error:
            if error.code != "out_of_range" or attempt + 1 == _READS_MAX:  # It was compacted: the controller started anew.
                raise
    raise AssertionError


def _write_durably(file: Path, data: bytes) -> None:
    part = file.with_name(f".{file.name}.part-{os.getpid()}")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
    _sync_directory(file.parent)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def backup(cluster: Cluster, file: Path, *, force: bool = False) -> BackedUp:
    """Writes the catalogue as it is now; the cluster goes on. already_exists: `file` is there and `force` was not given."""
    file = file.absolute()
    if file.exists() and not force:
        raise Error("already_exists", f"{file} is there already: name another file, or give --force to replace it")
    name, last, events = _read_events(cluster)
    data, info = native.load().make_backup(name, time.time_ns() // 1000, last, events)
    _write_durably(file, data)
    return BackedUp(file, name, len(data), info["revisions"], info["events"], info["fingerprint"])


def read_backup(file: Path) -> tuple[bytes, dict[str, Any]]:
    """Its bytes and what is in it, checked whole."""
    size = file.stat().st_size
    if size > _BACKUP_BYTES_MAX:
        raise Error("invalid_argument", f"{file} has {size} bytes, a backup at most {_BACKUP_BYTES_MAX}")
    data = file.read_bytes()
    try:
        return data, native.load().check_backup(data)
    except Error as error:
        raise Error(error.code, f"{file}: {error.message}") from error


# ---- restore ---------------------------------------------------------------------------------------------------------


def _directory(cluster: str | None, backup_of: str) -> Path:
    if cluster is not None and os.sep in cluster:
        directory = Path(cluster).absolute()
    else:
        directory = state.state_home() / (cluster or backup_of)
    if not directory.is_dir():
        raise Error(
            "not_found",
            f"{directory} is not there: the backup is of cluster '{backup_of}'; name its state directory with --cluster DIR, "
            "or start it once with `cenote up` and stop it with `cenote down`",
        )
    return directory


def _check_cluster(directory: Path, backup_of: str) -> None:
    settings = directory / "settings.toml"
    if not settings.is_file():
        return
    name = lifecycle.read_settings(settings, [])["cluster"]["name"]
    if name != backup_of:
        raise refused(f"the backup is of cluster '{backup_of}', {directory} is of '{name}': name the right one with --cluster")


def _set_aside(path: Path) -> Path | None:
    """A second name for the file that is to be replaced. Its log, if it could not be folded in, goes along: it fits no other file."""
    if not path.exists():
        return None
    try:
        native.load().close_catalogue(str(path))
    except Error as error:
        if error.code == "already_exists":
            raise refused(f"{path} is in use: stop the cluster with `cenote down` first") from error
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    kept = path.with_name(f"{_FILE}.replaced-{stamp}-{secrets.token_hex(2)}")
    log = path.with_name(path.name + "-wal")
    if log.exists():
        log.rename(kept.with_name(kept.name + "-wal"))
    try:
        os.link(path, kept)
    except OSError:  # No hard links there.
        shutil.copy2(path, kept)
    return kept


def restore(file: Path, cluster: str | None = None) -> Restored:
    """Puts a backup in the place of a stopped cluster's catalogue, which is kept beside it. Nothing changes before the backup is checked whole."""
    data, info = read_backup(file)
    directory = _directory(cluster, info["cluster"])
    with lifecycle.exclusive(directory):
        if lifecycle.supervisor(directory) is not None:
            raise refused(f"cluster '{info['cluster']}' is up: stop it with `cenote down` first")
        _check_cluster(directory, info["cluster"])
        path, new = directory / _FILE, directory / (_FILE + ".restoring")
        for left in directory.glob(new.name + "*"):
            left.unlink()
        native.load().restore_backup(data, str(new), secrets.randbits(64) or 1)
        with audit.local(directory, "restore", {"file": str(file), "revisions": info["revisions"]}):
            kept = _set_aside(path)
            new.replace(path)
            _sync_directory(directory)
    return Restored(directory, info["cluster"], info["revisions"], info["created_us"], kept)


# ---- rebuild ---------------------------------------------------------------------------------------------------------


def _record(cluster: Cluster, block: tuple[str, int]) -> dict[str, Any] | None:
    """The revision that a label names, from its manifest in the pool. None: the block is no label."""
    module = native.load()
    try:
        label = module.decode_label(cluster.read_blocks([block]))
    except Error as error:
        if error.code == "invalid_argument":
            return None
        raise
    data = cluster.read_blocks(label["manifest_blocks"])
    if module.sha256(data) != label["digest"]:
        raise Error("data_loss", f"{label['name']}@{label['digest'][:12]}: its label names blocks that are not its manifest")
    manifest = module.decode_manifest(data)
    blocks = [(entry[0], entry[1]) for entry in manifest["blocks"]]
    return {
        "digest": label["digest"],
        "name": label["name"],
        "manifest_bytes": label["manifest_bytes"],
        "manifest_blocks": label["manifest_blocks"],
        "blocks": blocks,
        "file_blocks": [(entry[0], entry[1]) for file in manifest["files"] for entry in file["blocks"]],
        "weight_bytes": sum(size for _, size in blocks),
        "created_us": label["created_us"],
        "device_filter": "",
        "label": block,
    }


def rebuild(cluster: Cluster, *, drop_unknown: bool = False, report: Callable[[str], None] = lambda _: None) -> Rebuilt:
    """Adopts every revision whose label, manifest and blocks the pool holds and the catalogue does not know.

    Drops are held from the first moment, and go on only if nothing unknown is left, or `drop_unknown` says to let go of it.
    """
    cluster.ask_controller("hold_drops", True, 10.0)
    found = cluster.ask_controller("find_unclaimed", 10.0)
    result = Rebuilt(absent=found["absent"])
    records = []
    for number, block in enumerate(found["labels"], 1):
        report(f"reading label {number} of {len(found['labels'])}")
        try:
            record = _record(cluster, block)
        except Error as error:
            if error.code in ("unauthenticated", "permission_denied"):
                raise
            result.incomplete.append(f"label {block[0][:12]}: {error.message}")
            continue
        if record is not None:
            records.append(record)
    latest: dict[str, None] = {}
    for record in sorted(records, key=lambda r: (r["created_us"], r["digest"])):
        called = f"{record['name']}@{record['digest'][:12]}"
        report(f"adopting {called}")
        try:
            answer = cluster.ask_controller("adopt", record, 10.0)
        except Error as error:
            if error.code not in ("not_found", "invalid_argument", "already_exists"):
                raise
            result.incomplete.append(f"{called}: {error.message}")
            continue
        result.adopted.append(called)
        if answer["tag"]:
            latest[record["name"]] = None
    result.latest = list(latest)
    left = cluster.ask_controller("find_unclaimed", 10.0)
    result.unknown_blocks, result.unknown_bytes, result.absent = left["blocks"], left["bytes"], left["absent"]
    if drop_unknown or result.unknown_blocks == 0:
        cluster.ask_controller("hold_drops", False, 10.0)
        result.held = False
    return result
