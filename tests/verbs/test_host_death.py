"""Goal: when a host dies with reads in flight nobody hangs. Method: two guests on one network; the power of one is cut.

No one says that a dead host is dead: nothing comes from it any more. So the reads must end by their own deadlines, and the next ones come
from a replica while the dead host is asked again.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from verbs.conftest import ROOT, program
from verbs.guest import ADDRESS, Guest

PROVIDER = "verbs;ofi_rxm"
TARGET_BYTES = 1 << 20
READ_DEADLINE_MS = 3_000  # kDeadline of reader_main.cc.
# The guests are slow, and share two cores with whatever else runs here.
MARGIN_MS = 5_000


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[tuple[Guest, Guest]]:
    # A socket's path has at most 107 bytes; pytest's folders may be longer.
    with tempfile.TemporaryDirectory(prefix="verbs-") as short:
        socket = Path(short) / "net"
        hosts = [
            Guest(tmp_path / str(number), number, memory_mib=768, link=(role, socket), environment={"CENOTE_TEST_VERBS_ADDRESS": ADDRESS.format(number)})
            for number, role in ((1, "server"), (2, "client"))
        ]
        try:
            yield hosts[0], hosts[1]
        finally:
            for host in hosts:
                host.kill()


def _wait_for_network(server: Guest) -> None:
    """The first guest makes the socket that the second one connects to."""
    assert server.link is not None
    deadline = time.monotonic() + 30
    while not server.link[1].exists():
        assert server.running() and time.monotonic() < deadline, f"no {server.link[1]}:\n{server.explain()}"
        time.sleep(0.05)


def test_a_host_that_dies_with_reads_in_flight_costs_their_deadline_and_the_replica_serves_on(made: Path, hosts: tuple[Guest, Guest]) -> None:
    doomed, reader = hosts
    target = f"'{program('fabric_target')}' '{PROVIDER}' 0 {TARGET_BYTES}"
    doomed.start(made, ["bash", "-c", f"sleep infinity | {target}"], ROOT)
    _wait_for_network(doomed)
    files = "/out/target-a /out/target-b"
    reads = f"'{program('fabric_reader')}' '{PROVIDER}' {reader.address} {files} {TARGET_BYTES}"
    # A reader that met the dead host long ago has no neighbour entry for it any more; this one forgets as quickly as it can.
    forget = "until [ -e /out/forget ]; do sleep 0.2; done; while sleep 0.5; do ip neigh flush dev eth0; done"
    # It reads its replica from a target on its own host, as an agent beside a memory server does.
    reader.start(made, ["bash", "-c", f"({forget}) & (sleep infinity | {target} >/out/target-b) & {reads}"], ROOT)
    doomed.wait_for("\n", 120)
    (reader.folder / "target-a").write_text(doomed.output())
    reader.wait_for("reading", 120)
    doomed.kill()
    (reader.folder / "forget").touch()
    assert reader.wait() == 0, reader.explain()
    said = json.loads(reader.output().splitlines()[-1])
    print(said)
    assert said["fine"] and said["wrong_bytes"] == 0 and said["failed"] > 0
    assert said["longest_read_ms"] < READ_DEADLINE_MS + MARGIN_MS
    assert said["close_ms"] < MARGIN_MS
    # Asking the dead host again, three times, held up nobody; one pause may be this machine's.
    assert said["stalls"] <= 1
