# SPDX-License-Identifier: MIT
"""Capsules of DLPack against NumPy and PyTorch, who read and make them for memory of the host: one struct for all."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest

from frontend.arrays import dlpack
from polyhedral.ir.dtypes import BY_NAME


@pytest.mark.parametrize("version", [None, (1, 0)])
@pytest.mark.parametrize("dtype", [np.float32, np.int8, np.uint16, np.complex64, np.bool_])
def test_what_numpy_makes_is_read(version: Any, dtype: Any):
    a = np.zeros((6, 5), dtype)[::2, 1:]
    found = dlpack.read(a.__dlpack__(max_version=version))
    assert (found.address, found.device) == (a.ctypes.data, (1, 0))
    assert (found.shape, found.strides, found.dtype) == (a.shape, a.strides, a.dtype)
    assert not found.read_only
    if version is not None:
        a.flags.writeable = False
        assert dlpack.read(a.__dlpack__(max_version=version)).read_only


def test_what_torch_makes_is_read():
    torch = pytest.importorskip("torch")
    a = torch.zeros(3, 4, dtype=torch.bfloat16).T
    found = dlpack.read(a.__dlpack__())
    assert (found.shape, found.strides, found.dtype) == ((4, 3), (2, 8), BY_NAME["bf16"].numpy)


class OnHost:
    """A capsule that says that its memory is the host's, for those who read no other."""

    def __init__(self, a: np.ndarray) -> None:
        self.a = a

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0

    def __dlpack__(self, **options: Any) -> Any:
        made = dlpack.made(self.a.ctypes.data, 0, self.a.shape, self.a.strides, self.a.dtype, self.a)
        dlpack._Managed.from_address(dlpack._pointer(made, b"dltensor")).tensor.device_type = 1
        return made


def test_what_is_made_others_read():
    live = len(dlpack._LIVE)
    a = np.arange(12, dtype=np.float32).reshape(3, 4).T
    b: Any = np.from_dlpack(OnHost(a))
    np.testing.assert_array_equal(a, b)
    assert len(dlpack._LIVE) == live + 1
    del b
    OnHost(a).__dlpack__()  # nobody takes it
    gc.collect()
    assert len(dlpack._LIVE) == live
    torch = pytest.importorskip("torch")
    c = torch.from_dlpack(OnHost(a))
    assert c.stride() == (1, 4)
    assert c.tolist() == a.tolist()
    del c
    gc.collect()
    assert len(dlpack._LIVE) == live


def test_types_without_a_code():
    with pytest.raises(BufferError, match="no code"):
        dlpack.made(0, 0, (), (), np.dtype("M8[s]"), None)
    with pytest.raises(ValueError, match="consumed"):
        dlpack.read(object())
