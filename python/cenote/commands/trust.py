"""certificates, audit: who may do what, and who did."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cenote.commands.options import ClusterOption, Output, OutputOption

certificates_app = typer.Typer(no_args_is_help=True, help="Hand out, list, renew and revoke certificates of a cluster of this machine.")


@certificates_app.command("issue")
def issue(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whom it is for; the audit log names it.")],
    role: Annotated[str, typer.Option("--role", metavar="ROLE", help="operator, deployer or client.")],
    tenant: Annotated[str, typer.Option("--tenant", metavar="TENANT", help="Whose models a deployer may change; default: default.")] = "",
    valid_for: Annotated[str, typer.Option("--valid-for", metavar="TIME", help="Such as 12h, 90d.")] = "90d",
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Where to; default: ./NAME-certificates.")] = None,
    cluster: ClusterOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Make a directory with ca.crt, client.crt and client.key for somebody.

    Example: cenote certificates issue alice --role deployer --tenant vision --valid-for 30d
    """
    from dataclasses import asdict

    from cenote import certificate_desk as desks
    from cenote.show import print_json, say

    directory = (out or Path(f"{name.replace('/', '-')}-certificates")).resolve()
    made = desks.issue(desks.open_desk(cluster), name, role, tenant, desks.parse_days(valid_for), directory)
    if output is Output.json:
        print_json(asdict(made) | {"directory": str(directory)})
        return
    say(f"{directory}: {name}, {role}{' of tenant ' + made.tenant if made.tenant else ''}, until {made.expires}, serial {made.serial}")
    say("hand it over by a way that nobody else reads; it is used with: cenote ... --cluster HOST:PORT --certificates DIR", style="dim")


@certificates_app.command("list")
def list_(cluster: ClusterOption = None, output: OutputOption = Output.table) -> None:
    """Show this machine's own certificates and all that were issued here.

    Example: cenote certificates list
    """
    from cenote import certificate_desk as desks
    from cenote.show import escape, print_json, table

    rows = desks.listing(desks.open_desk(cluster))
    if output is Output.json:
        print_json(rows)
        return

    def state_of(row: dict[str, Any]) -> str:
        if row["revoked"]:
            return "[red]revoked[/]"
        left = row["days_left"]
        return "[red]expired[/]" if left < 0 else f"[yellow]{left} d left[/]" if left < desks.certificates.RENEW_DAYS else f"{left} d left"

    table(
        ["file", "subject", "role", "tenant", "serial", "expires", ""],
        [[r["file"], escape(r["subject"]), r["role"], r["tenant"], r["serial"], r["expires"], state_of(r)] for r in rows],
    )


@certificates_app.command("rotate")
def rotate(
    everything: Annotated[bool, typer.Option("--all", help="Also those that are far from lapsing.")] = False,
    authority: Annotated[bool, typer.Option("--authority", help="A new CA too; the old one stays trusted beside it.")] = False,
    drop_old: Annotated[bool, typer.Option("--drop-old-authority", help="Trust the newest CA alone, when all have their new certificates.")] = False,
    cluster: ClusterOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Renew this machine's certificates that lapse within 30 days. Nothing is restarted, no request is lost.

    Daemons take the new files up within two seconds, for new connections. Other machines of the cluster get copies of ca.crt (with
    --authority: before anything else of the new CA is used there), node.crt and node.key.

    Example: cenote certificates rotate
    """
    from cenote import certificate_desk as desks
    from cenote.errors import usage
    from cenote.show import console, print_json, say

    if drop_old and (authority or everything):
        raise usage("--drop-old-authority goes alone: first everybody needs a certificate of the new one")
    desk = desks.open_desk(cluster)
    if drop_old:
        dropped = desks.drop_old_authorities(desk)
        if output is Output.json:
            print_json({"renewed": [], "dropped": dropped})
        else:
            say(f"{dropped} older authorit{'y is' if dropped == 1 else 'ies are'} trusted no more")
        return
    if authority:
        with console(stderr=True).status("changing the authority") as spinner:
            made = desks.change_authority(desk, lambda text: spinner.update(text))
    else:
        made = desks.rotate(desk, everything=everything)
    if output is Output.json:
        print_json({"renewed": made, "dropped": 0})
    else:
        say(f"renewed: {', '.join(made)}" if made else "nothing lapses soon")


@certificates_app.command("revoke")
def revoke(
    which: Annotated[str, typer.Argument(metavar="NAME|SERIAL", help="Whose, or which: six or more digits of its serial.")],
    cluster: ClusterOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Have certificates refused from now on, also on connections that are open.

    Example: cenote certificates revoke alice
    """
    from cenote import certificate_desk as desks
    from cenote.show import print_json, say

    serials = desks.revoke(desks.open_desk(cluster), which)
    if output is Output.json:
        print_json({"revoked": serials})
    else:
        say(f"revoked: {', '.join(serials)}; other machines of the cluster get a copy of certificates/revoked.txt")


def audit(
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="How many last entries.")] = 20,
    cluster: ClusterOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Show who changed what. On the machine that runs the controller.

    Example: cenote audit -n 50 -o json
    """
    from cenote import audit as log
    from cenote.certificate_desk import open_desk
    from cenote.show import escape, print_json, say, table

    entries = log.read(open_desk(cluster).state_directory)[-lines:]
    if output is Output.json:
        print_json(entries)
        return
    if not entries:
        say("nothing was changed yet")
        return
    table(
        ["time", "who", "role", "from", "action", "what", "outcome"],
        [
            [
                e["time"], escape(e["who"].get("subject", "")), e["who"].get("role", ""), escape(e["who"].get("peer", "")), e["action"],
                escape(", ".join(f"{k} {v}" for k, v in e["what"].items() if v not in ("", [], None))),
                e["outcome"] if e["outcome"] == "ok" else f"[red]{escape(e['outcome'])}[/]",
            ]
            for e in entries
        ],
    )  # fmt: skip


def add_to(app: typer.Typer) -> None:
    app.add_typer(certificates_app, name="certificates")
    app.command()(audit)
