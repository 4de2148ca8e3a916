"""From a module to a revision that the cluster serves: export, lay out, hash, send what is missing, commit.

Nothing is visible before the commit; whatever stops a deploy earlier, Ctrl-C included, aborts it at the controller, and its slabs expire.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cenote import changes, interrupts, native
from cenote.errors import Error, refused

if TYPE_CHECKING:
    from cenote.graph_types import ExportedModel

_BLOCK_BYTES_MAX = 4 << 20
_BLOCK_ALIGN_BYTES = 4096
# (stage, bytes done, bytes in all); stages in order: "hash", "send".
DeployProgress = Callable[[str, int, int], None]
Block = tuple[str, int, list[int]]  # SHA-256, bytes, XXH3-64 of each chunk.


@dataclass
class Deployed:
    """What came of a deploy."""

    name: str
    tag: str
    digest: str
    already_existed: bool  # The same bytes, graph and signature were deployed before.
    weight_bytes: int
    sent_bytes: int  # All replicas.
    shared_bytes: int  # Of the revision, already in the pool.
    hash_s: float
    send_s: float
    total_s: float
    warnings: list[str] = field(default_factory=list)


@dataclass
class Prepared:
    """A revision on this side of the wire: its record, and where the bytes of each block lie."""

    record: dict[str, Any]
    blocks: dict[str, tuple[int, Any, int]]  # SHA-256 -> size, source, offset.


def _source(data: Any) -> Any:
    return native.load().Source(len(data), [(0, data)])


def _split(size: int) -> list[tuple[int, int]]:
    return [(offset, min(_BLOCK_BYTES_MAX, size - offset)) for offset in range(0, size, _BLOCK_BYTES_MAX)]


def _hash_whole(data: bytes) -> tuple[list[Block], Any]:
    source = _source(data)
    return native.load().hash_blocks(source, _split(len(data))), source


def prepare(model: ExportedModel, progress: DeployProgress | None = None) -> Prepared:
    """Lays the tensors out, hashes all blocks, encodes the manifest. Reads tensors' bytes in place; copies none."""
    module = native.load()
    layout = module.lay_out(
        [
            {
                "name": tensor.name,
                "kind": tensor.kind,
                "dtype": tensor.dtype,
                "shape": list(tensor.shape),
                "layer": tensor.layer,
                "gather_only": tensor.gather_only,
                "mutated": tensor.mutated,
                "tied_to": tensor.tied_to or "",
            }
            for tensor in model.tensors
        ]
    )
    total = layout["range_bytes"]
    pieces = [
        (entry["offset_bytes"], tensor.read())
        for tensor, entry in zip(model.tensors, layout["tensors"], strict=True)
        if tensor.tied_to is None and entry["size_bytes"]
    ]
    weights = module.Source(total, pieces)
    report = (lambda done: progress("hash", done, total)) if progress is not None else None
    entries: list[Block] = module.hash_blocks(weights, layout["blocks"], progress=report)
    where = {entry[0]: (entry[1], weights, span[0]) for entry, span in zip(entries, layout["blocks"], strict=True)}

    files = []
    file_blocks: list[tuple[str, int]] = []
    for name, data in sorted(model.files.items()):
        hashed, source = _hash_whole(data)
        files.append({"name": name, "size_bytes": len(data), "blocks": hashed})
        file_blocks += [(block[0], block[1]) for block in hashed]
        where.update({block[0]: (block[1], source, span[0]) for block, span in zip(hashed, _split(len(data)), strict=True)})

    manifest = module.encode_manifest(
        {
            "blocks": entries,
            "files": files,
            "tensors": layout["tensors"],
            "signature": model.signature_json(),
            "graph": model.graph,
        }
    )
    module.decode_manifest(manifest)  # What the executors would refuse is refused here, in the same words.
    hashed, source = _hash_whole(manifest)
    where.update({block[0]: (block[1], source, span[0]) for block, span in zip(hashed, _split(len(manifest)), strict=True)})
    record = {
        "digest": module.sha256(manifest),
        "name": model.name,
        "manifest_bytes": len(manifest),
        "manifest_blocks": [(block[0], block[1]) for block in hashed],
        "blocks": [(block[0], block[1]) for block in entries],
        "file_blocks": file_blocks,
        "weight_bytes": sum(block[1] for block in entries),
        "created_us": time.time_ns() // 1000,
        "device_filter": "",
        "label": None,
    }
    return Prepared(record, where)


def _add_label(ask: changes.Ask, prepared: Prepared) -> None:
    """The block that names the revision in the pool. One that was deployed before keeps its date, and so its label."""
    record = prepared.record
    try:
        (known,) = changes.patiently(ask, "models", f"{record['name']}@{record['digest']}", False)
        record["created_us"] = known["record"]["created_us"]
    except Error as error:
        if error.code != "not_found":
            raise
    data = native.load().encode_label(record)
    digest = native.load().sha256(data)
    record["label"] = (digest, len(data))
    prepared.blocks[digest] = (len(data), _source(data), 0)


@contextlib.contextmanager
def _renewed(ask: changes.Ask, deploy: int, lease_s: float) -> Iterator[None]:
    """Keeps the deploy's lease while its bytes travel."""
    stop = threading.Event()

    def renew() -> None:
        while not stop.wait(lease_s / 3):
            with contextlib.suppress(Error):  # A controller that restarts: the next one, or the commit, will say.
                ask("renew_deploy", deploy, lease_s / 3)

    thread = threading.Thread(target=renew, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()  # No deadline: its one call has one.


def _shares(plan: dict[str, Any], order: list[str], prepared: Prepared) -> list[tuple[dict[str, Any], list[Any]]]:
    servers = {server["name"]: (server, []) for server in plan["servers"]}
    for index, targets in plan["send"]:
        digest = order[index]
        size, source, offset = prepared.blocks[digest]
        for target in targets:
            if target not in servers:
                raise Error("internal", f"the controller named {target} as a target but not its address")
            servers[target][1].append((digest, size, source, offset))
    return [share for share in servers.values() if share[1]]


def _check_capacity(plan: dict[str, Any], shares: list[tuple[dict[str, Any], list[Any]]]) -> None:
    from cenote.show import format_bytes

    for server, blocks in shares:
        needed = sum(block[1] for block in blocks)
        if needed > server["capacity_bytes"]:
            raise Error(
                "resource_exhausted",
                f"{server['name']} would get {format_bytes(needed)}, it holds {format_bytes(server['capacity_bytes'])}; "
                "raise memory.capacity (with data_dir: memory.data_capacity), add memory servers, or lower placement.replicas",
            )


def _cache_bytes(record: dict[str, Any]) -> int:
    """What a host's cache must hold to serve it."""
    sizes = dict([*record["blocks"], *record["manifest_blocks"]])
    return sum(-(-size // _BLOCK_ALIGN_BYTES) * _BLOCK_ALIGN_BYTES for size in sizes.values())


def _send_and_commit(
    ask: changes.Ask, certificates: str, prepared: Prepared, plan: dict[str, Any], request: dict[str, Any], progress: DeployProgress | None
) -> tuple[dict[str, Any], int]:
    """The commit's answer, and the bytes sent. Whatever stops it ends the deploy."""
    deploy = plan["deploy"]
    try:
        shares = _shares(plan, list(prepared.blocks), prepared)
        _check_capacity(plan, shares)
        total = sum(block[1] for _, blocks in shares for block in blocks)
        report = (lambda done: progress("send", done, total)) if progress is not None else None
        with _renewed(ask, deploy, plan["lease_s"]):
            native.load().send_blocks(certificates, shares, request["client"], report)
        interrupts.check()
        try:
            return ask("commit_deploy", deploy, prepared.record, request["operation"], 30.0), total
        except Error as error:
            raise _CommitLost(error) if error.code in (*changes.TRANSIENT, "not_found") else error from None
    except BaseException:
        with contextlib.suppress(Error):
            ask("abort_deploy", deploy, 5.0)
        raise


class _CommitLost(Exception):
    """The controller did not answer a commit, or started anew and knows nothing of the deploy."""

    def __init__(self, error: Error) -> None:
        super().__init__(error.message)
        self.error = error


def send(
    ask: changes.Ask, certificates: str, prepared: Prepared, *, tag: str, update: bool, progress: DeployProgress | None = None
) -> tuple[dict[str, Any], int, int]:
    """Begin, write, commit; again if the controller dies meanwhile. Returns the commit's answer, bytes sent, and bytes that the pool had."""
    order = list(prepared.blocks)
    request = {
        "name": prepared.record["name"],
        "tag": tag,
        "update": update,
        "blocks": [(digest, prepared.blocks[digest][0]) for digest in order],
        "client": f"{getpass.getuser()}@{socket.gethostname()} pid {os.getpid()}",
        "operation": changes.new_operation(),
        "cache_bytes": _cache_bytes(prepared.record),
    }
    whole = sum(size for size, _, _ in prepared.blocks.values())
    had: int | None = None  # Before the first try.
    sent = 0
    until = time.monotonic() + changes.RETRY_FOR_S
    while True:
        plan = changes.patiently(ask, "begin_deploy", request)
        if plan["done"] is not None:
            return plan["done"], sent, whole if had is None else had
        if had is None:
            missing = {order[index] for index, _ in plan["send"]}
            had = sum(size for digest, (size, _, _) in prepared.blocks.items() if digest not in missing)
            until = time.monotonic() + changes.RETRY_FOR_S + plan["lease_s"]
        try:
            answer, total = _send_and_commit(ask, certificates, prepared, plan, request, progress)
            return answer, sent + total, had
        except _CommitLost as lost:
            if time.monotonic() >= until:
                raise lost.error from None


def deploy(
    ask: changes.Ask,
    certificates: str,
    model: ExportedModel,
    *,
    name: str,
    tag: str = "",
    update: bool = False,
    progress: DeployProgress | None = None,
) -> Deployed:
    """Everything after the export. Errors: failed_precondition or already_exists (the name is taken), resource_exhausted (the pool, or every
    host's cache, is too small), unavailable (a server died; nothing is visible)."""
    module = native.load()
    module.check_model_name(name)
    if tag:
        module.check_tag(tag)
    if not model.tensors:
        raise refused(f"'{name}' has no parameters: there is nothing to put into the pool")
    model.name = name
    begun = time.monotonic()
    prepared = prepare(model, progress)
    _add_label(ask, prepared)
    hashed = time.monotonic()
    answer, sent, had = send(ask, certificates, prepared, tag=tag, update=update, progress=progress)
    done = time.monotonic()
    return Deployed(
        name=answer["name"],
        tag=answer["tag"],
        digest=answer["digest"],
        already_existed=answer["already_existed"],
        weight_bytes=prepared.record["weight_bytes"],
        sent_bytes=sent,
        shared_bytes=had,
        hash_s=hashed - begun,
        send_s=done - hashed,
        total_s=done - begun,
        warnings=list(model.warnings),
    )
