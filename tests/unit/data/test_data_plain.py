"""What a pipeline is given: samples as they are, by the kind of their source."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgedeploy.data.pack import PackReader, Sample
from edgedeploy.data.plain import write_plain_pack
from edgedeploy.errors import DataError
from edgedeploy.profile.types import DataRole


def samples(folder: Path, source: str, name: str = "evaluate", **words: str) -> list[Sample]:
    """Return the samples of a source."""
    out = folder / "out"
    out.mkdir()
    write_plain_pack(DataRole(name=name, source=source, **words), folder, out)  # type: ignore[arg-type]
    return list(PackReader(out))


def test_a_picture_has_its_own_size_and_its_label(tmp_path: Path) -> None:
    """RGB bytes, whatever the file; nothing is scaled."""
    pixels = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    (tmp_path / "photos").mkdir()
    Image.fromarray(pixels).save(tmp_path / "photos/a.png")
    Image.fromarray(pixels[..., 0]).save(tmp_path / "photos/b.png")
    (tmp_path / "labels.csv").write_text("file,label\na.png,3\nb.png,4\n")
    one, two = samples(tmp_path, "photos", labels="labels.csv")
    np.testing.assert_array_equal(one.tensors()["image"], pixels)
    np.testing.assert_array_equal(two.tensors()["image"], pixels[..., :1].repeat(3, axis=2))
    assert [one.id, two.id] == ["a.png", "b.png"] and [one.truth, two.truth] == [3, 4]


def test_a_sound_says_its_rate(tmp_path: Path) -> None:
    (tmp_path / "sounds").mkdir()
    with wave.open(str(tmp_path / "sounds/a.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(np.array([0, 16384, -32768], "<i2").tobytes())
    (found,) = samples(tmp_path, "sounds")
    np.testing.assert_array_equal(found.tensors()["sound"], np.float32([0, 0.5, -1]))
    assert found.tensors()["rate"].item() == 8000


def test_arrays_keep_names_and_types(tmp_path: Path) -> None:
    for name in ("many", "single"):
        (tmp_path / name).mkdir()
    np.savez(tmp_path / "many/a.npz", x=np.float64([1, 2]), words=np.array(["a", "bc"]))
    np.save(tmp_path / "single/a.npy", np.int16([[3]]))
    (found,) = samples(tmp_path, "many")
    assert found.tensors()["x"].dtype == np.float64
    assert list(found.tensors()["words"]) == ["a", "bc"]
    (tmp_path / "out").rename(tmp_path / "before")
    (one,) = samples(tmp_path, "single")
    assert one.tensors()["input"].dtype == np.int16 and one.tensors()["input"].shape == (1, 1)


def test_a_function_yields_what_it_likes_but_arrays_they_must_be(tmp_path: Path) -> None:
    (tmp_path / "data.py").write_text(
        "def good():\n    yield {'page': [[1, 2]], 'name': 'x'}, 'truth', 'first', 'book'\n"
        "def bad():\n    yield {'page': [[1], [2, 3]]}\n"
        "def none():\n    yield {'page': None}\n"
    )
    (found,) = samples(tmp_path, "data.py:good")
    assert (found.id, found.truth, found.sequence) == ("first", "truth", "book")
    assert found.tensors()["name"].item() == "x"
    for number, name in enumerate(("bad", "none")):
        (tmp_path / "out").rename(tmp_path / f"before{number}")
        with pytest.raises(DataError) as error:
            samples(tmp_path, f"data.py:{name}")
        assert error.value.diagnostics[0].code == "E256"


def test_one_sample_calibrates_nothing(tmp_path: Path) -> None:
    (tmp_path / "data.py").write_text("def one():\n    yield {'x': [1]}\n")
    with pytest.raises(DataError) as error:
        samples(tmp_path, "data.py:one", name="calibrate")
    assert error.value.diagnostics[0].code == "E252"
