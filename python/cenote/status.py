"""What `cenote status` shows. Free of the command line's parser: scripts ask often, and the parser takes longer than the answer."""

from __future__ import annotations

from typing import Any


def _cpu_percent(process: dict[str, Any]) -> float:
    """Of one core, over the process's whole life."""
    return 100 * process["cpu_seconds"] / max(process["uptime_s"], 0.001)


def _readiness(executor: dict[str, Any]) -> str:
    counts: dict[str, int] = {}
    for revision in executor["revisions"]:
        counts[revision["readiness"]] = counts.get(revision["readiness"], 0) + 1
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "none"


def _details(member: dict[str, Any]) -> str:
    from cenote.show import escape, format_bytes

    parts: list[str] = []
    if member["role"] == "memory":
        storage = member["storage"]
        used = f"{format_bytes(member['memory']['used_bytes'])} of {format_bytes(member['memory']['capacity_bytes'])}"
        if storage["disk"]:
            parts.append(f"disk {used} used, arena {format_bytes(storage['arena_used_bytes'])} of {format_bytes(storage['arena_capacity_bytes'])}")
        else:
            parts.append(f"{used} used")
        if storage["corrupt_blocks"]:
            parts.append(f"[red]{storage['corrupt_blocks']} corrupt copies found[/]")
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
            usage = [format_age(e["uptime_s"]), format_bytes(e["rss_bytes"]), f"{_cpu_percent(e):.1f}"] if alive else ["", "", ""]
            rows.append([f"  {e['device']}", "executor", str(e["pid"] or "-"), *usage, text if alive else "[red]starting[/]"])
    rows += [[f"[red]{escape(m['name'])}[/]", m["role"], "-", "", "", "", "[red]silent; last seen as pid " + str(m["pid"]) + "[/]"] for m in status["lost"]]
    return rows


def _repair_lines(status: dict[str, Any]) -> list[str]:
    from cenote.show import escape, format_age, format_bytes

    repair = status["repair"]
    lines = []
    if repair["short_blocks"]:
        rate = f", at {format_bytes(repair['bytes_per_second'])}/s" if repair["bytes_per_second"] else ""
        left = f"{repair['short_blocks']} blocks lack replicas, {format_bytes(repair['short_bytes'])} to copy"
        lines.append(f"[yellow]repair: {left}, {repair['copying']} under way{rate}[/]")
    if repair["lost_blocks"]:
        lines.append(f"[red]{repair['lost_blocks']} blocks are on no server that is there: deploy their models again, or bring their servers back[/]")
    for server in status["excluded"]:
        lines.append(f"[yellow]{escape(server['server'])} is asked last since {format_age(server['since_s'])}: {escape(server['reason'])}[/]")
    return lines


def _tenant_rows(status: dict[str, Any]) -> list[list[str]]:
    from cenote.show import escape, format_bytes

    return [
        [
            escape(t["name"]), format_bytes(t["used_bytes"]), format_bytes(t["pool_bytes_max"]) if t["pool_bytes_max"] else "any",
            str(t["models"]), str(t["models_max"] or "any"),
        ]
        for t in status["tenants"]
    ]  # fmt: skip


def show(cluster: str | None, certificates: str | None, *, as_json: bool) -> None:
    from cenote.cluster import Cluster
    from cenote.show import console, escape, print_json, table

    with Cluster.connect(cluster, certificates=certificates) as connected:
        found = connected.status(timeout_s=5.0)
    if as_json:
        for member in found["members"] + found["lost"]:
            for process in [member, *member.get("executors", [])]:
                process["cpu_percent"] = round(_cpu_percent(process), 2)
            if "memory" in member:
                del member["memory"]["fabric_address"]  # Opaque bytes.
        print_json(found)
        return
    console().print(f"cluster [bold]{found['cluster']}[/]")
    if found["held_because"]:
        console().print(f"[yellow]memory servers keep what no model needs: {escape(found['held_because'])}; see `cenote rebuild --help`[/]")
    for line in _repair_lines(found):
        console().print(line)
    table(["name", "role", "pid", "up", "RSS", "CPU %", "state"], _rows(found), right=["pid", "up", "RSS", "CPU %"])
    if found["tenants"]:
        table(["tenant", "in the pool", "of", "models", "of"], _tenant_rows(found), right=["in the pool", "of", "models"])
