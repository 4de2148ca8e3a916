"""Goal: a whole cluster serves over verbs. Method: exported here, where torch is quick; deployed and asked for in the guest, answers compared
with PyTorch's from here. One memory server is killed on the way.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from integration.small_models import Stack
from verbs.conftest import BUILD, ROOT
from verbs.guest import Guest

from cenote.export import export_model

WEIGHT_BYTES_MIN = 2 << 20
LIFE_S = 540  # 80 s on a machine that does nothing else.


def _write_model(folder: Path) -> None:
    folder.mkdir()
    module, given = Stack(layers=3, width=512).eval(), torch.randn(2, 512)
    with torch.no_grad():
        np.save(folder / "expected.npy", module(given).numpy())
    np.save(folder / "input.npy", given.numpy())
    model = export_model(module, (given,))
    entries = []
    for index, tensor in enumerate(model.tensors):
        tensor.read().tofile(folder / f"tensor{index}")
        entries.append({field.name: getattr(tensor, field.name) for field in dataclasses.fields(tensor) if field.name not in ("read", "source")})
    described = {
        "graph": model.graph,
        "tensors": entries,
        "inputs": [value.as_json() for value in model.inputs],
        "outputs": [value.as_json() for value in model.outputs],
        "inputs_tree": model.inputs_tree,
        "outputs_tree": model.outputs_tree,
        "dynamic_batch": model.dynamic_batch,
    }
    (folder / "model.json").write_text(json.dumps(described))


def _check_findings(found: list[list[str]]) -> None:
    """What `cenote doctor` said in the guest: the only real RDMA device it gets to see in tests."""
    fine = {check: text for check, level, text in found if level == "ok"}
    assert not [finding for finding in found if finding[1] == "error"], found
    assert fine["rdma devices"].startswith("rxe0") and fine["rdma ports"].startswith("rxe0/1: ACTIVE, Ethernet"), found
    assert "10.77.0.1" in fine["gids"] and "4096 bytes a packet" in fine["mtu"], found
    assert fine["fabric"].startswith("verbs;ofi_rxm") and "held by cluster 'verbs'" in fine["ports"] and "5 daemons within" in fine["clock skew"], found
    measured = [text for check, level, text in found if check == "bandwidth" and level == "ok"]
    assert len(measured) == 2 and all("verbs;ofi_rxm" in text and "GB/s" in text and "loopback" in text for text in measured), found


@pytest.mark.timeout(LIFE_S + 60)
def test_a_cluster_over_verbs_answers_as_pytorch_does_and_survives_a_memory_server(made: Path, tmp_path: Path) -> None:
    environment = {"PYTHONPATH": str(ROOT / "python"), "CENOTE_BUILD": str(BUILD), "CENOTE_TEST_VERBS_ADDRESS": "10.77.0.1", "XDG_STATE_HOME": "/tmp/state"}
    environment |= {name: value for name, value in os.environ.items() if name == "LD_LIBRARY_PATH"}
    guest = Guest(tmp_path / "guest", memory_mib=3072, seconds=LIFE_S, environment=environment)
    guest.folder.mkdir()
    _write_model(guest.folder / "model")
    try:
        guest.start(made, [sys.executable, str(Path(__file__).parent / "cluster_in_guest.py"), "/out/model"], ROOT)
        code = guest.wait()
    finally:
        guest.kill()
    assert code == 0, guest.explain()
    said = json.loads(guest.output().splitlines()[-1])
    print(said)
    assert len(said["errors"]) == 3 and max(said["errors"]) < 1e-4, said
    assert said["providers"] == ["verbs;ofi_rxm"], said
    _check_findings(said["findings"])
    assert said["weight_bytes"] >= WEIGHT_BYTES_MIN and said["fetched_bytes"] >= 3 * said["weight_bytes"], said
