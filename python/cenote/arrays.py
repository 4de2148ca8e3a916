"""numpy and torch in, the same kind out. Free of torch: what is a torch tensor is known by its type's module."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import numpy as np

# Names of message/tensor.h; bf16 has no numpy type.
NUMPY_DTYPES = {
    "f32": np.float32, "f16": np.float16, "f64": np.float64, "i64": np.int64, "i32": np.int32, "i16": np.int16,
    "i8": np.int8, "u8": np.uint8, "bool": np.bool_,
}  # fmt: skip

ITEM_BYTES = {"bf16": 2, **{name: np.dtype(kind).itemsize for name, kind in NUMPY_DTYPES.items()}}


def is_torch(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] == "torch" and hasattr(value, "__dlpack__")


def dense(value: Any) -> Any:
    """`value` as dense row-major host memory that the native module can read; a view where it is that already."""
    if is_torch(value):
        value = value.detach()
        if value.is_conj() or value.is_neg():
            value = value.clone()
        return value.cpu().contiguous()
    array = np.asarray(value)
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("="))
    return array if array.flags.c_contiguous else np.ascontiguousarray(array).reshape(array.shape)


def relative_difference(got: Any, expected: Any) -> float:
    """The largest absolute difference of two torch tensors, as a share of the largest absolute value expected; not a number where one
    holds such."""
    if not expected.numel():
        return 0.0
    return float((got.double() - expected.double()).abs().max() / expected.double().abs().max().clamp_min(1e-30))


def any_torch(values: Iterable[Any]) -> bool:
    return any(is_torch(value) for value in values)


def from_native(tensor: Any, *, as_torch: bool) -> Any:
    """A native Tensor as torch tensor (the same memory) or numpy array (the same memory; bf16 widened to float32)."""
    if as_torch:
        import torch

        return torch.from_dlpack(tensor)
    raw = np.frombuffer(tensor, dtype=np.uint8)
    if tensor.dtype == "bf16":
        widened = raw.view(np.uint16).astype(np.uint32) << 16
        return widened.view(np.float32).reshape(tensor.shape)
    return raw.view(NUMPY_DTYPES[tensor.dtype]).reshape(tensor.shape)


def torch_loaded() -> bool:
    return "torch" in sys.modules
