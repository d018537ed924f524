"""Counting NaN and infinity agrees with NumPy and ml_dtypes."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedeploy.errors import ModelError
from edgedeploy.model.nonfinite import NonFinite, count_nonfinite, count_nonfinite_varints

DTYPES = {
    "float16": np.float16,
    "float32": np.float32,
    "float64": np.float64,
    "bfloat16": ml_dtypes.bfloat16,
    "float8e4m3fn": ml_dtypes.float8_e4m3fn,
    "float8e4m3fnuz": ml_dtypes.float8_e4m3fnuz,
    "float8e5m2": ml_dtypes.float8_e5m2,
    "float8e5m2fnuz": ml_dtypes.float8_e5m2fnuz,
    "float8e8m0": ml_dtypes.float8_e8m0fnu,
}


def expected(array: np.ndarray) -> NonFinite:
    wide = array.astype(np.float64)
    return NonFinite(int(np.isnan(wide).sum()), int(np.isinf(wide).sum()))


@pytest.mark.parametrize("element", ["float16", "bfloat16"])
def test_every_16_bit_pattern(element: str) -> None:
    patterns = np.arange(1 << 16, dtype=np.uint16)
    with np.errstate(all="ignore"):
        wanted = expected(patterns.view(DTYPES[element]))
    assert count_nonfinite(element, [patterns.tobytes()]) == wanted
    packed = onnx.TensorProto(data_type=10, int32_data=patterns.tolist())
    field = packed.SerializeToString()[-packed.ByteSize() :]
    start = field.index(b"\x00\x01\x02")
    pieces = [field[start : start + 1001], field[start + 1001 :]]
    assert count_nonfinite_varints(element, pieces) == wanted


@pytest.mark.parametrize("element", [name for name in DTYPES if name.startswith("float8")])
def test_every_8_bit_pattern(element: str) -> None:
    patterns = np.arange(256, dtype=np.uint8)
    wanted = expected(patterns.view(DTYPES[element]))
    assert count_nonfinite(element, [patterns.tobytes()]) == wanted
    packed = bytes(range(128)) + b"".join(bytes((byte, 1)) for byte in range(128, 256))
    assert count_nonfinite_varints(element, [packed[:200], packed[200:]]) == wanted


@settings(max_examples=50)
@given(
    st.lists(st.integers(0, 2**32 - 1), max_size=40),
    st.lists(st.sampled_from([0x7F800000, 0xFF800000, 0x7FC00000, 0x7F7FFFFF, 0xFFFFFFFF])),
)
def test_float32_patterns(values: list[int], special: list[int]) -> None:
    array = np.array(values + special, np.uint32).view(np.float32)
    with np.errstate(all="ignore"):
        wanted = expected(array)
    assert count_nonfinite("float32", [array[:7].tobytes(), array[7:].tobytes()]) == wanted


def test_float64_and_complex() -> None:
    array = np.array([1.0, np.nan, np.inf, -np.inf, 1.7e308, -np.nan])
    assert count_nonfinite("float64", [array.tobytes()]) == NonFinite(2, 2)
    assert count_nonfinite("complex128", [array.tobytes()]) == NonFinite(2, 2)
    pairs = np.array([complex(np.nan, np.inf), complex(1, -np.inf)], np.complex64)
    assert count_nonfinite("complex64", [pairs.tobytes()]) == NonFinite(1, 2)


@pytest.mark.parametrize("packed", [b"\x80\x80\x80\x01", b"\x80\x80\x04", b"\xff\x00"])
def test_entry_beyond_16_bits_is_refused(packed: bytes) -> None:
    with pytest.raises(ModelError):
        count_nonfinite_varints("float16", [packed])
