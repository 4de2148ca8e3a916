"""up, down, status, logs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

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
    """Stop a cluster of this machine: processes, sockets and shared memory go, catalogue and logs stay.

    Example: cenote down
    """
    from cenote import lifecycle
    from cenote.show import console, print_json

    with console(stderr=True).status("stopping") as spinner:
        result = lifecycle.down(cluster, report=lambda text: spinner.update(text))
    if output is Output.json:
        print_json({"cluster": result.name, "stopped": result.name is not None, "killed": result.killed, "seconds": round(result.seconds, 3)})
    elif result.name is None:
        _say("nothing is up")
    else:
        _say(f"cluster [bold]{result.name}[/] is down after {result.seconds:.1f} s")
        for name in result.killed:
            _say(f"[yellow]had to be killed: {name}[/]")


def _cpu_percent(member: dict[str, Any]) -> float:
    """Of one core, over the daemon's whole life."""
    return 100 * member["cpu_seconds"] / max(member["uptime_s"], 0.001)


def _readiness(executor: dict[str, Any]) -> str:
    counts: dict[str, int] = {}
    for revision in executor["revisions"]:
        counts[revision["readiness"]] = counts.get(revision["readiness"], 0) + 1
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "none"


def _details(member: dict[str, Any]) -> str:
    from cenote.show import escape, format_bytes

    parts: list[str] = []
    if member["role"] == "memory":
        parts.append(f"{format_bytes(member['memory']['used_bytes'])} of {format_bytes(member['memory']['capacity_bytes'])} used")
    elif member["role"] == "agent":
        cache = member["cache"]
        parts.append(f"cache {format_bytes(cache['used_bytes'])} of {format_bytes(cache['capacity_bytes'])}")
        parts.append(f"{format_bytes(cache['pinned_bytes'])} pinned")
        if member["integrity_failures"]:
            parts.append(f"[red]{member['integrity_failures']} corrupt chunks refetched[/]")
    elif member["role"] == "router":
        parts.append(f"{member['routed']} routed, {member['outstanding']} outstanding, {member['queued']} queued")
        if member["retried"] or member["refused"]:
            parts.append(f"{member['retried']} retried, {member['refused']} refused")
    if member["draining"]:
        parts.append("[yellow]draining[/]")
    parts += [f"[yellow]{escape(note)}[/]" for note in member["notes"]]
    return "; ".join(parts)


def _rows(status: dict[str, Any]) -> list[list[str]]:
    from cenote.show import escape, format_age, format_bytes

    rows = []
    order = ["controller", "router", "memory", "agent"]
    known = sorted(status["members"], key=lambda m: (order.index(m["role"]) if m["role"] in order else 9, m["name"]))
    for m in known:
        cpu = _cpu_percent(m)
        rows.append([m["name"], m["role"], str(m["pid"]), format_age(m["uptime_s"]), format_bytes(m["rss_bytes"]), f"{cpu:.1f}", _details(m)])
        for e in m["executors"]:
            alive = bool(e["incarnation"] and e["address"])
            text = f"models: {_readiness(e)}; {e['served']} served, {e['running']} running"
            if e["restarts"]:
                text += f"; [yellow]{e['restarts']} restarts[/]"
            rows.append(
                [f"  {e['device']}", "executor", str(e["pid"] or "-"), "", format_bytes(e["rss_bytes"]), "", text if alive else "[red]starting[/]"]
            )
    rows += [[f"[red]{escape(m['name'])}[/]", m["role"], "-", "", "", "", "[red]silent; last seen as pid " + str(m["pid"]) + "[/]"] for m in status["lost"]]
    return rows


def status(cluster: ClusterOption = None, certificates: CertificatesOption = None, output: OutputOption = Output.table) -> None:
    """Show daemons, executors, pool and cache.

    Example: cenote status -o json
    """
    from cenote.cluster import Cluster
    from cenote.show import print_json, table

    with Cluster.connect(cluster, certificates=certificates) as connected:
        found = connected.status(timeout_s=5.0)
    if output is Output.json:
        for member in found["members"] + found["lost"]:
            member["cpu_percent"] = round(_cpu_percent(member), 2)
            if "memory" in member:
                del member["memory"]["fabric_address"]  # Opaque bytes.
        print_json(found)
        return
    _say(f"cluster [bold]{found['cluster']}[/]")
    table(["name", "role", "pid", "up", "RSS", "CPU %", "state"], _rows(found), right=["pid", "up", "RSS", "CPU %"])


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
