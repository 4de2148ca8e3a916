"""A bad cable between two interfaces: frames pass both ways, and in some a bit of the payload is flipped. A program of its own:
`python -m tests.faults.cable LEFT RIGHT FLIP_CHANCE SEED`, until it is killed.

Frames come with their virtio header (PACKET_VNET_HDR), which says that a checksum is still to be made: the kernel that receives
the frame then takes its bytes for what was sent, as when a host's memory or network card changes them behind the checksum.
"""

from __future__ import annotations

import random
import select
import socket
import sys

_PACKET_VNET_HDR = 15  # <linux/if_packet.h>
_SOL_PACKET = 263
_PACKET_OUTGOING = 4
_ALL_PROTOCOLS = 0x0003
_FRAME_BYTES_MAX = 1 << 17
_HEADER_BYTES = 10 + 14 + 60 + 60  # virtio, Ethernet, IP and TCP with options, at most.
_PAYLOAD_BYTES_MIN = 4096          # Smaller ones are control; bulk is what the check of arriving chunks is for.


def _open(interface: str) -> socket.socket:
    link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL_PROTOCOLS))
    link.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 20)
    link.bind((interface, 0))
    return link


def main(left: str, right: str, flip_chance: float, seed: int) -> None:
    rng = random.Random(seed)
    ends = {link.fileno(): link for link in (_open(left), _open(right))}
    first, second = ends.values()
    other = {first.fileno(): second, second.fileno(): first}
    poll = select.poll()
    for number in ends:
        poll.register(number, select.POLLIN)
    frame = bytearray(_FRAME_BYTES_MAX)
    while True:
        for number, _ in poll.poll():
            size, sender = ends[number].recvfrom_into(frame)
            if sender[2] == _PACKET_OUTGOING:
                continue
            if size > _HEADER_BYTES + _PAYLOAD_BYTES_MIN and rng.random() < flip_chance:
                at = rng.randrange(_HEADER_BYTES, size)
                frame[at] ^= 1 << rng.randrange(8)
            try:
                other[number].send(memoryview(frame)[:size])
            except OSError:
                continue  # Its queue is full: a cable drops too.


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4]))
