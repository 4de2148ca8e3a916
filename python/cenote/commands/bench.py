"""bench: figures, each beside what it is to be compared with."""

from __future__ import annotations

import json
import subprocess
from typing import Annotated, Any

import typer

from cenote.commands.options import Output, OutputOption

_PAIR_TIMEOUT_S = 20.0  # Of four seconds that they take.

app = typer.Typer(no_args_is_help=True, help="Measure: every figure beside its bound and its rivals, in one run.")


@app.command()
def pool(
    provider: Annotated[str, typer.Option("--provider", metavar="NAME", help="libfabric provider; default: the best there is.")] = "",
    pairs: Annotated[int, typer.Option("--pairs", min=15, max=1000, help="Interleaved passes of each kind; the median counts.")] = 15,
    peers: Annotated[bool, typer.Option("--peers", help="Mooncake and NIXL too, in an environment of their own.")] = False,
    output: OutputOption = Output.table,
) -> None:
    """Reads from the pool beside a bare fi_read loop, memcpy and TCP. Needs no cluster.

    Example: cenote bench pool --peers -o json
    """
    from cenote import native
    from cenote.errors import Error
    from cenote.show import console, print_json, table

    command = [str(native.program("cenote-bench-pool")), "--pairs", str(pairs)]
    if provider:
        command += ["--provider", provider]
    with console(stderr=True).status("measuring; this takes about a minute") as spinner:
        ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60 + pairs * _PAIR_TIMEOUT_S)
        if ran.returncode != 0:
            code = "invalid_argument" if ran.returncode == 2 else "internal"
            raise Error(code, ran.stderr.strip() or f"cenote-bench-pool ended with exit code {ran.returncode}")
        report: dict[str, Any] = json.loads(ran.stdout)
        if peers:
            from cenote.peers import measure

            report["peers_gb_per_s"] = measure(lambda text: spinner.update(text))
    if output is Output.json:
        print_json(report)
        return
    table(
        ["read", "Cenote GB/s", "bare fi_read", "ratio", "verified", "CPU s/GB"],
        [
            [
                f"{p['bytes'] >> 10} KiB", f"{p['gb_per_s']:.2f}", f"{p['bare_gb_per_s']:.2f}", f"{p['ratio']:.3f}",
                f"{p['verified_gb_per_s']:.2f}", f"{p['cpu_s_per_gb']:.3f}",
            ]
            for p in report["points"]
        ],
        right=["read", "Cenote GB/s", "bare fi_read", "ratio", "verified", "CPU s/GB"],
    )  # fmt: skip
    others = {"memcpy": report["memcpy_gb_per_s"], "TCP stream": report["tcp_gb_per_s"], **report["peers_gb_per_s"]}
    console().print(f"provider {report['provider']}; " + ", ".join(f"{k} {v:.2f} GB/s" for k, v in others.items()), markup=False)


@app.command()
def cold(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A preset, or a deployed name.")],
    rounds: Annotated[int, typer.Option("--rounds", min=3, max=100, help="Measurements of each kind; the median counts.")] = 5,
    link_gb_per_s: Annotated[float, typer.Option("--link-gb-per-s", min=0, help="Pace of the link; 0: not paced.")] = 0.0,
    batch: Annotated[int, typer.Option("--batch", min=1, max=256)] = 1,
    length: Annotated[int | None, typer.Option("--length", min=1, max=4096, help="Tokens, for text models.")] = None,
    output: OutputOption = Output.table,
) -> None:
    """A request whose model lies nowhere on the host, beside its bound, and beside loading the same weights by other means.

    Starts a cluster of its own: one device, two memory servers.

    Example: cenote bench cold resnet152 --link-gb-per-s 1 -o json
    """
    from cenote.bench_cold import draw, measure
    from cenote.show import console, print_json

    with console(stderr=True).status("preparing") as spinner:
        report = measure(
            model, rounds=rounds, link_gb_per_s=link_gb_per_s, batch=batch, length=length, report=lambda text: spinner.update(text)
        )
    if output is Output.json:
        print_json(report)
    else:
        draw(report)


@app.command()
def eager(
    models: Annotated[list[str] | None, typer.Argument(metavar="[MODEL]...", help="Presets; default: all eight architectures.")] = None,
    rounds: Annotated[int, typer.Option("--rounds", min=5, max=200, help="Interleaved pairs; the median counts.")] = 15,
    threads: Annotated[int, typer.Option("--threads", min=1, max=256, help="Threads of both.")] = 1,
    output: OutputOption = Output.table,
) -> None:
    """The executor's interpreter beside PyTorch eager, outputs compared. Needs no cluster.

    Example: cenote bench eager resnet18 gpt2 --rounds 15 -o json
    """
    from cenote.bench_eager import MODELS, bench_eager
    from cenote.show import console, print_json, table

    with console(stderr=True).status("preparing") as spinner:
        report: dict[str, Any] = bench_eager(models or MODELS, rounds=rounds, threads=threads, progress=lambda text: spinner.update(text))
    if output is Output.json:
        print_json(report)
        return
    table(
        ["model", "Cenote", "PyTorch eager", "ratio"],
        [[name, f"{m['cenote_ms']:.1f} ms", f"{m['eager_ms']:.1f} ms", f"{m['ratio']:.3f}"] for name, m in report["models"].items()],
        right=["Cenote", "PyTorch eager", "ratio"],
    )
    console().print(f"{report['per_op_us']:.2f} us an operator, in a chain of 1,000 small ones", style="dim")


@app.command()
def notice(
    rounds: Annotated[int, typer.Option("--rounds", min=0, max=1000, help="How often each role is killed and stopped.")] = 1,
    quiet_minutes: Annotated[float, typer.Option("--quiet-minutes", min=0, help="Afterwards, without faults, beside two busy processes.")] = 0.0,
    output: OutputOption = Output.table,
) -> None:
    """How soon a dead or silent daemon is noticed, and requests are answered as before.

    Starts a cluster of its own, two of each role, and kills and stops each under a resident load.

    Example: cenote bench notice --quiet-minutes 10 -o json
    """
    from cenote.bench_notice import draw, measure
    from cenote.show import console, print_json

    with console(stderr=True).status("preparing") as spinner:
        report = measure(rounds=rounds, quiet_minutes=quiet_minutes, report=lambda text: spinner.update(text))
    if output is Output.json:
        print_json(report)
    else:
        draw(report)


@app.command()
def router(
    rounds: Annotated[int, typer.Option("--rounds", min=1, max=100, help="Interleaved runs of each way; the median counts.")] = 7,
    seconds: Annotated[float, typer.Option("--seconds", min=0.05, max=60, help="Of one run.")] = 2.0,
    outstanding: Annotated[int, typer.Option("--outstanding", min=2, max=1024, help="Requests under way at full load.")] = 64,
    idle: Annotated[int, typer.Option("--idle", min=0, max=16384, help="Callers connected without asking, for what one takes of memory.")] = 500,
    output: OutputOption = Output.table,
) -> None:
    """Small requests through a router and to an executor, beside a bare relay of the same messages.

    Starts a cluster of its own: one router, one device, a model of one operator.

    Example: cenote bench router --rounds 7 -o json
    """
    from cenote.bench_router import draw, measure
    from cenote.show import console, print_json

    with console(stderr=True).status("preparing") as spinner:
        report = measure(rounds=rounds, seconds=seconds, outstanding=outstanding, idle=idle, report=lambda text: spinner.update(text))
    if output is Output.json:
        print_json(report)
    else:
        draw(report)
