"""backup, restore, rebuild."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cenote.commands.options import CertificatesOption, ClusterOption, Output, OutputOption

if TYPE_CHECKING:
    from cenote.catalogue import Rebuilt


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it.")],
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it is there.")] = False,
    cluster: ClusterOption = None,
    certificates: CertificatesOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Write the catalogue (names, tags, histories, where blocks are) into a file, while the cluster runs. Weights are not in it.

    Example: cenote backup catalogue.backup
    """
    from dataclasses import asdict

    from cenote import catalogue
    from cenote.cluster import Cluster
    from cenote.show import format_bytes, print_json, say

    with Cluster.connect(cluster, certificates=certificates) as connected:
        result = catalogue.backup(connected, file, force=force)
    if output is Output.json:
        print_json(asdict(result))
    else:
        say(f"{result.file}: cluster {result.cluster}, {result.revisions} revisions, {format_bytes(result.bytes)}")


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that `cenote backup` wrote.")],
    cluster: Annotated[str | None, typer.Option("--cluster", "-c", metavar="NAME|DIR", help="Whose catalogue to replace; default: the backup's.")] = None,
    output: OutputOption = Output.table,
) -> None:
    """Put a backup in the place of a stopped cluster's catalogue; the old one is kept beside it.

    Memory servers then drop nothing until `cenote rebuild` has looked for what was deployed after the backup.

    Example: cenote restore catalogue.backup
    """
    import time
    from dataclasses import asdict

    from cenote import catalogue
    from cenote.show import print_json, say

    result = catalogue.restore(file, cluster)
    if output is Output.json:
        print_json(asdict(result))
        return
    made = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(result.created_us / 1e6))
    say(f"the catalogue of cluster {result.cluster} is the one of {made}: {result.revisions} revisions")
    if result.kept is not None:
        say(f"the one before is {result.kept}")
    say("next: cenote up, then cenote rebuild: it finds what was deployed since, and lets memory servers free what nothing needs")


def rebuild(
    drop_unknown: Annotated[
        bool, typer.Option("--drop-unknown", help="Let memory servers drop what belongs to no revision that was found.")
    ] = False,
    cluster: ClusterOption = None,
    certificates: CertificatesOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Find models in the pool that the catalogue does not know, after it was lost or restored, by their labels and manifests.

    Found again: each revision with its name and date; `latest` is the newest of each name. Not found again: other tags, tags' histories,
    evictions, device filters. A model that was removed shortly before the loss may come back.

    Example: cenote rebuild
    """
    from dataclasses import asdict

    from cenote import catalogue
    from cenote.cluster import Cluster
    from cenote.show import console, print_json

    with Cluster.connect(cluster, certificates=certificates) as connected, console(stderr=True).status("looking") as spinner:
        result = catalogue.rebuild(connected, drop_unknown=drop_unknown, report=lambda text: spinner.update(text))
    if output is Output.json:
        print_json(asdict(result))
    else:
        _print_rebuilt(result)
    if result.incomplete:
        raise typer.Exit(5)


def _print_rebuilt(result: Rebuilt) -> None:
    from cenote.show import format_bytes, say

    say(f"found {len(result.adopted)} revisions that the catalogue did not know")
    for called in result.adopted:
        say(f"  {called}")
    if result.adopted:
        say(f"set `latest` of {', '.join(result.latest) or 'no name'}; other tags and histories are not in the pool: publish what you need")
    for text in result.incomplete:
        say(f"not whole: {text}")
    if result.absent:
        say(f"memory servers that are not up: {', '.join(result.absent)}; run `cenote rebuild` again when they are")
    if result.held:
        say(
            f"memory servers keep {result.unknown_blocks} blocks, {format_bytes(result.unknown_bytes)}, that belong to nothing that was found; "
            "let go of them with `cenote rebuild --drop-unknown`"
        )
    else:
        say("memory servers free what no model needs again")


def add_to(app: typer.Typer) -> None:
    for command in (backup, restore, rebuild):
        app.command()(command)
