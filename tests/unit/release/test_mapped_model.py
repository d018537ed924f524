"""What the Android wrapper asks of ONNX Runtime, asked of the real one through its C interface.

The Java interface calls the same functions. Positions in the table: edgedeploy/native/runner.h, and
8 for CreateSessionFromArray.
"""

from __future__ import annotations

import ctypes
import mmap
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from edgedeploy.release.java.wrapper import MAPPED_ENTRIES
from tests.unit.release.android_bundle import WEIGHTS, the_model

POINTER = ctypes.c_void_p
SIZE = ctypes.c_size_t
FLOAT, UINT8, INT64 = 1, 2, 7


class Base(ctypes.Structure):
    """OrtApiBase."""

    _fields_ = (
        ("get_api", ctypes.CFUNCTYPE(POINTER, ctypes.c_uint32)),
        ("get_version", POINTER),
    )


class Api:
    """The table of functions."""

    def __init__(self) -> None:
        folder = Path(onnxruntime.__file__).parent / "capi"
        library = ctypes.CDLL(str(next(folder.glob("libonnxruntime*1.*"))))
        library.OrtGetApiBase.restype = ctypes.POINTER(Base)
        table = library.OrtGetApiBase().contents.get_api(17)
        self._table = ctypes.cast(table, ctypes.POINTER(POINTER))

    def call(self, place: int, *args: Any) -> None:
        """Call a function, which must succeed."""
        kinds = [ctypes.c_char_p if isinstance(item, bytes) else type(item) for item in args]
        status = ctypes.CFUNCTYPE(POINTER, *kinds)(self._table[place])(*args)
        if status:
            raise OSError(ctypes.CFUNCTYPE(ctypes.c_char_p, POINTER)(self._table[2])(status))

    def made(self, place: int, *args: Any) -> POINTER:
        """Call a function that gives an object."""
        found = POINTER()
        self.call(place, *args, ctypes.pointer(found))
        return found

    def tensor(self, array: np.ndarray, kind: int) -> POINTER:
        """Return a tensor over an array."""
        shape = (ctypes.c_int64 * array.ndim)(*array.shape)
        memory = self.made(69, ctypes.c_int(0), ctypes.c_int(0))
        data, size = POINTER(array.ctypes.data), SIZE(array.nbytes)
        rank = SIZE(array.ndim)
        return self.made(49, memory, data, size, shape, rank, ctypes.c_int(kind))


@pytest.mark.parametrize("offset", [0, 4, 335])
def test_weights_stay_in_the_mapped_file_wherever_it_begins(tmp_path: Path, offset: int) -> None:
    model = the_model(tmp_path)
    file = tmp_path / "app.apk"
    file.write_bytes(bytes(offset) + model)
    image = (np.arange(8, dtype=np.float32) - 3.5).reshape(2, 4)
    given = [(image, FLOAT), (np.zeros(2, np.int64), INT64), (np.ones(4, np.uint8), UINT8)]

    api = Api()
    options = api.made(10)
    # Without copies in a layout of their own, which kernels of matrix products make by default.
    for key, value in {**MAPPED_ENTRIES, "session.disable_prepacking": "1"}.items():
        api.call(130, options, key.encode(), value.encode())
    with open(file, "rb") as opened:
        # Copied on write, so that the test can change a weight after the session was made.
        mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_COPY)
    start = ctypes.addressof(ctypes.c_char.from_buffer(mapped)) + offset
    environment = api.made(3, ctypes.c_int(3), b"test")
    session = api.made(8, environment, POINTER(start), SIZE(len(model)), options)

    def scores() -> np.ndarray:
        names = (ctypes.c_char_p * 3)(b"image:0", b"class", b"mask")
        values = (POINTER * 3)(*(api.tensor(array, kind) for array, kind in given))
        wanted, found = (ctypes.c_char_p * 1)("scores/é".encode()), (POINTER * 1)()
        api.call(9, session, POINTER(), names, values, SIZE(3), wanted, SIZE(1), found)
        data = api.made(51, POINTER(found[0])).value
        assert data is not None
        floats = ctypes.cast(data, ctypes.POINTER(ctypes.c_float))
        return np.ctypeslib.as_array(floats, (2, 16)).copy()

    assert scores() == pytest.approx(image @ WEIGHTS, abs=1e-5)
    place = mapped.find(WEIGHTS.tobytes())
    assert place > 0
    mapped[place : place + WEIGHTS.nbytes] = (2 * WEIGHTS).tobytes()
    assert scores() == pytest.approx(image @ (2 * WEIGHTS), abs=1e-5)
