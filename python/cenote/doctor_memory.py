"""Memory as the daemons need it: what may be locked, huge pages, NUMA, the caches' tmpfs, enough of it all."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Iterator
from typing import Any

from cenote.findings import Finding, Level
from cenote.show import format_bytes
from cenote.sysfs import Sysfs

_LIMITS_FILE = "/etc/security/limits.d/cenote.conf"
_NODES = "sys/devices/system/node"


def _uses_rdma(sysfs: Sysfs, settings: dict[str, Any] | None) -> bool:
    provider = settings["fabric"]["provider"] if settings else "auto"
    return provider.startswith(("verbs", "efa")) or (provider == "auto" and bool(sysfs.names("sys/class/infiniband")))


def _arenas_bytes(settings: dict[str, Any] | None) -> int:
    return sum(server["capacity"] for server in settings["memory"]) if settings else 0


def examine_memlock(sysfs: Sysfs, settings: dict[str, Any] | None, *, limit: int | None = None, root: bool | None = None) -> Iterator[Finding]:
    """`limit` and `root` are this process's unless given."""
    if limit is None:
        limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if root is None:
        root = os.geteuid() == 0
    text = "unlimited" if limit == resource.RLIM_INFINITY else format_bytes(limit)
    # The limit is each process's own, and each registers its arena or cache whole.
    wanted = max([server["capacity"] for server in settings["memory"]] + [agent["cache_capacity"] for agent in settings["agent"]]) if settings else 0
    if limit == resource.RLIM_INFINITY or root or (wanted and limit >= wanted):
        yield Finding("memlock", "ok", text + (" (root is not bound by it)" if root and limit != resource.RLIM_INFINITY else ""))
        return
    remedy = f"echo '* - memlock unlimited' | sudo tee {_LIMITS_FILE}   # then log in anew; in a systemd unit: LimitMEMLOCK=infinity"
    level: Level = "error" if _uses_rdma(sysfs, settings) else "note"
    of = f"; the largest arena or cache takes {format_bytes(wanted)}" if wanted else ""
    yield Finding("memlock", level, text + of, "memory that an RDMA device uses is locked: a larger arena is refused; tcp locks none", remedy)


def examine_huge_pages(sysfs: Sysfs, settings: dict[str, Any] | None) -> Iterator[Finding]:
    values = sysfs.fields("proc/meminfo")
    size, total, free = values.get("Hugepagesize", 2 << 20) or 2 << 20, values.get("HugePages_Total", 0), values.get("HugePages_Free", 0)
    enabled = sysfs.text("sys/kernel/mm/transparent_hugepage/enabled")
    transparent = enabled.partition("[")[2].partition("]")[0] or "unknown"
    servers = settings["memory"] if settings else []
    wanted = sum(-(-server["capacity"] // size) for server in servers)
    insisted = [server["name"] for server in servers if server["huge_pages"] == "on"]
    text = f"{free} of {total} free ({format_bytes(size)} each), transparent: {transparent}"
    remedy = f"sysctl -w vm.nr_hugepages={total - free + wanted if wanted else 'N'}"
    if insisted and free < wanted:
        yield Finding("huge pages", "error", f"{text}; {wanted} are wanted", f"{', '.join(insisted)} will not start: memory.huge_pages is 'on'", remedy)
    elif total == 0 or free < wanted:
        meaning = "arenas use pages of 4 KiB: RDMA cards then walk longer tables; no matter on tcp"
        yield Finding("huge pages", "note", text, meaning, remedy)
    else:
        yield Finding("huge pages", "ok", text)


def examine_numa(sysfs: Sysfs) -> Iterator[Finding]:
    nodes = [name for name in sysfs.names(_NODES) if name.startswith("node") and name[4:].isdecimal()]
    if len(nodes) < 2:
        yield Finding("numa", "ok", "one node")
        return
    near = {device: sysfs.number(f"sys/class/infiniband/{device}/device/numa_node") for device in sysfs.names("sys/class/infiniband")}
    placed = {device: node for device, node in near.items() if node is not None and node >= 0}
    if not placed:
        yield Finding("numa", "ok", f"{len(nodes)} nodes; no RDMA device is tied to one")
    for device, node in placed.items():
        total = next((value for key, value in sysfs.fields(f"{_NODES}/node{node}/meminfo").items() if key.endswith("MemTotal")), 0)
        of = f", which has {format_bytes(total)}" if total else ""
        text = f"{device} is at node {node} of {len(nodes)}{of}"
        remedy = f"numactl --cpunodebind={node} --membind={node} cenote up SETTINGS"
        yield Finding("numa", "note", text, "arenas and caches at another node are read across the sockets' link", remedy)


def examine_shared_memory(settings: dict[str, Any] | None) -> Iterator[Finding]:
    agents = settings["agent"] if settings else []
    for directory in dict.fromkeys([agent["cache_directory"] for agent in agents] or ["/dev/shm"]):
        wanted = sum(agent["cache_capacity"] for agent in agents if agent["cache_directory"] == directory)
        try:
            usage = shutil.disk_usage(directory)
        except OSError as error:
            remedy = "set agent.cache_directory to a tmpfs, such as /dev/shm"
            yield Finding("shared memory", "error", f"{directory}: {error.strerror}", "the agent's cache lies there", remedy)
            continue
        text = f"{directory}: {format_bytes(usage.free)} free of {format_bytes(usage.total)}"
        if wanted > usage.free and os.geteuid() != 0:
            text += f"; the settings want {format_bytes(wanted)}"
            yield Finding("shared memory", "error", text, "the agent will not start", f"mount -o remount,size={usage.total - usage.free + wanted} {directory}")
        else:
            yield Finding("shared memory", "ok", text)


def examine_memory(sysfs: Sysfs, settings: dict[str, Any] | None) -> Iterator[Finding]:
    available = sysfs.fields("proc/meminfo").get("MemAvailable")
    if available is None:
        yield Finding("memory", "note", "how much is available is not known (/proc/meminfo)")
        return
    wanted = _arenas_bytes(settings) + (sum(agent["cache_capacity"] for agent in settings["agent"]) if settings else 0)
    text = f"{format_bytes(available)} available"
    if wanted > available:
        text += f"; full arenas and caches take {format_bytes(wanted)}"
        remedy = "lower memory.capacity or agent.cache_capacity in the settings"
        yield Finding("memory", "warning", text, "the kernel may end daemons once they are full", remedy)
    else:
        yield Finding("memory", "ok", text + (f"; the settings may fill {format_bytes(wanted)}" if wanted else ""))
