"""What this machine has and lacks for Cenote; each finding with what it means and the command that mends it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cenote import doctor_cluster, doctor_memory, doctor_rdma, lifecycle, native, state
from cenote.errors import Error
from cenote.findings import Finding, run
from cenote.sysfs import Sysfs


def _build() -> Iterator[Finding]:
    try:
        native.load()
        native.program("cenoted")
        yield Finding("build", "ok", str(native.build_directory()))
    except Error as error:
        yield Finding("build", "error", error.message, "nothing can be started from here", "./AE/quickstart.sh --setup-only")


def _fabric() -> Iterator[Finding]:
    try:
        names = [provider["name"] for provider in native.load().fabric_providers()]
    except Error:
        return  # _build has said it.
    fast = [name for name in ("efa", "verbs;ofi_rxm") if name in names]
    if not names:
        yield Finding("fabric", "error", "libfabric has no provider", "no bytes can be moved", "./third_party/install.sh")
    elif fast:
        yield Finding("fabric", "ok", f"{fast[0]} (of {', '.join(names)})")
    else:
        yield Finding("fabric", "note", f"tcp (of {', '.join(names)})", "no RDMA provider finds a device", "see settings/FABRICS.md")


def _torch() -> Iterator[Finding]:
    found = importlib.util.find_spec("torch")
    meaning, remedy = "models cannot be exported or run", "./third_party/install.sh"
    if found is None or not found.submodule_search_locations:
        yield Finding("libtorch", "error", "torch is not installed here", meaning, remedy)
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
        yield Finding("libtorch", "error", f"{library} is missing", meaning, remedy)


def _settings(file: Path) -> tuple[dict[str, Any] | None, Finding]:
    try:
        return lifecycle.read_settings(file, []), Finding("settings", "ok", str(file))
    except Error as error:
        return None, Finding("settings", "error", error.message, "no cluster starts with them", f"cenote settings check {file}")


def _clusters_up() -> list[state.ClusterState]:
    return [known for known in state.known() if lifecycle.supervisor(known.directory) is not None]


def examine(file: Path, *, bandwidth: bool = False, report: Callable[[str], None] = lambda _: None) -> list[Finding]:
    """All findings; a check that fails to run is a finding too. `report` hears what takes long."""
    sysfs = Sysfs()
    findings = run("build", _build)
    settings = None
    if not any(finding.level == "error" for finding in findings):
        settings, finding = _settings(file)
        findings.append(finding)
    findings += run("fabric", _fabric)
    findings += run("rdma devices", lambda: doctor_rdma.examine_rdma(sysfs))
    findings += run("memlock", lambda: doctor_memory.examine_memlock(sysfs, settings))
    findings += run("huge pages", lambda: doctor_memory.examine_huge_pages(sysfs, settings))
    findings += run("numa", lambda: doctor_memory.examine_numa(sysfs))
    findings += run("shared memory", lambda: doctor_memory.examine_shared_memory(settings))
    findings += run("memory", lambda: doctor_memory.examine_memory(sysfs, settings))
    findings += run("libtorch", _torch)
    findings += run("certificates", doctor_cluster.examine_certificates)
    findings += run("clock", doctor_cluster.examine_clock)
    if settings is not None:
        findings += run("ports", lambda: doctor_cluster.examine_ports(settings))
    up = _clusters_up()
    for cluster in up:
        findings += run("clock skew", lambda cluster=cluster: doctor_cluster.examine_skew(cluster))
    if bandwidth:
        report("measuring this machine")
        findings += run("bandwidth", lambda: doctor_cluster.examine_loopback(settings))
        for cluster in up:
            report(f"measuring the servers of '{cluster.name}'")
            findings += run("bandwidth", lambda cluster=cluster: doctor_cluster.examine_bandwidth(cluster))
    return findings
