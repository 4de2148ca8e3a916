"""The commands of `cenote` as Typer's application. Importing this costs some 0.1 s: cli.py does it for what it cannot answer without."""

from __future__ import annotations

import typer

from cenote.commands import bench, catalogue, cluster, infer, machine, models, trust

app = typer.Typer(
    name="cenote",
    help="A cluster's host memory as one pool that holds every model.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for commands in (cluster, models, infer, catalogue, machine, trust):
    commands.add_to(app)
app.add_typer(bench.app, name="bench")
