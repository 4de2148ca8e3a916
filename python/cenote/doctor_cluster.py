"""The cluster as this machine meets it: settings, ports, certificates, clocks, and on request the speed of its links."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cenote import certificates, lifecycle, native, processes, state
from cenote.errors import Error
from cenote.findings import Finding, Level
from cenote.state import ClusterState

# Beyond this, times in logs of two hosts no longer tell what came first; beyond the second, new certificates are refused.
SKEW_WARNING_S = 0.5
SKEW_ERROR_S = 3600.0
_STATUS_TIMEOUT_S = 3.0
_BANDWIDTH_BYTES_MAX = 512 << 20
_BANDWIDTH_BLOCKS_MAX = 1024
_BANDWIDTH_SECONDS = 2.0
_LOOPBACK_PASS_BYTES = 16 << 20
_LOOPBACK_TIMEOUT_S = 300.0
_SYNCHRONISE = "timedatectl set-ntp true"
_OTHER_PORT = "choose another port in the settings"


def _up(directory: Path) -> bool:
    return lifecycle.supervisor(directory) is not None


def examine_ports(settings: dict[str, Any]) -> Iterator[Finding]:
    """Free, or held by a daemon of ours. Addresses of other hosts are for a doctor there."""
    name = settings["cluster"]["name"]
    ours = any(known.name == name and _up(known.directory) for known in state.known())
    elsewhere, free, held = [], 0, 0
    for daemon, host, port in lifecycle.ports_wanted(settings):
        if not port:
            continue
        try:
            taken = processes.port_taken(host, port)
        except Error as error:
            if error.code != "failed_precondition":
                yield Finding("ports", "error", f"{host}:{port} of {daemon}: {error.message}", f"{daemon} will not start", _OTHER_PORT)
                continue
            elsewhere.append(f"{daemon} at {host}")
            continue
        if not taken:
            free += 1
            continue
        holder = processes.listener(port)
        if ours and "cenoted" in holder:
            held += 1
            continue
        pid = holder.partition("pid ")[2].partition(" ")[0]
        remedy = f"kill {pid}   # or {_OTHER_PORT}" if pid else f"sudo ss -ltnp sport = {port}   # says who; or {_OTHER_PORT}"
        yield Finding("ports", "error", f"{host}:{port} of {daemon} is taken by {holder}", f"{daemon} will not start", remedy)
    if held or free:
        yield Finding("ports", "ok", (f"{held} held by cluster '{name}', which is up, " if ours else "") + f"{free} free")
    if elsewhere:
        text = f"not of this host: {', '.join(elsewhere[:4])}" + (" ..." if len(elsewhere) > 4 else "")
        yield Finding("ports", "note", text, "those can only be examined there", "cenote doctor   # on that host")


def examine_certificates() -> Iterator[Finding]:
    for known in state.known():
        for name in ("ca", "node", "client"):
            yield from _certificate(known, name)


def _certificate(known: ClusterState, name: str) -> Iterator[Finding]:
    found = certificates.validity(known.certificates, name)
    where = f"{known.name}/{name}.crt"
    again = f"cenote down --cluster {known.name} && cenote up {known.settings_file}"
    if found is None:
        yield Finding("certificates", "error", f"{where} is missing or damaged", "nobody can connect with it", f"{again}   # makes new ones")
    elif found.days_left < certificates.RENEW_DAYS:
        level: Level = "error" if found.days_left < 0 else "warning"
        yield Finding("certificates", level, f"{where} expires {found.expires:%Y-%m-%d}", "from then on all links are refused", f"{again}   # renews them")
    else:
        yield Finding("certificates", "ok", f"{where}: {found.days_left} days left")
    key = known.certificates / f"{name}.key"
    if key.exists() and key.stat().st_mode & 0o077:
        yield Finding("certificates", "error", f"{key} can be read by others", "whoever has it is this cluster's " + name, f"chmod 600 {key}")


def examine_clock(now: float | None = None) -> Iterator[Finding]:
    now = time.time() if now is None else now
    year = time.gmtime(now).tm_year
    if year < 2024:
        yield Finding("clock", "error", f"it is {year} here", "certificates seem not yet valid", _SYNCHRONISE)
    else:
        yield Finding("clock", "ok", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now)))


def skews(status: dict[str, Any], asked: float, answered: float) -> Iterator[tuple[str, str, float]]:
    """(name, address, seconds ahead of this machine) of the controller's clock and of each member's.

    `status` was asked for and answered at these times of our clock. A member's own is compared by the controller when its report comes, so the
    time a report travels counts as being behind.
    """
    ahead = 0.0
    for member in status["members"]:
        if member["role"] == "controller" and member["wall_clock_us"]:
            ahead = member["wall_clock_us"] / 1e6 - (asked + answered) / 2
    for member in status["members"]:
        if member["wall_clock_us"]:
            yield member["name"], member["address"], ahead + member["clock_ahead_us"] / 1e6


def examine_skew(known: ClusterState) -> Iterator[Finding]:
    """Of every host of a cluster that is up, against this one."""
    from cenote.cluster import Cluster

    asked = time.time()
    with Cluster.connect(known.name) as cluster:
        status = cluster.status(timeout_s=_STATUS_TIMEOUT_S)
    yield from judge_skews(list(skews(status, asked, time.time())))


def judge_skews(found: list[tuple[str, str, float]]) -> Iterator[Finding]:
    worst = 0.0
    for name, address, ahead in found:
        worst = max(worst, abs(ahead))
        if abs(ahead) < SKEW_WARNING_S:
            continue
        level: Level = "error" if abs(ahead) >= SKEW_ERROR_S else "warning"
        meaning = "certificates seem expired or not yet valid there" if level == "error" else "its logs cannot be laid beside those of other hosts"
        text = f"{name} ({address}) is {abs(ahead):.1f} s {'ahead' if ahead > 0 else 'behind'}"
        yield Finding("clock skew", level, text, meaning, f"ssh {address.rpartition(':')[0]} sudo {_SYNCHRONISE}")
    if worst < SKEW_WARNING_S and found:
        yield Finding("clock skew", "ok", f"{len(found)} daemons within {worst * 1e3:.0f} ms of this machine")


def examine_bandwidth(known: ClusterState) -> Iterator[Finding]:
    """Reads deployed blocks from each memory server to here, as an agent on this host would."""
    from cenote.cluster import Cluster

    with Cluster.connect(known.name) as cluster:
        servers = [member for member in cluster.status(timeout_s=_STATUS_TIMEOUT_S)["members"] if member["role"] == "memory"]
        blocks: dict[str, int] = {}
        for digest, size in (block for model in cluster.models(blocks=True) for block in model["record"]["blocks"]):
            if sum(blocks.values()) + size <= _BANDWIDTH_BYTES_MAX and len(blocks) < _BANDWIDTH_BLOCKS_MAX:
                blocks[digest] = size
    if not blocks:
        yield Finding("bandwidth", "note", f"'{known.name}' has no model", "there is nothing to read from its servers", "cenote deploy resnet18   # then again")
        return
    for server in servers:
        where = f"{server['name']} ({server['memory']['fabric_provider']}, {server['address'].rpartition(':')[0]})"
        try:
            measured = native.load().measure_reads(str(known.certificates), server["memory"], list(blocks.items()), _BANDWIDTH_SECONDS)
        except Error as error:
            remedy = f"cenote logs {server['name']} --cluster {known.name}"
            yield Finding("bandwidth", "warning", f"{where}: {error.message}", "agents on this host cannot read from it either", remedy)
            continue
        here = processes.is_local_address(server["address"].rpartition(":")[0])
        label = "; loopback, both ends share this machine" if here else ""
        text = f"{where}: {measured['gb_per_s']:.2f} GB/s, 4 KiB in {measured['latency_us']:.0f} us{label}"
        yield Finding("bandwidth", "ok", text)


def examine_loopback(settings: dict[str, Any] | None) -> Iterator[Finding]:
    """What this machine's own fabric gives between two of its processes: `cenote bench pool`, short."""
    command = [str(native.program("cenote-bench-pool")), "--arena-bytes", str(_LOOPBACK_PASS_BYTES)]
    if settings is not None:
        if settings["fabric"]["provider"] != "auto":
            command += ["--provider", settings["fabric"]["provider"]]
        # RDMA devices have no loopback address.
        hosts = [entry["host"] for entry in settings["memory"] + settings["agent"]]
        command += [word for host in hosts if processes.is_local_address(host) for word in ("--bind", host)][:2]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=_LOOPBACK_TIMEOUT_S)
    if ran.returncode != 0:
        yield Finding("bandwidth", "warning", f"this machine: {ran.stderr.strip()}", "its fabric could not be measured", " ".join(command))
        return
    report = json.loads(ran.stdout)
    best = max(report["points"], key=lambda point: point["gb_per_s"])
    text = f"this machine: {best['gb_per_s']:.2f} GB/s in reads of {best['bytes'] >> 10} KiB ({report['provider']}, loopback)"
    yield Finding("bandwidth", "ok", f"{text}, memcpy {report['memcpy_gb_per_s']:.1f} GB/s")
