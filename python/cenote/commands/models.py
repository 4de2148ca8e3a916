"""deploy, models, publish, rollback, remove, evict."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cenote.commands.options import CertificatesOption, ClusterOption, Output, OutputOption

if TYPE_CHECKING:
    from cenote.cluster import Cluster
    from cenote.deploy import Deployed
    from cenote.sources import Source

_LOST = "[red]lost with its memory servers; deploy it again with --update[/]"
ModelArgument = Annotated[str, typer.Argument(metavar="NAME[:TAG|@DIGEST]", help="Which model.")]


@contextlib.contextmanager
def _prints_aside() -> Iterator[None]:
    """A user's code and the libraries may print, and close what they print to; standard output carries the answer alone."""
    with os.fdopen(os.dup(2), "w", buffering=1) as stream, contextlib.redirect_stdout(stream):
        yield


def _load(python: str | None, torch: str | None, hf: Path | None, preset: str | None, seed: int) -> Source:
    from cenote import presets, sources

    if python is not None:
        return sources.load_python(python)
    if torch is not None:
        return sources.load_torch(torch, seed)
    if hf is not None:
        return sources.load_hf(str(hf))
    assert preset is not None
    return presets.make(preset, seed)


def _check_name(connected: Cluster, name: str, tag: str, update: bool) -> None:
    """What the controller would refuse at the end, before minutes of exporting; it has the last word."""
    from cenote import native
    from cenote.errors import Error

    native.load().check_model_name(name)
    if tag:
        native.load().check_tag(tag)
    if not update and any(model["name"] == name for model in connected.models()):
        raise Error("already_exists", f"a model named {name} exists; deploy with --update to add a revision, or under another name")


def deploy(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="What it shall be called; default: its source's name.")] = None,
    python: Annotated[str | None, typer.Option("--python", metavar="FILE.py:FUNCTION", help="Returns a module and example inputs.")] = None,
    torch: Annotated[str | None, typer.Option("--torch", metavar="MODULE:NAME", help="A constructor, as torchvision.models:resnet152.")] = None,
    hf: Annotated[Path | None, typer.Option("--hf", metavar="DIR", help="A Hugging Face folder, weights as they are.")] = None,
    preset: Annotated[str | None, typer.Option("--preset", metavar="NAME", help="resnet152, inception_v3, densenet201, bert_base, gpt2, ...")] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Of weights made by --preset or --torch.")] = 0,
    tag: Annotated[str, typer.Option("--tag", metavar="TAG", help="Which tag shall point at it; default: latest.")] = "",
    update: Annotated[bool, typer.Option("--update", help="The name may exist: the tag moves to the new revision.")] = False,
    cluster: ClusterOption = None,
    certificates: CertificatesOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Put a PyTorch model into the pool. Nothing is visible until all of it is there.

    Example: cenote deploy resnet152 --preset resnet152
    """
    from cenote.cluster import Cluster
    from cenote.errors import usage
    from cenote.show import byte_progress, console, note

    given = [option for option, value in (("--python", python), ("--torch", torch), ("--hf", hf), ("--preset", preset)) if value]
    if len(given) != 1:
        raise usage(f"say where the model comes from with one of --python, --torch, --hf, --preset; given: {', '.join(given) or 'none'}")
    with Cluster.connect(cluster, certificates=certificates) as connected:
        connected.status()  # Before minutes of exporting: is there a cluster at all?
        os.environ.setdefault("TQDM_DISABLE", "1")  # transformers draws bars of its own.
        with console(stderr=True).status("importing torch") as spinner, _prints_aside():
            from cenote.export import export_model
            from cenote.graph_types import ExportRefused
            from cenote.sources import check_weights

            if name:
                _check_name(connected, name, tag, update)
            try:
                spinner.update("making the module")
                source = _load(python, torch, hf, preset, seed)
                called = name or source.name
                if not name:
                    _check_name(connected, called, tag, update)
                spinner.update(f"exporting {called}")
                model = export_model(source.module, source.inputs, name=called, sources=source.sources, files=source.files)
                check_weights(source, model)
            except ExportRefused as error:
                raise usage(f"{name or 'this'} cannot be served: {error}") from error
        for text in [*source.notes, *model.warnings]:
            note(f"note: {text}")
        with byte_progress() as bars:
            tasks: dict[str, Any] = {}

            def report(stage: str, done: int, total: int) -> None:
                if stage not in tasks:
                    tasks[stage] = bars.add_task({"hash": "hashing", "send": "sending"}[stage], total=total)
                bars.update(tasks[stage], completed=done, total=total)

            result = connected.deploy_exported(model, name=called, tag=tag, update=update, progress=report)
    _print_deployed(result, output)


def _print_deployed(result: Deployed, output: Output) -> None:
    from dataclasses import asdict

    from cenote.show import console, format_bytes, print_json

    if output is Output.json:
        print_json(asdict(result))
        return
    rate = f" at {result.sent_bytes / max(result.send_s, 1e-9) / 1e9:.2f} GB/s" if result.sent_bytes else ""
    console().print(
        f"[bold]{result.name}:{result.tag}[/] is [bold]{result.digest[:12]}[/]"
        f"{' (deployed before)' if result.already_existed else ''}: {format_bytes(result.weight_bytes)} of weights, "
        f"{format_bytes(result.sent_bytes)} sent to all replicas{rate}, {format_bytes(result.shared_bytes)} were in the pool, "
        f"{result.total_s:.1f} s"
    )


def _ready(model: dict[str, Any]) -> str:
    from cenote.show import escape

    colours = {"resident": "green", "mapped": "green", "cached": "cyan", "loading": "yellow", "failed": "red"}
    parts = []
    for device, state in zip(model["devices"], model["ready"], strict=True):
        colour = colours.get(state["readiness"], "dim")
        parts.append(f"{device} [{colour}]{state['readiness']}[/]" + (f" ({escape(state['error'])})" if state["error"] else ""))
    return ", ".join(parts)


def models(
    model: Annotated[str, typer.Argument(metavar="[NAME]", help="Only this model.")] = "",
    cluster: ClusterOption = None,
    certificates: CertificatesOption = None,
    output: OutputOption = Output.table,
) -> None:
    """List models: tags, digest, size, what they share, replicas, readiness on each device.

    Example: cenote models
    """
    from cenote.cluster import Cluster
    from cenote.show import format_bytes, print_json, say, table

    with Cluster.connect(cluster, certificates=certificates) as connected:
        found = connected.models(model)
    if output is Output.json:
        for m in found:
            record = m["record"]
            for key in ("manifest_blocks", "blocks", "file_blocks"):
                del record[key]
        print_json(found)
        return
    if not found:
        say("no models; deploy one: cenote deploy resnet18 --preset resnet18")
        return
    tenants = any(m["tenant"] != "default" for m in found)
    table(
        ["name", *(["tenant"] if tenants else []), "tags", "digest", "weights", "shared", "replicas", "ready"],
        [
            [
                m["name"], *([m["tenant"]] if tenants else []), ", ".join(m["tags"]) or "-", m["record"]["digest"][:12],
                format_bytes(m["record"]["weight_bytes"]), format_bytes(m["shared_bytes"]), str(m["replicas_min"]), _ready(m) if m["replicas_min"] else _LOST,
            ]
            for m in found
        ],
        right=["weights", "shared", "replicas"],
    )  # fmt: skip


def _moved(move: dict[str, Any], output: Output) -> None:
    from cenote.show import print_json, say

    if output is Output.json:
        print_json(move)
        return
    before = f"; it was {move['previous'][:12]}" if move["previous"] else ""
    say(f"{move['name']}:{move['tag']} is {move['revision'][:12]}{before}")


def publish(
    model: Annotated[str, typer.Argument(metavar="NAME@DIGEST", help="Which revision.")],
    tag: Annotated[str, typer.Option("--tag", metavar="TAG", help="Which tag shall point at it.")] = "latest",
    cluster: ClusterOption = None,
    certificates: CertificatesOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Point a tag at a revision.

    Example: cenote publish resnet152@3f2a9c --tag stable
    """
    from cenote.cluster import Cluster

    with Cluster.connect(cluster, certificates=certificates) as connected:
        _moved(connected.publish(model, tag), output)


def rollback(
    model: Annotated[str, typer.Argument(metavar="NAME[:TAG]", help="Which tag; default: latest.")],
    cluster: ClusterOption = None,
    certificates: CertificatesOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Point a tag back at its previous revision.

    Example: cenote rollback resnet152
    """
    from cenote.cluster import Cluster

    with Cluster.connect(cluster, certificates=certificates) as connected:
        _moved(connected.rollback(model), output)


def remove(
    model: ModelArgument, cluster: ClusterOption = None, certificates: CertificatesOption = None, output: OutputOption = Output.table
) -> None:
    """Remove a name with its revisions, one tag, or one revision; blocks that nothing else uses are freed.

    Example: cenote remove resnet152
    """
    from cenote.cluster import Cluster
    from cenote.show import format_bytes, print_json, say

    with Cluster.connect(cluster, certificates=certificates) as connected:
        removal = connected.remove(model)
    if output is Output.json:
        print_json(removal)
        return
    count = len(removal["revisions"])
    freed = format_bytes(removal["freed_bytes"])
    say(f"removed {model}: {count} revision{'s' if count != 1 else ''}, {freed} freed in the pool")


def evict(
    model: ModelArgument, cluster: ClusterOption = None, certificates: CertificatesOption = None, output: OutputOption = Output.table
) -> None:
    """Drop a model from devices and caches; the pool keeps it, and the next request loads it cold.

    Example: cenote evict resnet152
    """
    from cenote.cluster import Cluster
    from cenote.show import print_json, say

    with Cluster.connect(cluster, certificates=certificates) as connected:
        connected.evict(model)
    if output is Output.json:
        print_json({"evicted": model})
    else:
        say(f"evicted {model} from devices and caches")


def add_to(app: typer.Typer) -> None:
    for command in (deploy, models, publish, rollback, remove, evict):
        app.command()(command)
