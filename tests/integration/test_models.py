"""Goal: models deploy, answer as PyTorch does, and their names and tags move as promised; bad input is refused by name."""

from __future__ import annotations

import json
import os
import signal
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from integration.running import Running, until
from integration.small_models import Lookup, Nested, Stack

from cenote import sources, temperatures
from cenote.cluster import Cluster
from cenote.errors import Error
from cenote.graph_types import ExportRefused

MODELS = Path(__file__).with_name("small_models.py")


@pytest.fixture
def cluster(shared: Running):
    with shared.connect() as connected:
        yield connected
        for name in {m["name"] for m in connected.models()}:
            connected.remove(name)


def _close(got: object, expected: torch.Tensor) -> None:
    torch.testing.assert_close(torch.as_tensor(got), expected, rtol=1e-5, atol=1e-6)


# ---- answers -----------------------------------------------------------------------------------------------------------------


def test_a_module_answers_as_pytorch_does_for_any_batch(cluster: Cluster) -> None:
    module = Stack(layers=3, width=128).eval()
    cluster.deploy(module, (torch.randn(1, 128),), name="stack")
    for batch in (1, 2, 7):
        x = torch.randn(batch, 128)
        with torch.no_grad():
            expected = module(x)
        got = cluster.infer("stack", x)
        assert isinstance(got, torch.Tensor)
        _close(got, expected)
        as_numpy = cluster.infer("stack", x.numpy())
        assert isinstance(as_numpy, np.ndarray)
        _close(as_numpy, expected)


def test_nested_arguments_and_results_keep_their_structure(cluster: Cluster) -> None:
    module = Nested().eval()
    pair, features = (torch.randn(3, 8), torch.randn(3, 8)), {"weight": torch.randn(3, 8)}
    cluster.deploy(module, (pair, features), {"scale": 2.0}, name="nested")
    got = cluster.infer("nested", pair, features, scale=2.0)
    with torch.no_grad():
        expected = module(pair, features, scale=2.0)
    _close(got["sum"], expected["sum"])
    assert isinstance(got["parts"], tuple)
    _close(got["parts"][0], expected["parts"][0])
    _close(got["parts"][1], expected["parts"][1])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_number_formats(cluster: Cluster, dtype: torch.dtype) -> None:
    module = Stack(layers=2, width=32, dtype=dtype).eval()
    x = torch.randn(2, 32).to(dtype)
    cluster.deploy(module, (x[:1],), name="formats")
    with torch.no_grad():
        expected = module(x)
    got = cluster.infer("formats", x)
    assert got.dtype is dtype
    torch.testing.assert_close(got, expected, rtol=2e-2, atol=1e-2) if dtype is not torch.float64 else _close(got, expected)


def test_token_ids_and_a_payload_too_large_for_a_router(cluster: Cluster) -> None:
    module = Lookup().eval()
    ids = torch.randint(0, 5000, (64, 256))  # 128 KiB: goes straight to the executor.
    cluster.deploy(module, (ids[:1],), name="lookup")
    with torch.no_grad():
        _close(cluster.infer("lookup", ids[:1]), module(ids[:1]))
        _close(cluster.infer("lookup", ids), module(ids))


def test_evict_drops_a_model_from_devices_and_cache_and_a_request_brings_it_back(shared: Running, cluster: Cluster) -> None:
    module, x = Stack(layers=6, width=512).eval(), torch.randn(1, 512)
    cluster.deploy(module, (x,), name="leaves")
    temperatures.wait_ready(cluster, "leaves")
    shared.json("evict", "leaves")
    until(lambda: set(temperatures.readiness(cluster, "leaves").values()) == {"none"}, "no device has it")

    def cached() -> int:
        return next(m["cache"]["used_bytes"] for m in cluster.status()["members"] if m["role"] == "agent")

    until(lambda: cached() == 0, "the cache has none of it")
    with torch.no_grad():
        _close(cluster.infer("leaves", x), module(x))


def test_temperatures_follow_from_what_happened(cluster: Cluster) -> None:
    module = Stack(layers=6, width=512).eval()
    x = torch.randn(1, 512)
    with torch.no_grad():
        expected = module(x)
    cluster.deploy(module, (x,), name="warm")
    temperatures.make_cold(cluster, "warm")
    answer = cluster.ask("warm", (x,))
    _close(answer.outputs, expected)
    assert answer.waterfall.temperature == "cold" and answer.waterfall.network_bytes >= 6 * 512 * 512 * 4

    def resident() -> bool:
        again = cluster.ask("warm", (x,))
        _close(again.outputs, expected)
        return again.waterfall.temperature == "resident" and again.waterfall.network_bytes == 0

    until(resident, "a later request finds it resident")


# ---- names -------------------------------------------------------------------------------------------------------------------


def test_names_tags_and_what_moves_them(shared: Running, cluster: Cluster) -> None:
    x = torch.randn(1, 64)
    one, two = Stack(layers=2, width=64).eval(), Stack(layers=2, width=64, seed=1).eval()
    source = ["--python", f"{MODELS}:make_stack"]
    first = shared.json("deploy", "named", *source)
    assert first["name"] == "named" and first["tag"] == "latest"

    again = shared.tool("deploy", "named", *source)
    assert again.returncode == 6 and "--update" in again.stderr

    second = shared.json("deploy", "named", "--python", f"{MODELS}:make_other", "--update")
    assert second["digest"] != first["digest"] and second["shared_bytes"] < second["weight_bytes"]
    with torch.no_grad():
        _close(cluster.infer("named", x), two(x))
        _close(cluster.infer(f"named@{first['digest'][:12]}", x), one(x))

    moved = shared.json("publish", f"named@{first['digest'][:12]}", "--tag", "stable")
    assert moved["revision"] == first["digest"] and moved["previous"] is None
    with torch.no_grad():
        until(lambda: cluster.infer("named:stable", x) is not None, "the routers know the tag")
        _close(cluster.infer("named:stable", x), one(x))

    back = shared.json("rollback", "named")
    assert back["revision"] == first["digest"] and back["previous"] == second["digest"]

    listed = {m["record"]["digest"]: m for m in shared.json("models", "named")}
    assert sorted(listed[first["digest"]]["tags"]) == ["latest", "stable"] and listed[second["digest"]]["tags"] == []
    assert listed[first["digest"]]["replicas_min"] == 2

    assert shared.json("remove", f"named@{second['digest'][:12]}")["revisions"] == [second["digest"]]
    assert shared.json("remove", "named")["revisions"] == [first["digest"]]
    gone = shared.tool("models", "named")
    assert gone.returncode == 4


def test_equal_bytes_are_sent_once_and_freed_with_the_last_use(cluster: Cluster) -> None:
    example = (torch.randn(1, 512),)
    first = cluster.deploy(Stack(layers=4, width=512), example, name="twin-a")
    second = cluster.deploy(Stack(layers=4, width=512), example, name="twin-b")
    assert first.sent_bytes >= 2 * first.weight_bytes
    assert second.sent_bytes < first.weight_bytes / 10 and second.shared_bytes >= second.weight_bytes
    assert cluster.remove("twin-a")["freed_bytes"] < first.weight_bytes / 10
    assert cluster.remove("twin-b")["freed_bytes"] >= first.weight_bytes


def test_deploying_the_same_again_says_so(cluster: Cluster) -> None:
    example = (torch.zeros(1, 64),)
    first = cluster.deploy(Stack(layers=2, width=64), example, name="same")
    again = cluster.deploy(Stack(layers=2, width=64), example, name="same", update=True)
    assert again.already_existed and again.digest == first.digest and again.sent_bytes == 0


# ---- refusals ----------------------------------------------------------------------------------------------------------------


def test_inputs_that_do_not_fit_are_named(shared: Running, cluster: Cluster, tmp_path: Path) -> None:
    shared.json("deploy", "picky", "--python", f"{MODELS}:make_stack")
    good = np.zeros((1, 64), np.float32)
    cases = {
        "count": {"x": good, "y": good},
        "name": {"z": good},
        "dtype": {"x": good.astype(np.float64)},
        "shape": {"x": np.zeros((1, 63), np.float32)},
        "rank": {"x": np.zeros(64, np.float32)},
    }
    for what, arrays in cases.items():
        np.savez(tmp_path / "in.npz", **arrays)
        refused = shared.tool("infer", "picky", "--npz", str(tmp_path / "in.npz"))
        assert refused.returncode == 2, f"{what}: {refused}"
        assert "x" in refused.stderr, f"{what}: {refused.stderr}"
    with pytest.raises(Error) as raised:
        cluster.ask_flat("picky", [("x", good.astype(np.float64))])  # The executor's own word, not the tool's.
    assert raised.value.code == "invalid_argument" and "f64" in raised.value.message and "f32" in raised.value.message
    np.savez(tmp_path / "in.npz", x=good)
    assert shared.tool("infer", "picky", "--npz", str(tmp_path / "in.npz")).returncode == 0


def test_a_forked_child_is_told_so_at_once_and_ends(cluster: Cluster) -> None:
    cluster.status()
    cluster._client()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        try:
            with pytest.raises(Error) as refused:
                cluster.status()
            cluster.close()
            os.write(writer, refused.value.code.encode())
        finally:
            os._exit(0)
    _, how = os.waitpid(child, 0)
    os.close(writer)
    assert (how, os.read(reader, 100)) == (0, b"failed_precondition")
    os.close(reader)
    cluster.status()  # Over the same connection: the child has not shut it.


def test_unknown_models_and_short_deadlines(shared: Running, cluster: Cluster) -> None:
    for command in (["infer", "nobody", "--text", "x"], ["remove", "nobody"], ["evict", "nobody"], ["rollback", "nobody"]):
        assert shared.tool(*command).returncode == 4, command
    with pytest.raises(Error) as unknown:
        cluster.ask_flat("nobody", [("x", np.zeros(1, np.float32))], deadline_s=20)
    assert unknown.value.code == "not_found"
    cluster.deploy(Stack(layers=2, width=64), (torch.zeros(1, 64),), name="slow")
    with pytest.raises(Error) as late:
        cluster.infer("slow", torch.zeros(1, 64), deadline_s=1e-6)
    assert late.value.exit_code == 124


def test_a_model_larger_than_the_pool_is_refused_and_leaves_nothing(shared: Running, cluster: Cluster) -> None:
    refused = shared.tool("deploy", "giant", "--python", f"{MODELS}:make_larger_than_the_pool")
    assert refused.returncode == 6, refused
    assert "MiB" in refused.stderr and cluster.models() == []
    until(lambda: all(m["memory"]["used_bytes"] < 1 << 20 for m in cluster.status()["members"] if m["role"] == "memory"), "arenas are empty")


def test_a_model_larger_than_every_cache_is_refused_before_a_byte_is_sent(cluster: Cluster) -> None:
    stages: list[str] = []
    with pytest.raises(Error) as refused:  # 72 MiB; the cache has 64 MiB.
        cluster.deploy(Stack(layers=18, width=1024).eval(), (torch.zeros(1, 1024),), name="wide", progress=lambda *at: stages.append(at[0]))
    assert refused.value.exit_code == 6, refused.value
    for word in ("wide", "72.", "64.0 MiB", "agent-0", "agent.cache_capacity"):
        assert word in refused.value.message, refused.value
    assert "send" not in stages and cluster.models() == []
    assert all(m["memory"]["used_bytes"] < 1 << 20 for m in cluster.status()["members"] if m["role"] == "memory")


def test_hostile_safetensors_are_refused(shared: Running, cluster: Cluster, tmp_path: Path) -> None:
    folder = tmp_path / "hf"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"architectures": ["BertModel"], "model_type": "bert", "hidden_size": 32,
        "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 100}))  # fmt: skip
    overlap = json.dumps({name: {"dtype": "F32", "shape": [64], "data_offsets": [0, 256]} for name in ("a", "b")}).encode()
    beyond = json.dumps({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}).encode()
    for content in (
        b"\xff" * 8,
        struct.pack("<Q", 1 << 60) + b"{}",
        struct.pack("<Q", 10) + b"{",
        struct.pack("<Q", len(overlap)) + overlap + bytes(256),
        struct.pack("<Q", len(beyond)) + beyond,
    ):
        (folder / "model.safetensors").write_bytes(content)
        with pytest.raises(ExportRefused, match=r"model\.safetensors"):
            sources.load_hf(str(folder))
    refused = shared.tool("deploy", "hostile", "--hf", str(folder))
    assert refused.returncode == 2 and "model.safetensors" in refused.stderr and "Traceback" not in refused.stderr, refused
    assert cluster.models() == []


def test_a_module_with_an_operator_that_cannot_be_served_is_refused_by_name(cluster: Cluster) -> None:
    class Noisy(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = torch.nn.Parameter(torch.ones(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.bernoulli(x * self.w)

    with pytest.raises(Error) as refused:
        cluster.deploy(Noisy(), (torch.rand(3, 3),), name="noisy")
    assert refused.value.exit_code == 2 and "bernoulli" in refused.value.message
    assert cluster.models() == []
