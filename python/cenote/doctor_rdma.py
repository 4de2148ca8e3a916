"""RDMA as the kernel shows it: devices, ports, GIDs, MTU, the device files, and adapters whose driver is not there."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator
from dataclasses import dataclass

from cenote.findings import Finding
from cenote.sysfs import Sysfs

_CLASS = "sys/class/infiniband"
_ROCE_V2 = "RoCE v2"
# What RoCE v2 adds to a payload at most (kernel, iboe_get_mtu): GRH, UDP, BTH, XRC, atomic and invariant CRC.
_ROCE_HEADERS_BYTES = 40 + 8 + 12 + 4 + 28 + 4
_PAYLOADS = (4096, 2048, 1024, 512, 256)
_MELLANOX, _AMAZON = 0x15B3, 0x1D0F
_EFA_DEVICES = range(0xEFA0, 0xEFB0)
_PCI_INFINIBAND, _PCI_NETWORK = 0x0207, 0x02


@dataclass(frozen=True)
class Gid:
    index: int
    address: str  # As the kernel writes it.
    type: str  # "IB/RoCE v1", "RoCE v2"; "" where the kernel says nothing.
    interface: str

    def ip(self) -> str | None:
        """The IPv4 address it stands for."""
        try:
            mapped = ipaddress.IPv6Address(self.address).ipv4_mapped
        except ValueError:
            return None
        return str(mapped) if mapped is not None else None


@dataclass(frozen=True)
class Port:
    device: str
    number: int
    state: str  # "ACTIVE", "DOWN", "INIT", ...; "unknown".
    link_layer: str  # "Ethernet", "InfiniBand"; "unknown".
    rate: str
    gids: tuple[Gid, ...]

    @property
    def name(self) -> str:
        return f"{self.device}/{self.number}"

    @property
    def interface(self) -> str:
        return next((gid.interface for gid in self.gids if gid.interface), "")


def _port(sysfs: Sysfs, device: str, number: int) -> Port:
    folder = f"{_CLASS}/{device}/ports/{number}"
    gids = []
    for name in sysfs.names(f"{folder}/gids"):
        address = sysfs.text(f"{folder}/gids/{name}")
        if not name.isdecimal() or not address or set(address) <= {"0", ":"}:
            continue
        kind, interface = (sysfs.text(f"{folder}/gid_attrs/{what}/{name}") for what in ("types", "ndevs"))
        gids.append(Gid(int(name), address, kind, interface))
    state = sysfs.text(f"{folder}/state").partition(":")[2].strip() or "unknown"
    return Port(device, number, state, sysfs.text(f"{folder}/link_layer") or "unknown", sysfs.text(f"{folder}/rate"), tuple(gids))


def read_ports(sysfs: Sysfs) -> list[Port]:
    return [
        _port(sysfs, device, int(number))
        for device in sysfs.names(_CLASS)
        for number in sysfs.names(f"{_CLASS}/{device}/ports")
        if number.isdecimal()
    ]


def _state(port: Port) -> Finding:
    text = f"{port.name}: {port.state}, {port.link_layer}" + (f", {port.rate}" if port.rate else "")
    if port.state == "ACTIVE":
        return Finding("rdma ports", "ok", text)
    if port.state == "INIT":
        remedy = "apt-get install opensm && systemctl start opensm   # on one host of the subnet"
        return Finding("rdma ports", "warning", text, "the link is up, but no subnet manager has configured it", remedy)
    interface = port.interface or "DEV"
    remedy = f"ibstatus {port.device}:{port.number}   # and the cable" if port.link_layer == "InfiniBand" else f"ip link set {interface} up   # and the cable"
    return Finding("rdma ports", "warning", text, "nothing goes through this port", remedy)


def _gids(port: Port) -> Iterator[Finding]:
    if port.link_layer != "Ethernet" or port.state != "ACTIVE":
        return
    interface = port.interface or "DEV"
    routable = [gid for gid in port.gids if gid.type == _ROCE_V2]
    addresses = [gid.ip() for gid in routable if gid.ip()]
    if addresses:
        yield Finding("gids", "ok", f"{port.name}: RoCE v2 at {', '.join(str(address) for address in addresses)} ({interface})")
    elif routable:
        meaning = "peers are reached by IP address, and this port has none of IPv4"
        yield Finding("gids", "warning", f"{port.name}: {len(routable)} RoCE v2 GIDs, no IPv4 address", meaning, f"ip address add ADDRESS/24 dev {interface}")
    else:
        meaning = "without RoCE v2 packets are not routed, and cards of other makers may not answer"
        remedy = f"ethtool -i {interface}   # its firmware; one that offers RoCE v2 comes from its maker"
        yield Finding("gids", "warning", f"{port.name}: no RoCE v2 among {len(port.gids)} GIDs", meaning, remedy)


def payload_bytes(interface_mtu: int) -> int:
    """Of one RoCE packet on an interface with this MTU; 0: none fits."""
    return next((size for size in _PAYLOADS if size <= interface_mtu - _ROCE_HEADERS_BYTES), 0)


def _mtu(sysfs: Sysfs, port: Port) -> Iterator[Finding]:
    if port.link_layer != "Ethernet" or not port.interface:
        return
    mtu = sysfs.number(f"sys/class/net/{port.interface}/mtu")
    if mtu is None:
        return
    payload = payload_bytes(mtu)
    text = f"{port.name}: MTU {mtu} of {port.interface}, so RoCE carries {payload} bytes a packet"
    if payload == _PAYLOADS[0]:
        yield Finding("mtu", "ok", text)
    else:
        remedy = f"ip link set {port.interface} mtu 4200   # 9000 where the switches allow it"
        yield Finding("mtu", "note", text, "4096 take fewer packets; switches must carry them", remedy)


def _access(sysfs: Sysfs, devices: list[str]) -> Iterator[Finding]:
    if not devices:
        return
    for name, module in (("rdma_cm", "rdma_ucm"), ("uverbs0", "ib_uverbs")):
        path = f"dev/infiniband/{name}"
        if name == "uverbs0" and any(entry.startswith("uverbs") for entry in sysfs.names("dev/infiniband")):
            continue
        if not sysfs.exists(path):
            yield Finding("rdma access", "error", f"/{path} is not there", "programs cannot reach the RDMA devices: verbs is not offered", f"modprobe {module}")
        elif not os.access(sysfs.root / path, os.R_OK | os.W_OK):
            remedy = "apt-get install rdma-core && udevadm trigger   # its rules open it to all"
            yield Finding("rdma access", "error", f"/{path} is closed to this user", "verbs is not offered to it", remedy)


def _drivers(sysfs: Sysfs, devices: list[str]) -> Iterator[Finding]:
    adapters: dict[str, str] = {}
    for address in sysfs.names("sys/bus/pci/devices"):
        folder = f"sys/bus/pci/devices/{address}"
        vendor, device, kind = (sysfs.number(f"{folder}/{what}", 16) for what in ("vendor", "device", "class"))
        if vendor == _AMAZON and device in _EFA_DEVICES:
            adapters.setdefault("efa", address)
        elif kind is not None and (kind >> 8 == _PCI_INFINIBAND or (vendor == _MELLANOX and kind >> 16 == _PCI_NETWORK)):
            adapters.setdefault("mlx5_ib" if vendor == _MELLANOX else "ib_core", address)
    for module, address in adapters.items():
        prefix = "efa" if module == "efa" else ""
        if not any(name.startswith(prefix) for name in devices):
            text = f"the adapter at PCI {address} has no RDMA device"
            yield Finding("rdma devices", "warning", text, "its driver is not loaded, so transfers go over tcp", f"modprobe {module}")


def examine_rdma(sysfs: Sysfs) -> Iterator[Finding]:
    """Devices with what they lack. A machine without any gets one note."""
    devices = sysfs.names(_CLASS)
    drivers = list(_drivers(sysfs, devices))
    yield from drivers
    if not devices and not drivers:
        yield Finding("rdma devices", "note", "none", "transfers go over tcp", "see settings/FABRICS.md for hosts with an adapter")
    for device in devices:
        firmware = sysfs.text(f"{_CLASS}/{device}/fw_ver")
        yield Finding("rdma devices", "ok", device + (f", firmware {firmware}" if firmware else ""))
    yield from _access(sysfs, devices)
    for port in read_ports(sysfs):
        yield _state(port)
        yield from _gids(port)
        yield from _mtu(sysfs, port)
