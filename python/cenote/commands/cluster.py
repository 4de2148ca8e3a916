"""up, down, status, logs."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated

import typer

from cenote.commands.options import CertificatesOption, ClusterOption, Output, OutputOption


def _say(text: str) -> None:
    from cenote.show import console

    console().print(text)


def up(
    settings: Annotated[Path | None, typer.Argument(metavar="[SETTINGS]", help="Settings file; default: settings/local.toml.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override one setting; may be repeated.")] = None,
    timeout: Annotated[float, typer.Option("--timeout", metavar="SECONDS", min=1, help="How long all daemons may take to report.")] = 60.0,
    output: OutputOption = Output.table,
) -> None:
    """Start a cluster on this machine and return when it is ready.

    Example: cenote up settings/local.toml --set agent.cache_capacity="1 GiB"
    """
    from cenote import lifecycle
    from cenote.show import console, print_json

    file = settings or lifecycle.default_settings_file()
    with console(stderr=True).status(f"starting {file}") as spinner:
        result = lifecycle.up(file, set_ or [], timeout_s=timeout, report=lambda text: spinner.update(text))
    new = result.state
    if output is Output.json:
        print_json(
            {
                "cluster": new.name,
                "controller": new.controller,
                "state_directory": new.directory,
                "already_up": result.already_up,
                "seconds": round(result.seconds, 3),
                "members": [member["name"] for member in result.status["members"]],
            }
        )
        return
    if result.already_up:
        _say(f"cluster [bold]{new.name}[/] is up already with these settings")
        return
    executors = sum(len(member["executors"]) for member in result.status["members"])
    _say(
        f"cluster [bold]{new.name}[/] is up: {len(result.status['members'])} daemons and {executors} executors "
        f"in {result.seconds:.1f} s, controller at {new.controller}"
    )
    _say(f"[dim]state and logs: {new.directory}   next: cenote deploy resnet18 --preset resnet18[/]")


def down(cluster: ClusterOption = None, output: OutputOption = Output.table) -> None:
    """Stop a cluster of this machine: its processes and what they hold in memory go, catalogue and logs stay.

    Example: cenote down
    """
    from cenote import lifecycle
    from cenote.show import console, print_json
    from cenote.state import known

    with console(stderr=True).status("stopping") as spinner:
        result = lifecycle.down(cluster, report=lambda text: spinner.update(text))
    if output is Output.json:
        print_json({"cluster": result.name, "stopped": result.name is not None, "killed": result.killed, "seconds": round(result.seconds, 3)})
    elif result.name is None:
        others = [state.name for state in known()]
        named = cluster or os.environ.get("CENOTE_CLUSTER")
        _say(f"no cluster {named!r} is up here; up: {', '.join(others)}" if others and named else "nothing is up")
    else:
        _say(f"cluster [bold]{result.name}[/] is down after {result.seconds:.1f} s")
        for name in result.killed:
            _say(f"[yellow]had to be killed: {name}[/]")


def status(cluster: ClusterOption = None, certificates: CertificatesOption = None, output: OutputOption = Output.table) -> None:
    """Show daemons, executors, pool and cache.

    Example: cenote status -o json
    """
    from cenote.status import show

    show(cluster, certificates, as_json=output is Output.json)


def logs(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Daemon, such as memory-0; default: all.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines are written.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="How many last lines.")] = 20,
    cluster: ClusterOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Print the last lines of the daemons' logs.

    Example: cenote logs agent-0 -f
    """
    from cenote import processes, state
    from cenote.errors import Error
    from cenote.show import print_json

    directory = state.find(cluster).logs
    known = {path.stem: path for path in sorted(directory.glob("*.log"))}
    wanted = name.replace("/", "-") if name is not None else None
    if wanted is not None and wanted not in known:
        raise Error("not_found", f"no log of '{name}' in {directory}; there are {', '.join(known) or 'none'}")
    chosen = known if wanted is None else {wanted: known[wanted]}
    last = {stem: list(processes.tail(path, lines)) for stem, path in chosen.items()}
    if output is Output.json:
        print_json(last)
        return
    for stem, text in last.items():
        if len(chosen) > 1:
            _say(f"[bold]{stem}[/]")
        for line in text:
            typer.echo(line)
    if follow:
        _follow(chosen)


def _follow(files: dict[str, Path]) -> None:
    """Ends with Ctrl-C. A file that was rotated (shorter than before) is read from its start."""
    at = {stem: path.stat().st_size for stem, path in files.items()}
    while True:
        for stem, path in files.items():
            size = path.stat().st_size if path.exists() else 0
            if size < at[stem]:
                at[stem] = 0
            if size > at[stem]:
                with path.open("rb") as file:
                    file.seek(at[stem])
                    text = file.read(1 << 20)
                at[stem] += len(text)
                for line in text.decode(errors="replace").splitlines():
                    typer.echo(line if len(files) == 1 else f"{stem}: {line}")
        time.sleep(0.2)


def add_to(app: typer.Typer) -> None:
    for command in (up, down, status, logs):
        app.command()(command)
