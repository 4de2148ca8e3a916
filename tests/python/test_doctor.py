"""Goal: `cenote doctor` says what a machine lacks and how to mend it, and survives whatever /sys shows. Method: trees made for the test."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cenote import doctor_cluster, doctor_memory, doctor_rdma
from cenote.errors import Error
from cenote.findings import Finding, run
from cenote.sysfs import Sysfs

ROCE = {
    "sys/class/infiniband/mlx5_0/fw_ver": "28.39.1002",
    "sys/class/infiniband/mlx5_0/device/numa_node": "1",
    "sys/class/infiniband/mlx5_0/ports/1/state": "4: ACTIVE",
    "sys/class/infiniband/mlx5_0/ports/1/link_layer": "Ethernet",
    "sys/class/infiniband/mlx5_0/ports/1/rate": "100 Gb/sec (4X EDR)",
    "sys/class/infiniband/mlx5_0/ports/1/gids/0": "fe80:0000:0000:0000:0e42:a1ff:fe00:0001",
    "sys/class/infiniband/mlx5_0/ports/1/gids/1": "0000:0000:0000:0000:0000:ffff:0a00:0003",
    "sys/class/infiniband/mlx5_0/ports/1/gids/2": "0000:0000:0000:0000:0000:0000:0000:0000",
    "sys/class/infiniband/mlx5_0/ports/1/gid_attrs/types/0": "IB/RoCE v1",
    "sys/class/infiniband/mlx5_0/ports/1/gid_attrs/types/1": "RoCE v2",
    "sys/class/infiniband/mlx5_0/ports/1/gid_attrs/ndevs/0": "ens1",
    "sys/class/infiniband/mlx5_0/ports/1/gid_attrs/ndevs/1": "ens1",
    "sys/class/net/ens1/mtu": "9000",
    "dev/infiniband/rdma_cm": "",
    "dev/infiniband/uverbs0": "",
}
PORT = "sys/class/infiniband/mlx5_0/ports/1"
GIB = 1 << 30


def tree(folder: Path, files: dict[str, str]) -> Sysfs:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return Sysfs(folder)


def wanting(**memory: Any) -> dict[str, Any]:
    server = {"name": "memory-0", "capacity": 4 * GIB, "huge_pages": "auto"} | memory
    return {"memory": [server], "agent": [{"cache_directory": "/dev/shm", "cache_capacity": GIB}], "fabric": {"provider": "auto"}}


def bad(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.level != "ok"]


def test_a_healthy_roce_host_has_nothing_to_mend(tmp_path: Path) -> None:
    found = list(doctor_rdma.examine_rdma(tree(tmp_path, ROCE)))
    assert not bad(found)
    texts = {finding.check: finding.text for finding in found}
    assert texts["rdma devices"] == "mlx5_0, firmware 28.39.1002"
    assert texts["rdma ports"] == "mlx5_0/1: ACTIVE, Ethernet, 100 Gb/sec (4X EDR)"
    assert texts["gids"] == "mlx5_0/1: RoCE v2 at 10.0.0.3 (ens1)"
    assert texts["mtu"] == "mlx5_0/1: MTU 9000 of ens1, so RoCE carries 4096 bytes a packet"


@pytest.mark.parametrize(
    ("changed", "check", "level", "remedy"),
    [
        ({f"{PORT}/state": "1: DOWN"}, "rdma ports", "warning", "ip link set ens1 up"),
        ({f"{PORT}/state": "2: INIT", f"{PORT}/link_layer": "InfiniBand"}, "rdma ports", "warning", "systemctl start opensm"),
        ({f"{PORT}/state": "1: DOWN", f"{PORT}/link_layer": "InfiniBand"}, "rdma ports", "warning", "ibstatus mlx5_0:1"),
        ({f"{PORT}/gids/1": "fe80::2"}, "gids", "warning", "ip address add ADDRESS/24 dev ens1"),
        ({f"{PORT}/gid_attrs/types/1": "IB/RoCE v1"}, "gids", "warning", "ethtool -i ens1"),
        ({"sys/class/net/ens1/mtu": "1500"}, "mtu", "note", "ip link set ens1 mtu 4200"),
    ],
)
def test_what_a_port_lacks_is_said_with_its_command(tmp_path: Path, changed: dict[str, str], check: str, level: str, remedy: str) -> None:
    found = bad(list(doctor_rdma.examine_rdma(tree(tmp_path, ROCE | changed))))
    assert [(finding.check, finding.level) for finding in found] == [(check, level)]
    assert remedy in found[0].remedy and found[0].meaning


@pytest.mark.parametrize(("mtu", "payload"), [(9000, 4096), (4200, 4096), (4191, 2048), (1500, 1024), (576, 256), (300, 0), (-1, 0)])
def test_payload_follows_the_interfaces_mtu_as_the_kernel_has_it(mtu: int, payload: int) -> None:
    assert doctor_rdma.payload_bytes(mtu) == payload


def test_a_device_that_programs_cannot_reach_is_an_error(tmp_path: Path) -> None:
    without = {name: text for name, text in ROCE.items() if not name.startswith("dev/")}
    found = [finding for finding in doctor_rdma.examine_rdma(tree(tmp_path, without)) if finding.check == "rdma access"]
    assert [(finding.level, finding.remedy) for finding in found] == [("error", "modprobe rdma_ucm"), ("error", "modprobe ib_uverbs")]


@pytest.mark.parametrize(
    ("vendor", "device", "kind", "module"),
    [("0x15b3", "0x1017", "0x020000", "mlx5_ib"), ("0x15b3", "0x1017", "0x020700", "mlx5_ib"), ("0x1d0f", "0xefa1", "0x020000", "efa")],
)
def test_an_adapter_without_its_driver_is_named(tmp_path: Path, vendor: str, device: str, kind: str, module: str) -> None:
    pci = "sys/bus/pci/devices/0000:3b:00.0"
    (finding,) = doctor_rdma.examine_rdma(tree(tmp_path, {f"{pci}/vendor": vendor, f"{pci}/device": device, f"{pci}/class": kind}))
    assert (finding.level, finding.remedy) == ("warning", f"modprobe {module}")
    assert "0000:3b:00.0" in finding.text


def test_a_machine_without_rdma_is_fine_with_tcp(tmp_path: Path) -> None:
    (finding,) = doctor_rdma.examine_rdma(Sysfs(tmp_path))
    assert finding.level == "note" and "tcp" in finding.meaning


def test_memlock_matters_where_rdma_reads_memory(tmp_path: Path) -> None:
    small = 64 << 20
    (plain,) = doctor_memory.examine_memlock(Sysfs(tmp_path), wanting(), limit=small, root=False)
    assert plain.level == "note"
    roce = tree(tmp_path, ROCE)
    (limited,) = doctor_memory.examine_memlock(roce, wanting(), limit=small, root=False)
    assert limited.level == "error" and "limits.d" in limited.remedy and "64 MiB" in limited.text and "4.0 GiB" in limited.text
    for limit, root in ((-1, False), (small, True), (4 * GIB, False)):
        (fine,) = doctor_memory.examine_memlock(roce, wanting(), limit=limit, root=root)
        assert fine.level == "ok", (limit, root)


@pytest.mark.parametrize(
    ("total", "free", "mode", "level", "remedy"),
    [
        (0, 0, "auto", "note", "sysctl -w vm.nr_hugepages=2048"),
        (0, 0, "on", "error", "sysctl -w vm.nr_hugepages=2048"),
        (2048, 1000, "on", "error", "sysctl -w vm.nr_hugepages=3096"),
        (2048, 2048, "on", "ok", ""),
    ],
)
def test_huge_pages_are_compared_with_what_the_arenas_want(tmp_path: Path, total: int, free: int, mode: str, level: str, remedy: str) -> None:
    text = f"MemTotal: 9 kB\nHugePages_Total: {total}\nHugePages_Free: {free}\nHugepagesize: 2048 kB"
    (finding,) = doctor_memory.examine_huge_pages(tree(tmp_path, {"proc/meminfo": text}), wanting(huge_pages=mode))
    assert (finding.level, finding.remedy) == (level, remedy)


def test_a_device_at_one_of_several_nodes_is_named_with_how_to_run_there(tmp_path: Path) -> None:
    nodes = {f"sys/devices/system/node/node{n}/meminfo": f"Node {n} MemTotal: 1048576 kB" for n in range(2)}
    (finding,) = doctor_memory.examine_numa(tree(tmp_path, ROCE | nodes))
    assert finding.text == "mlx5_0 is at node 1 of 2, which has 1.0 GiB"
    assert finding.remedy == "numactl --cpunodebind=1 --membind=1 cenote up SETTINGS"


def test_memory_that_is_not_there_is_a_warning(tmp_path: Path) -> None:
    (finding,) = doctor_memory.examine_memory(tree(tmp_path, {"proc/meminfo": "MemAvailable: 1048576 kB"}), wanting())
    assert finding.level == "warning" and "5.0 GiB" in finding.text


_NAMES = st.sampled_from(sorted({*ROCE, "proc/meminfo", "sys/devices/system/node/node0/meminfo", "sys/devices/system/node/node1/meminfo"}))
_NONSENSE = [b"", b":", b"4:", b"-1", b"0x", b"\xff\xfe", b"\0" * 9, b"9" * 40, b"MemAvailable: x kB", b"[always"]
_BYTES = st.one_of(st.binary(max_size=60), st.sampled_from(_NONSENSE))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(broken=st.dictionaries(_NAMES, st.one_of(st.none(), _BYTES), max_size=8))
def test_entries_that_are_missing_or_nonsense_crash_nothing(tmp_path_factory: pytest.TempPathFactory, broken: dict[str, bytes | None]) -> None:
    folder = tmp_path_factory.mktemp("broken")
    sysfs = tree(folder, ROCE)
    for name, data in broken.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if data is None:
            path.unlink(missing_ok=True)
            path.mkdir()  # A folder where a file should be.
        else:
            path.write_bytes(data)
    found = [*doctor_rdma.examine_rdma(sysfs), *doctor_memory.examine_huge_pages(sysfs, wanting()), *doctor_memory.examine_numa(sysfs)]
    found += [*doctor_memory.examine_memory(sysfs, wanting()), *doctor_memory.examine_memlock(sysfs, wanting(), limit=1, root=False)]
    assert all(finding.text for finding in found)


def test_a_check_that_fails_is_a_finding_beside_those_it_made() -> None:
    def check() -> Any:
        yield Finding("x", "ok", "fine so far")
        raise Error("unavailable", "the controller is silent")

    found = run("x", check)
    assert [finding.level for finding in found] == ["ok", "warning"]
    assert "the controller is silent" in found[1].text and found[1].remedy


def _status(controller_us: int, ahead_us: int) -> dict[str, Any]:
    controller = {"name": "controller", "role": "controller", "address": "10.0.0.1:7700", "wall_clock_us": controller_us, "clock_ahead_us": 0}
    member = {"name": "memory-0", "role": "memory", "address": "10.0.0.2:7710", "wall_clock_us": 1, "clock_ahead_us": ahead_us}
    silent = {"name": "old", "role": "router", "address": "10.0.0.3:7701", "wall_clock_us": 0, "clock_ahead_us": 0}
    return {"members": [controller, member, silent]}


@pytest.mark.parametrize(
    ("controller_ahead_s", "member_ahead_s", "levels"),
    [(0.0, 0.01, ["ok"]), (0.0, -2.0, ["warning"]), (3.0, -3.0, ["warning"]), (0.0, 7200.0, ["error"]), (2.0, 0.0, ["warning", "warning"])],
)
def test_clocks_are_compared_through_the_controllers(controller_ahead_s: float, member_ahead_s: float, levels: list[str]) -> None:
    asked, answered = 1000.0, 1000.2
    status = _status(int((1000.1 + controller_ahead_s) * 1e6), int(member_ahead_s * 1e6))
    found = list(doctor_cluster.judge_skews(list(doctor_cluster.skews(status, asked, answered))))
    assert [finding.level for finding in found] == levels
    if levels != ["ok"]:
        assert all("timedatectl set-ntp true" in finding.remedy and finding.remedy.startswith("ssh 10.0.0.") for finding in found)


def test_ports_of_other_hosts_are_left_to_a_doctor_there_and_taken_ones_name_their_holder() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        described = {
            "cluster": {"name": "none-such"},
            "controller": {"host": "127.0.0.1", "port": port},
            "router": [],
            "memory": [{"name": "memory-0", "host": "192.0.2.1", "port": 7710, "fabric_port": 7711}],
            "agent": [],
        }
        found = list(doctor_cluster.examine_ports(described))
    assert [finding.level for finding in found] == ["error", "note"]
    assert f"127.0.0.1:{port} of controller is taken by pid {os.getpid()}" in found[0].text
    assert found[0].remedy.startswith(f"kill {os.getpid()} ")
    assert "memory-0 at 192.0.2.1" in found[1].text and "cenote doctor" in found[1].remedy
