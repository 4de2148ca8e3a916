"""What this machine has and lacks for Cenote; each finding with its remedy."""

from __future__ import annotations

import importlib.util
import os
import resource
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cenote import certificates, lifecycle, native, processes, state
from cenote.errors import Error
from cenote.show import format_bytes

Level = Literal["ok", "note", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    check: str
    level: Level
    text: str
    remedy: str = ""


def _build() -> Iterator[Finding]:
    try:
        native.load()
        native.program("cenoted")
        yield Finding("build", "ok", str(native.build_directory()))
    except Error as error:
        yield Finding("build", "error", error.message, "run ./AE/quickstart.sh --setup-only, or cmake --build --preset release")


def _fabric() -> Iterator[Finding]:
    try:
        names = [provider["name"] for provider in native.load().fabric_providers()]
    except Error:
        return  # _build has said it.
    fast = [name for name in ("efa", "verbs;ofi_rxm") if name in names]
    if not names:
        yield Finding("fabric", "error", "libfabric has no provider", "install libfabric1: third_party/install.sh")
    elif fast:
        yield Finding("fabric", "ok", f"{fast[0]} (of {', '.join(names)})")
    else:
        yield Finding("fabric", "note", f"no RDMA: tcp is used (of {', '.join(names)})", "RDMA needs a device that ibv_devices lists")
    try:
        devices = native.load().verbs_devices()
    except Error as error:
        yield Finding("verbs devices", "warning", error.message, "see ibv_devinfo")
        return
    if not devices:
        yield Finding("verbs devices", "note", "none")
    for device in devices:
        states = ", ".join(f"port {port['number']} {port['state']} ({port['link_layer']})" for port in device["ports"])
        active = any(port["state"] == "ACTIVE" for port in device["ports"])
        remedy = "" if active else "bring its link up: ip link set DEV up, or the subnet manager"
        yield Finding("verbs devices", "ok" if active else "warning", f"{device['name']}: {states}", remedy)


def _memlock() -> Iterator[Finding]:
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    text = "unlimited" if soft == resource.RLIM_INFINITY else format_bytes(soft)
    if soft == resource.RLIM_INFINITY or os.geteuid() == 0:
        yield Finding("memlock", "ok", text)
    else:
        yield Finding("memlock", "note", f"{text}: an RDMA arena cannot be larger", "ulimit -l unlimited, or /etc/security/limits.d")


def _huge_pages() -> Iterator[Finding]:
    values = {}
    for line in Path("/proc/meminfo").read_text().splitlines():
        key, _, value = line.partition(":")
        values[key] = int(value.split()[0])
    total, free = values.get("HugePages_Total", 0), values.get("HugePages_Free", 0)
    try:
        text = Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text()
        transparent = text[text.index("[") + 1 : text.index("]")]
    except (OSError, ValueError):
        transparent = "unknown"
    if total:
        yield Finding("huge pages", "ok", f"{free} of {total} free, transparent: {transparent}")
    else:
        remedy = "sysctl vm.nr_hugepages=N for arenas that outlast page-table walks; not needed on tcp"
        yield Finding("huge pages", "note", f"none reserved, transparent: {transparent}", remedy)


def _shared_memory(settings: dict[str, Any] | None) -> Iterator[Finding]:
    for directory in dict.fromkeys([a["cache_directory"] for a in settings["agent"]] if settings else ["/dev/shm"]):
        wanted = sum(a["cache_capacity"] for a in settings["agent"] if a["cache_directory"] == directory) if settings else 0
        try:
            usage = shutil.disk_usage(directory)
        except OSError as error:
            yield Finding("shared memory", "error", f"{directory}: {error.strerror}", "set agent.cache_directory to a tmpfs")
            continue
        text = f"{directory}: {format_bytes(usage.free)} free of {format_bytes(usage.total)}"
        if wanted > usage.free and os.geteuid() != 0:
            remedy = f"mount -o remount,size=N {directory}, or lower agent.cache_capacity"
            yield Finding("shared memory", "error", f"{text}; the settings want {format_bytes(wanted)}", remedy)
        else:
            yield Finding("shared memory", "ok", text)


def _memory(settings: dict[str, Any] | None) -> Iterator[Finding]:
    available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            available = int(line.split()[1]) * 1024
    wanted = sum(m["capacity"] for m in settings["memory"]) + sum(a["cache_capacity"] for a in settings["agent"]) if settings else 0
    text = f"{format_bytes(available)} available"
    if wanted > available:
        yield Finding("memory", "warning", f"{text}; full arenas and caches would take {format_bytes(wanted)}", "lower memory.capacity or agent.cache_capacity")
    else:
        yield Finding("memory", "ok", text + (f"; the settings may fill {format_bytes(wanted)}" if wanted else ""))


def _settings(file: Path) -> tuple[dict[str, Any] | None, Finding]:
    try:
        return lifecycle.read_settings(file, []), Finding("settings", "ok", str(file))
    except Error as error:
        return None, Finding("settings", "error", error.message, f"mend {file}; cenote settings check {file}")


def _ports(settings: dict[str, Any]) -> Iterator[Finding]:
    name = settings["cluster"]["name"]
    if any(known.name == name and lifecycle.supervisor(known.directory) is not None for known in state.known()):
        yield Finding("ports", "ok", f"cluster '{name}' is up and has them")
        return
    taken = [(daemon, host, port) for daemon, host, port in lifecycle.ports_wanted(settings) if port and processes.port_taken(host, port)]
    for daemon, host, port in taken:
        yield Finding("ports", "error", f"{host}:{port} of {daemon} is taken by {processes.listener(port)}", "stop that, or change the settings")
    if not taken:
        yield Finding("ports", "ok", "all free")


def _certificates() -> Iterator[Finding]:
    for known in state.known():
        for name in ("ca", "node", "client"):
            found = certificates.validity(known.certificates, name)
            where = f"{known.name}/{name}.crt"
            if found is None:
                yield Finding("certificates", "error", f"{where} is missing or damaged", "cenote down, then cenote up: it makes new ones")
            elif found.days_left < certificates.RENEW_DAYS:
                level: Level = "error" if found.days_left < 0 else "warning"
                yield Finding("certificates", level, f"{where} expires {found.expires:%Y-%m-%d}", "cenote down, then cenote up: it renews them")
            else:
                yield Finding("certificates", "ok", f"{where}: {found.days_left} days left")
            key = known.certificates / f"{name}.key"
            if key.exists() and key.stat().st_mode & 0o077:
                yield Finding("certificates", "error", f"{key} can be read by others", f"chmod 600 {key}")


def _clock() -> Iterator[Finding]:
    year = time.gmtime().tm_year
    if year < 2024:
        yield Finding("clock", "error", f"it is {year} here: certificates seem not yet valid", "set the time: timedatectl set-ntp true")
    else:
        yield Finding("clock", "ok", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()))


def _torch() -> Iterator[Finding]:
    found = importlib.util.find_spec("torch")
    if found is None or not found.submodule_search_locations:
        yield Finding("libtorch", "error", "torch is not installed here: deploying needs it", "third_party/install.sh")
        return
    folder = Path(next(iter(found.submodule_search_locations)))
    library = folder / "lib" / "libtorch_cpu.so"
    try:
        version = (folder / "version.py").read_text().split("__version__ = '")[1].split("'")[0]
    except (OSError, IndexError):
        version = "unknown version"
    if library.exists():
        yield Finding("libtorch", "ok", f"{version} in {folder}")
    else:
        yield Finding("libtorch", "error", f"{library} is missing", "third_party/install.sh")


def examine(file: Path) -> list[Finding]:
    """All findings; a check that fails to run is a finding too."""
    findings: list[Finding] = []
    checks: list[Callable[[], Iterator[Finding]]] = [_build, _fabric, _memlock, _huge_pages, _torch, _clock, _certificates]
    for check in checks:
        findings += _run(check)
    settings = None
    if not any(f.check == "build" and f.level == "error" for f in findings):
        settings, finding = _settings(file)
        findings.append(finding)
    if settings is not None:
        findings += _run(lambda: _ports(settings))
    findings += _run(lambda: _shared_memory(settings))
    findings += _run(lambda: _memory(settings))
    return findings


def _run(check: Callable[[], Iterator[Finding]]) -> list[Finding]:
    try:
        return list(check())
    except (OSError, ValueError, KeyError) as error:
        return [Finding(getattr(check, "__name__", "check").strip("_"), "warning", f"could not be checked: {error}")]
