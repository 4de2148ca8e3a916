"""Goal: tensors, layouts and manifests cross between Python and C++ unchanged, or are refused by name."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from cenote import arrays, native
from cenote.errors import Error


@pytest.fixture(scope="module")
def module():
    return native.load()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.int32,
                                   torch.int16, torch.int8, torch.uint8, torch.bool])  # fmt: skip
def test_torch_tensors_cross_byte_for_byte(module, dtype: torch.dtype) -> None:
    tensor = (torch.arange(24).reshape(2, 3, 4) % 2).to(dtype)
    expected = hashlib.sha256(tensor.view(torch.uint8).numpy().tobytes()).hexdigest()
    assert module.sha256(arrays.dense(tensor)) == expected
    strided = torch.stack([tensor, tensor], dim=-1)[..., 0]
    assert not strided.is_contiguous()
    assert module.sha256(arrays.dense(strided)) == expected


@pytest.mark.parametrize("dtype", list(arrays.NUMPY_DTYPES.values()))
def test_numpy_arrays_cross_byte_for_byte(module, dtype: type) -> None:
    array = (np.arange(24).reshape(4, 6) % 2).astype(dtype)
    array.flags.writeable = False
    assert module.sha256(arrays.dense(array)) == hashlib.sha256(array.tobytes()).hexdigest()
    assert module.sha256(arrays.dense(array.T)) == hashlib.sha256(np.ascontiguousarray(array.T).tobytes()).hexdigest()


def test_what_is_no_dense_tensor_is_refused(module) -> None:
    for value in (np.zeros(3, np.complex64), np.zeros((4, 4), np.float32).T[1:], np.array(["text"]), object()):
        with pytest.raises(Error) as refused:
            module.sha256(value)
        assert refused.value.code == "invalid_argument" and "'data'" in refused.value.message


def test_big_endian_arrays_are_turned(module) -> None:
    assert module.sha256(arrays.dense(np.arange(5, dtype=">i4"))) == hashlib.sha256(np.arange(5, dtype="<i4").tobytes()).hexdigest()


def _tensor(name: str, shape: list[int], **rest: object) -> dict:
    return {"name": name, "kind": "parameter", "dtype": "f32", "shape": shape, "layer": name, "gather_only": False,
            "mutated": False, "tied_to": ""} | rest  # fmt: skip


def test_a_layout_hashes_and_encodes_to_a_manifest_that_decodes_to_the_same(module) -> None:
    layout = module.lay_out([_tensor("a", [300]), _tensor("b", [7, 3]), _tensor("c", [300], tied_to="a")])
    assert layout["tensors"][2]["offset_bytes"] == layout["tensors"][0]["offset_bytes"]
    a, b = np.arange(300, dtype=np.float32), np.ones((7, 3), np.float32)
    source = module.Source(layout["range_bytes"], [(layout["tensors"][1]["offset_bytes"], b), (layout["tensors"][0]["offset_bytes"], a)])
    whole = bytearray(layout["range_bytes"])
    for entry, array in zip(layout["tensors"], (a, b), strict=False):
        whole[entry["offset_bytes"] : entry["offset_bytes"] + entry["size_bytes"]] = array.tobytes()
    assert source.read(0, len(whole)) == bytes(whole)
    blocks = module.hash_blocks(source, layout["blocks"])
    for (offset, size), block in zip(layout["blocks"], blocks, strict=True):
        assert block[0] == hashlib.sha256(whole[offset : offset + size]).hexdigest()
    signature = {
        "inputs": [{"name": "x", "dtype": "f32", "shape": [-1, 3]}], "outputs": [{"name": "y", "dtype": "f32", "shape": [-1]}],
        "inputs_tree": '{"args":{"tuple":[{"i":0}]},"kwargs":{"dict":[]}}', "outputs_tree": '{"i":0}',
    }  # fmt: skip
    label = b'["cat"]'
    file = {"name": "labels.json", "size_bytes": len(label), "blocks": module.hash_blocks(module.Source(len(label), [(0, label)]), [(0, len(label))])}
    graph = (
        '{"format":"cenote.graph","version":1,"inputs":["x"],"weights":[["p","b"]],'
        '"nodes":[{"o":"s","t":"aten::sum","a":[{"n":"x"}]}],"outputs":[{"n":"s"}]}'
    )
    manifest = {"blocks": blocks, "files": [file], "tensors": layout["tensors"], "signature": signature, "graph": graph}
    encoded = module.encode_manifest(manifest)
    decoded = module.decode_manifest(encoded)
    assert {key: decoded[key] for key in manifest} == manifest
    with pytest.raises(Error):
        module.decode_manifest(encoded[:-1])


def test_progress_can_stop_the_hashing_with_its_own_exception(module) -> None:
    data = np.zeros(64 << 20, np.uint8)
    source = module.Source(len(data), [(0, data)])

    def stop(_done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        module.hash_blocks(source, [(i << 22, 1 << 22) for i in range(16)], progress=stop)


def test_an_error_is_one_type_with_code_and_exit_code(module) -> None:
    with pytest.raises(Error) as refused:
        module.check_model_name("no spaces allowed")
    assert (refused.value.code, refused.value.exit_code) == ("invalid_argument", 2)
