"""A running cluster from Python: `cenote.connect()`.

    cluster = cenote.connect()
    cluster.deploy(module, (example,), name="mine")
    answer = cluster.infer("mine", array)           # numpy in, numpy out; torch in, torch out
    answer, waterfall = cluster.infer_traced("mine", array)
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

from cenote import changes, native, state
from cenote.errors import Error
from cenote.state import Reach

if TYPE_CHECKING:
    import torch

    from cenote.deploy import Deployed, DeployProgress
    from cenote.graph_types import ExportedModel
    from cenote.waterfall import Waterfall

_MANIFESTS_KEPT = 64
_DEADLINE_S_MAX = 86400
_NAMES_KEPT = 1024
# What the controller said a name means holds for so long, until all routers know it too; after that they are asked for the name itself.
_ROUTERS_LEARN_S = 1.0


_linked_in: int | None = None  # The process that opened the first link.


def _check_not_forked() -> None:
    """The threads that drive links do not survive a fork; without them every call would wait for ever."""
    global _linked_in
    if _linked_in is None:
        _linked_in = os.getpid()
    if _linked_in != os.getpid():
        raise Error(
            "failed_precondition",
            f"this process was forked from process {_linked_in}, which had connected to a cluster: connect only after the fork, "
            'or start workers by multiprocessing\'s "spawn"',
        )


@dataclass(frozen=True)
class ModelCard:
    """What a caller needs to know of a revision: how to call it, and the small files that travel with it."""

    digest: str
    name: str
    signature: dict[str, Any]  # inputs, outputs: [{"name", "dtype", "shape"}]; inputs_tree, outputs_tree: JSON of pytree.py
    files: dict[str, bytes]

    def reply_bytes(self, inputs: Sequence[tuple[str, Any]]) -> int:
        """What the outputs for these inputs take."""
        from cenote.arrays import ITEM_BYTES

        shapes = {name: tuple(value.shape) for name, value in inputs}
        batched = [shapes.get(s["name"]) for s in self.signature["inputs"] if s["shape"][:1] == [-1]]
        batch = next((shape[0] for shape in batched if shape), 1)
        return sum(ITEM_BYTES[s["dtype"]] * math.prod(batch if n < 0 else n for n in s["shape"]) for s in self.signature["outputs"])


@dataclass(frozen=True)
class Answer:
    """One reply: outputs as nested as the module returned them, who computed them and where the time went."""

    outputs: Any
    digest: str
    executor: str
    waterfall: Waterfall


@dataclass(frozen=True)
class _Meaning:
    """What a model's name meant when it was asked for last."""

    digest: str
    revision: str  # "name@digest"
    tagged: bool  # By a tag, which may move: routers are asked for the name, and their reply says what it means now.
    pinned_until: float  # time.monotonic()


def lost_text(name: str) -> str:
    return f"'{name}' is in the catalogue, but no memory server has all of it (they started anew since): deploy it again with --update"


class Cluster:
    """Thread-safe. Connects when first used; close() (or `with`) ends its links. Not to be used across a fork."""

    def __init__(self, reach: Reach) -> None:
        self._reach = reach
        self._lock = threading.Lock()
        self._controller_handle: Any = None
        self._client_handle: Any = None
        self._cards: OrderedDict[str, ModelCard] = OrderedDict()
        self._meanings: OrderedDict[str, _Meaning] = OrderedDict()

    @classmethod
    def connect(cls, cluster: str | None = None, *, certificates: str | os.PathLike[str] | None = None) -> Cluster:
        """By name or state directory of a cluster of this machine (None: the only one), or by controller `HOST:PORT`."""
        return cls(state.reach(cluster, os.fspath(certificates) if certificates is not None else None))

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        with self._lock:
            self._controller_handle = None
            self._client_handle = None

    @property
    def name(self) -> str:
        return self._reach.state.name if self._reach.state is not None else self._reach.controller

    def _controller(self) -> Any:
        _check_not_forked()
        with self._lock:
            if self._controller_handle is None:
                self._controller_handle = native.load().Controller(self._reach.controller, str(self._reach.certificates))
            return self._controller_handle

    def ask_controller(self, call: str, *arguments: Any) -> Any:
        """A call to the controller. A link that failed is dropped: its next use would wait for a connection that nobody drives."""
        try:
            return getattr(self._controller(), call)(*arguments)
        except Error as error:
            if error.code in ("unavailable", "deadline_exceeded"):
                with self._lock:
                    self._controller_handle = None
            raise

    def _client(self) -> Any:
        _check_not_forked()
        with self._lock:
            if self._client_handle is not None:
                return self._client_handle
        routers = self._router_addresses()
        with self._lock:
            if self._client_handle is None:
                self._client_handle = native.load().Client(routers, str(self._reach.certificates))
            return self._client_handle

    def _router_addresses(self) -> list[str]:
        """From the controller; while that is down, from the settings the cluster was started with."""
        try:
            found = [m["address"] for m in self.status(timeout_s=3.0)["members"] if m["role"] == "router" and m["address"]]
        except Error:
            if self._reach.state is None:
                raise
            found = self._reach.state.routers
        if not found:
            raise Error("unavailable", f"cluster '{self.name}' has no router up; see `cenote status`")
        return list(found)

    # ---- what there is -----------------------------------------------------------------------------------------------

    def status(self, *, timeout_s: float = 10.0) -> dict[str, Any]:
        """Members with their last report, the silent ones apart."""
        return self.ask_controller("cluster", timeout_s)

    def models(self, model: str = "", *, blocks: bool = False, timeout_s: float = 10.0) -> list[dict[str, Any]]:
        """All revisions, or those of a name: tags, sizes, replicas, readiness on each device."""
        return self.ask_controller("models", model, blocks, timeout_s)

    def resolve(self, model: str, *, blocks: bool = False, timeout_s: float = 10.0) -> dict[str, Any]:
        """The one revision that `name`, `name:tag` or `name@digest` means; with `blocks` what they are too."""
        found = self.models(model, blocks=blocks, timeout_s=timeout_s)
        name, at, prefix = model.partition("@")
        if at:
            matching = [m for m in found if m["record"]["digest"].startswith(prefix)]
        else:
            _, _, tag = name.partition(":")
            matching = [m for m in found if (tag or "latest") in m["tags"]]
            if not matching and not tag and len(found) == 1:
                matching = found
        if not matching:
            raise Error("not_found", f"no model '{model}'; `cenote models` lists what there is")
        return matching[0]

    def _meaning(self, model: str) -> _Meaning:
        """From the controller when it is first asked for; then from the routers' replies, so that serving needs no controller."""
        with self._lock:
            known = self._meanings.get(model)
        if known is not None:
            return known
        info = self.resolve(model)
        name, at, _ = model.partition("@")
        tagged = not at and (name.partition(":")[2] or "latest") in info["tags"]
        digest = info["record"]["digest"]
        return self._learn(model, _Meaning(digest, f"{info['name']}@{digest}", tagged, time.monotonic() + _ROUTERS_LEARN_S))

    def _learn(self, model: str, meaning: _Meaning) -> _Meaning:
        with self._lock:
            self._meanings[model] = meaning
            self._meanings.move_to_end(model)
            while len(self._meanings) > _NAMES_KEPT:
                self._meanings.popitem(last=False)
        return meaning

    def _forget(self, model: str) -> None:
        """What the name of `model` meant may have changed: all that is known of it."""
        name = model.partition("@")[0].partition(":")[0]
        with self._lock:
            for known in [known for known in self._meanings if known.partition("@")[0].partition(":")[0] == name]:
                del self._meanings[known]

    def card(self, model: str) -> ModelCard:
        """Signature and files, read from the pool; kept, since a revision never changes."""
        return self._card(self._meaning(model).revision)

    def _card(self, revision: str) -> ModelCard:
        """Of `name@digest`, in full."""
        digest = revision.partition("@")[2]
        with self._lock:
            if digest in self._cards:
                self._cards.move_to_end(digest)
                return self._cards[digest]
        manifest = self.manifest(revision)
        files = {f["name"]: self.read_blocks([(b[0], b[1]) for b in f["blocks"]]) for f in manifest["files"]}
        card = ModelCard(digest, manifest["name"], manifest["signature"], files)
        with self._lock:
            self._cards[digest] = card
            while len(self._cards) > _MANIFESTS_KEPT:
                self._cards.popitem(last=False)
        return card

    def manifest(self, model: str) -> dict[str, Any]:
        """What the pool holds of a revision: `name`, `digest`, `tensors` with their offsets, `signature`, `graph`, `files`, `blocks`."""
        info = self.resolve(model, blocks=True)
        record = info["record"]
        if info["replicas_min"] == 0:
            raise Error("unavailable", lost_text(info["name"]))
        manifest = native.load().decode_manifest(self.read_blocks(record["manifest_blocks"]))
        return {"name": record["name"], "digest": record["digest"], **manifest}

    def weights(self, manifest: Mapping[str, Any]) -> bytearray:
        """The revision's range, `range_bytes` long, read from the pool and verified."""
        weights = bytearray(manifest["range_bytes"])
        for (block, size, *_), offset in zip(manifest["blocks"], manifest["block_offsets"], strict=True):
            weights[offset : offset + size] = self.read_blocks([(block, size)])
        return weights

    def read_blocks(self, blocks: Sequence[tuple[str, int]]) -> bytes:
        """From memory servers that are up, one after another, verified."""
        servers = [member["memory"] for member in self.status()["members"] if member["role"] == "memory"]
        return native.load().read_object(str(self._reach.certificates), servers, list(blocks))

    # ---- deploying ---------------------------------------------------------------------------------------------------

    def deploy(
        self,
        module: torch.nn.Module,
        inputs: Any,
        kwargs: Mapping[str, Any] | None = None,
        *,
        name: str,
        tag: str = "",
        update: bool = False,
        files: Mapping[str, bytes] | None = None,
        dynamic_batch: bool = True,
        progress: DeployProgress | None = None,
    ) -> Deployed:
        """Exports `module` as called with `inputs` (a tuple, or a mapping of keyword arguments) and puts it into the pool."""
        from cenote.export import ExportRefused, export_model

        try:
            model = export_model(module, inputs, kwargs, dynamic_batch=dynamic_batch, name=name, files=files)
        except ExportRefused as error:
            raise Error("invalid_argument", f"'{name}' cannot be served: {error}") from error
        return self.deploy_exported(model, name=name, tag=tag, update=update, progress=progress)

    def deploy_exported(
        self, model: ExportedModel, *, name: str, tag: str = "", update: bool = False, progress: DeployProgress | None = None
    ) -> Deployed:
        from cenote import deploy

        try:
            return deploy.deploy(
                self.ask_controller, str(self._reach.certificates), model, name=name, tag=tag, update=update, progress=progress
            )
        finally:
            self._forget(name)

    def _change(self, model: str, call: str, *arguments: Any) -> Any:
        """Made once, whatever becomes of the controller meanwhile; what the name meant is forgotten."""
        try:
            return changes.patiently(self.ask_controller, call, *arguments, changes.new_operation())
        finally:
            self._forget(model)

    def publish(self, model: str, tag: str = "latest") -> dict[str, Any]:
        """Moves a tag to `name@digest`."""
        return self._change(model, "publish", model, tag)

    def rollback(self, model: str) -> dict[str, Any]:
        """`name[:tag]` back to its previous target."""
        return self._change(model, "rollback", model)

    def remove(self, model: str) -> dict[str, Any]:
        """A name with all its revisions, one tag (`name:tag`), or one revision (`name@digest`)."""
        return self._change(model, "remove", model)

    def evict(self, model: str) -> None:
        """From devices and caches; the pool keeps it."""
        changes.patiently(self.ask_controller, "evict", model)

    def drain(self, member: str) -> None:
        """That daemon takes no more work and ends when idle; its host's supervisor starts it anew."""
        self.ask_controller("drain", member)

    # ---- inference ---------------------------------------------------------------------------------------------------

    def infer(self, model: str, /, *args: Any, deadline_s: float = 60.0, **kwargs: Any) -> Any:
        """Calls the model as the module was called; nested arguments and results keep their structure."""
        return self.ask(model, args, kwargs, deadline_s=deadline_s).outputs

    def infer_traced(self, model: str, /, *args: Any, deadline_s: float = 60.0, **kwargs: Any) -> tuple[Any, Waterfall]:
        answer = self.ask(model, args, kwargs, deadline_s=deadline_s)
        return answer.outputs, answer.waterfall

    def ask(self, model: str, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None, *, deadline_s: float = 60.0) -> Answer:
        """As infer(), with who answered and where the time went."""
        meaning = self._meaning(model)
        try:
            return self._ask_as(model, meaning, args, dict(kwargs or {}), deadline_s)
        except Error as error:
            if not meaning.tagged or error.code not in ("invalid_argument", "not_found"):
                raise
            # The name may have moved to a revision that is called in another way.
            self._forget(model)
            now = self._meaning(model)
            if now.digest == meaning.digest:
                raise
            return self._ask_as(model, now, args, dict(kwargs or {}), deadline_s)

    def _ask_as(self, model: str, meaning: _Meaning, args: tuple[Any, ...], kwargs: dict[str, Any], deadline_s: float) -> Answer:
        from cenote import pytree

        card = self._card(meaning.revision)
        try:
            leaves = pytree.bind(pytree.loads(card.signature["inputs_tree"]), args, kwargs)
        except pytree.TreeError as error:
            raise Error("invalid_argument", f"'{model}': {error}") from error
        named = [(spec["name"], leaf) for spec, leaf in zip(card.signature["inputs"], leaves, strict=True)]
        by_name = meaning.tagged and time.monotonic() > meaning.pinned_until
        answer = self._send(model if by_name else meaning.revision, named, card, deadline_s)
        if answer.digest != card.digest:
            card = self._card(f"{card.name}@{answer.digest}")
            self._learn(model, _Meaning(card.digest, f"{card.name}@{card.digest}", True, 0.0))
        outputs = pytree.unflatten(pytree.loads(card.signature["outputs_tree"]), list(answer.outputs.values()))
        return Answer(outputs, answer.digest, answer.executor, answer.waterfall)

    def ask_flat(self, model: str, inputs: Sequence[tuple[str, Any]], *, deadline_s: float = 60.0) -> Answer:
        """Inputs by the signature's names; the outputs are a dict by name."""
        with self._lock:
            card = self._cards.get(model.partition("@")[2])
        return self._send(model, inputs, card, deadline_s)

    def _send(self, model: str, inputs: Sequence[tuple[str, Any]], card: ModelCard | None, deadline_s: float) -> Answer:
        """`card`: of what is most likely asked; its reply's size decides which way the reply comes."""
        from cenote import arrays
        from cenote.waterfall import Waterfall

        if not 0 < deadline_s <= _DEADLINE_S_MAX:
            raise Error("invalid_argument", f"deadline of {deadline_s} s: more than 0 and at most {_DEADLINE_S_MAX} s can be waited")
        as_torch = arrays.any_torch(value for _, value in inputs)
        client = self._client()
        dense = [(name, arrays.dense(value)) for name, value in inputs]
        begun = time.perf_counter_ns()
        reply = client.infer(model, dense, deadline_s, card.reply_bytes(dense) if card is not None else 0)
        waited_us = (time.perf_counter_ns() - begun) // 1000
        outputs = {tensor.name: arrays.from_native(tensor, as_torch=as_torch) for tensor in reply["outputs"]}
        return Answer(outputs, reply["revision"], reply["executor"], Waterfall.read(reply["waterfall"], waited_us))
