"""One file as samples: what the readers make of it, and what is refused."""

import wave

import numpy as np
import pytest
from PIL import Image

from edgedeploy.data.onefile import read_file, read_plain_file
from edgedeploy.errors import DataError
from edgedeploy.profile.types import AudioPreprocess, ImagePreprocess, InputSpec
from edgedeploy.signature import TensorSpec

X = TensorSpec(name="x", dtype="float32", dims=(1, 3, 4, 6))
TEXT = TensorSpec(name="words", dtype="string", dims=(1, None))


def test_a_picture_goes_through_the_declared_preprocessing(tmp_path):
    Image.new("RGB", (60, 40), (255, 0, 51)).save(tmp_path / "a.png")
    image = ImagePreprocess(height=4, width=6, scale=1 / 255)
    specs = {"x": InputSpec(name="x", image=image)}
    (sample,) = read_file(tmp_path / "a.png", "picture", (X,), specs)
    assert sample.geometry["width"] == 60 and sample.sequence is None
    expected = np.broadcast_to(np.array([1, 0, 0.2], np.float32)[None, :, None, None], X.dims)
    np.testing.assert_allclose(sample.tensors["x"], expected, atol=1e-6)


def test_a_sound_is_a_sequence_of_its_frames(tmp_path):
    with wave.open(str(tmp_path / "a.wav"), "wb") as stream:
        stream.setnchannels(1)
        stream.setsampwidth(2)
        stream.setframerate(8000)
        stream.writeframes(np.arange(100, dtype="<i2").tobytes())
    specs = {"x": InputSpec(name="x", audio=AudioPreprocess(rate_hz=8000, frame_samples=40))}
    found = list(read_file(tmp_path / "a.wav", "sound", (X,), specs))
    assert [sample.sequence for sample in found] == ["a.wav"] * 3
    np.testing.assert_array_equal(found[1].tensors["x"] * 32768, np.arange(40, 80)[None])
    plain = read_plain_file(tmp_path / "a.wav", "sound")
    assert plain.tensors["rate"] == 8000 and plain.tensors["sound"].shape == (100,)


def test_arrays_are_one_sample_however_many_rows_they_have(tmp_path):
    rows = np.arange(6, dtype=np.float32).reshape(3, 2)
    np.save(tmp_path / "a.npy", rows)
    np.savez(tmp_path / "a.npz", x=rows, y=rows[0])
    (single,) = read_file(tmp_path / "a.npy", "arrays", (X,), {})
    np.testing.assert_array_equal(single.tensors["x"], rows)
    (named,) = read_file(tmp_path / "a.npz", "arrays", (X, TEXT), {})
    assert set(named.tensors) == {"x", "y"}
    assert set(read_plain_file(tmp_path / "a.npy", "arrays").tensors) == {"input"}


def test_a_text_is_the_one_string(tmp_path):
    (tmp_path / "a.txt").write_text("grüße\n", encoding="utf-8")
    (sample,) = read_file(tmp_path / "a.txt", "text", (TEXT,), {})
    assert sample.tensors["words"].shape == (1, 1)
    assert sample.tensors["words"][0, 0] == "grüße\n"
    assert read_plain_file(tmp_path / "a.txt", "text").tensors["text"].item() == "grüße\n"


@pytest.mark.parametrize(
    ("content", "inputs", "code"),
    [(b"\xff\xfe", (TEXT,), "E259"), (b"a", (X,), "E851"), (b"a", (TEXT, X), "E851")],
)
def test_a_text_that_does_not_suit_is_refused(tmp_path, content, inputs, code):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(DataError) as error:
        list(read_file(tmp_path / "a.txt", "text", inputs, {}))
    assert [item.code for item in error.value.diagnostics] == [code]


def test_pickles_are_not_opened(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(DataError) as error:
        list(read_file(tmp_path / "a.npy", "arrays", (X,), {}))
    assert [item.code for item in error.value.diagnostics] == ["E259"]
