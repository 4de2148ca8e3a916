"""doctor, settings, version: about this machine and this installation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cenote.commands.options import Output, OutputOption

settings_app = typer.Typer(no_args_is_help=True, help="Check and show settings.")
SettingsArgument = Annotated[Path | None, typer.Argument(metavar="[SETTINGS]", help="Settings file; default: settings/local.toml.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override one setting; may be repeated.")]
_COLOURS = {"ok": "green", "note": "cyan", "warning": "yellow", "error": "red"}


def doctor(
    settings: SettingsArgument = None,
    bandwidth: Annotated[bool, typer.Option("--bandwidth", help="Measure reads too: within this machine, and from each memory server that is up.")] = False,
    output: OutputOption = Output.table,
) -> None:
    """Examine this machine: fabric, memory, ports, certificates, clocks; each finding with what it means and what mends it.

    Exit code 0 when all is well (ok and note), 1 when something works worse than it could or not at all (warning and error).

    Example: cenote doctor --bandwidth
    """
    from dataclasses import asdict

    from cenote import lifecycle
    from cenote.doctor import examine
    from cenote.findings import DEGRADING
    from cenote.show import console, escape, print_json, table

    with console(stderr=True).status("examining") as spinner:
        file = settings or lifecycle.default_settings_file()
        findings = examine(file, bandwidth=bandwidth, report=lambda text: spinner.update(text))
    bad = any(f.level in DEGRADING for f in findings)
    if output is Output.json:
        print_json({"ok": not bad, "findings": [asdict(f) for f in findings]})
    else:
        rows = []
        for f in findings:
            means = f"\n[dim]{escape(f.meaning)}[/]" if f.meaning else ""
            rows.append([f.check, f"[{_COLOURS[f.level]}]{f.level}[/]", escape(f.text) + means, escape(f.remedy)])
        table(["check", "", "finding", "remedy"], rows)
    raise typer.Exit(1 if bad else 0)


@settings_app.command("check")
def check(settings: SettingsArgument = None, set_: SetOption = None, output: OutputOption = Output.table) -> None:
    """Check a settings file; every problem at once. Exit code 2 when there is one.

    Example: cenote settings check settings/local.toml
    """
    from cenote import lifecycle
    from cenote.show import print_json, say

    file = settings or lifecycle.default_settings_file()
    resolved = lifecycle.read_settings(file, set_ or [])
    if output is Output.json:
        print_json({"file": str(file), "ok": True, "cluster": resolved["cluster"]["name"]})
    else:
        say(f"{file}: fine; cluster '{resolved['cluster']['name']}', {len(lifecycle.expected_daemons(resolved))} daemons")


@settings_app.command("show")
def show(
    settings: SettingsArgument = None,
    set_: SetOption = None,
    reference: Annotated[bool, typer.Option("--reference", help="Every key with its meaning, default and limits.")] = False,
    output: OutputOption = Output.table,
) -> None:
    """Show settings in effect: the file, CENOTE_* of the environment, and --set, resolved.

    Example: CENOTE_LOG_LEVEL=debug cenote settings show
    """
    from cenote import lifecycle, native
    from cenote.show import print_json

    if reference:
        typer.echo(native.load().settings_reference())
        return
    resolved = lifecycle.read_settings(settings or lifecycle.default_settings_file(), set_ or [])
    if output is Output.json:
        print_json(resolved)
        return
    for path, value in _flatten(resolved, ""):
        typer.echo(f"{path} = {value}")


def _flatten(value: object, path: str) -> list[tuple[str, object]]:
    if isinstance(value, dict) and value:
        return [item for key, inner in value.items() for item in _flatten(inner, f"{path}.{key}" if path else key)]
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [item for index, inner in enumerate(value) for item in _flatten(inner, f"{path}[{index}]")]
    return [(path, value)]


def version(output: OutputOption = Output.table) -> None:
    """Print the version of the tool and its build.

    Example: cenote version -o json
    """
    import platform

    from cenote import __version__, native
    from cenote.errors import Error
    from cenote.show import print_json, say

    try:
        build = str(native.build_directory())
    except Error:
        build = ""
    if output is Output.json:
        print_json({"cenote": __version__, "python": platform.python_version(), "build": build})
    else:
        say(f"cenote {__version__}, Python {platform.python_version()}, build {build or 'none'}")


def add_to(app: typer.Typer) -> None:
    app.command()(doctor)
    app.add_typer(settings_app, name="settings")
    app.command()(version)
