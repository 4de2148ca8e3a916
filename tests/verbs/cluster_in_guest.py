"""A cluster over verbs, in the guest: started, a model deployed and asked for, a memory server killed, asked again. See test_cluster.py.

cluster_in_guest.py FOLDER reads model.json and what it names from FOLDER and prints one line of JSON. Without torch: importing it in an
emulated machine takes minutes, and the daemons have their own.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cenote import doctor, doctor_cluster, lifecycle, state, temperatures
from cenote.cluster import Cluster
from cenote.errors import Error
from cenote.graph_types import ExportedModel, ExportedTensor, ValueSpec

PATIENCE_S = 240.0
# Times of a machine that is a hundred times slower than others.
SETTINGS = """
[cluster]
name = "verbs"
[controller]
heartbeat_interval = "500ms"
member_timeout = "10s"
[fabric]
provider = "verbs;ofi_rxm"
[[router]]
[[memory]]
name = "memory-0"
host = "{address}"
port = 7710
fabric_port = 7711
capacity = "64 MiB"
slab_size_max = "8 MiB"
slabs_max = 4
[[memory]]
name = "memory-1"
host = "{address}"
port = 7712
fabric_port = 7713
capacity = "64 MiB"
slab_size_max = "8 MiB"
slabs_max = 4
[[agent]]
host = "{address}"
cache_capacity = "32 MiB"
read_timeout = "10s"
[[agent.device]]
name = "host:0"
threads = 1
[limits]
deploy_lease = "60s"
"""


def _read_model(folder: Path) -> tuple[ExportedModel, np.ndarray, np.ndarray]:
    described = json.loads((folder / "model.json").read_text())

    def tensor(index: int, entry: dict[str, Any]) -> ExportedTensor:
        path = folder / f"tensor{index}"
        return ExportedTensor(**(entry | {"shape": tuple(entry["shape"])}), read=lambda: np.fromfile(path, np.uint8))

    def value(entry: dict[str, Any]) -> ValueSpec:
        return ValueSpec(entry["name"], entry["dtype"], tuple(entry["shape"]))

    model = ExportedModel(
        name="m",
        graph=described["graph"],
        tensors=[tensor(index, entry) for index, entry in enumerate(described["tensors"])],
        inputs=[value(entry) for entry in described["inputs"]],
        outputs=[value(entry) for entry in described["outputs"]],
        inputs_tree=described["inputs_tree"],
        outputs_tree=described["outputs_tree"],
        dynamic_batch=described["dynamic_batch"],
    )
    return model, np.load(folder / "input.npy"), np.load(folder / "expected.npy")


def _member(cluster: Cluster, name: str) -> dict[str, Any] | None:
    return next((member for member in cluster.status(timeout_s=20.0)["members"] if member["name"] == name), None)


def _fetched_bytes(cluster: Cluster) -> int:
    agent = _member(cluster, "agent-0")
    return 0 if agent is None else agent["fetched_bytes"]


def _until(true: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            if answer := true():
                return answer
        except Error as error:
            if error.code not in ("unavailable", "deadline_exceeded"):
                raise
        time.sleep(0.2)
    raise SystemExit(f"not within {PATIENCE_S:.0f} s: {what}")


def _say(what: str, begun: float) -> None:
    print(f"{time.monotonic() - begun:.1f} s: {what}", file=sys.stderr, flush=True)


def main(folder: Path) -> None:
    begun = time.monotonic()
    settings = Path("/tmp/verbs.toml")
    settings.write_text(SETTINGS.format(address=os.environ["CENOTE_TEST_VERBS_ADDRESS"]))
    model, given, expected = _read_model(folder)
    up = lifecycle.up(settings, [], timeout_s=PATIENCE_S)
    _say("up", begun)
    errors = []
    with Cluster.connect("verbs") as cluster:
        deployed = cluster.deploy_exported(model, name="m")
        _say("deployed", begun)

        def ask() -> None:
            answer = cluster.infer("m", given, deadline_s=PATIENCE_S)
            errors.append(float(np.max(np.abs(answer - expected))))

        ask()
        _say("asked", begun)
        findings = doctor.examine(settings) + list(doctor_cluster.examine_bandwidth(state.find("verbs")))
        _say("examined", begun)
        victim = _member(cluster, "memory-0")
        assert victim is not None
        # The replica answers while the server is dead, or just back with nothing in it.
        temperatures.make_cold(cluster, "m", timeout_s=PATIENCE_S)
        os.kill(victim["pid"], signal.SIGKILL)
        ask()
        _say("asked with a dead server", begun)
        _until(lambda: (m := _member(cluster, "memory-0")) is not None and m["pid"] != victim["pid"], "memory-0 is back")
        temperatures.make_cold(cluster, "m", timeout_s=PATIENCE_S)
        ask()
        _say("asked when it was back", begun)
        # An agent reports what it fetched once in a while: the third fetch may not be in what it last said.
        _until(lambda: _fetched_bytes(cluster) >= 3 * deployed.weight_bytes, "agent-0 reports three fetches of the weights")
        providers = sorted({member["memory"]["fabric_provider"] for member in cluster.status(timeout_s=20.0)["members"] if member["role"] == "memory"})
        said = {"errors": errors, "providers": providers, "weight_bytes": deployed.weight_bytes, "fetched_bytes": _fetched_bytes(cluster),
                "findings": [[finding.check, finding.level, finding.text] for finding in findings], "up_s": round(up.seconds, 1)}  # fmt: skip
    lifecycle.down("verbs")
    print(json.dumps(said))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
