"""Every reader through write_pack, on real files, and every way in which data can be wrong."""

import io
import json
import os
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgedeploy.data.pack import PackReader, PackWriter, overlap
from edgedeploy.data.readers import audio, images
from edgedeploy.data.sources import describe, evenly, file_sha256, select
from edgedeploy.data.write import write_pack
from edgedeploy.errors import DataError
from edgedeploy.profile.types import AudioPreprocess, DataRole, ImagePreprocess, InputSpec
from edgedeploy.signature import TensorSpec

X = TensorSpec(name="x", dtype="float32", dims=("N", 3))


def role(source="data", **more):
    return DataRole(name=more.pop("name", "evaluate"), source=source, **more)


def tensor(dtype="float32", dims=("N", 3), name="x"):
    return TensorSpec(name=name, dtype=dtype, dims=dims)


class Project:
    """A profile folder with a data folder in it."""

    def __init__(self, folder):
        self.folder = folder
        self.data = folder / "data"
        self.data.mkdir()
        self.count = 0

    def write(self, the_role, inputs=(X,), specs=None, carried=()):
        self.count += 1
        out = self.folder / f"pack{self.count}"
        out.mkdir()
        report = write_pack(the_role, inputs, specs or {}, self.folder, out, carried=carried)
        return report, PackReader(out)

    def refused(self, code, the_role, inputs=(X,), specs=None, carried=()):
        with pytest.raises(DataError) as caught:
            self.write(the_role, inputs, specs, carried)
        (found,) = caught.value.diagnostics
        assert found.code == code, found
        assert found.hint
        return found


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


def save_npy(project, count=4, **more):
    for i in range(count):
        np.save(project.data / f"s{i:02}.npy", np.full((1, 3), i, more.get("dtype", np.float32)))


# --- NumPy files -------------------------------------------------------------------------------


def test_npy_folder_is_sorted_and_hidden_and_foreign_files_are_counted(project):
    save_npy(project)
    (project.data / ".DS_Store").write_bytes(b"x")
    (project.data / "readme.txt").write_text("x")
    report, pack = project.write(role())
    assert [sample.id for sample in pack] == ["s00.npy", "s01.npy", "s02.npy", "s03.npy"]
    assert [sample.tensors()["x"][0, 0] for sample in pack] == [0, 1, 2, 3]
    assert report.ignored == {"hidden": 1, "other suffix": 1}
    assert [file.path for file in report.files] == [sample.id for sample in pack]


def test_sample_limit_spreads_evenly(project):
    save_npy(project, 10)
    report, pack = project.write(role(samples=2))
    assert [sample.id for sample in pack] == ["s02.npy", "s07.npy"]
    assert (report.samples, report.found) == (2, 10)
    assert evenly(5, 5) == [0, 1, 2, 3, 4]
    assert len(set(evenly(1000, 999))) == 999


def test_npz_gives_several_inputs_and_constants_are_filled_in(project):
    np.savez(project.data / "a.npz", x=np.zeros((1, 3)), mask=np.ones((1, 2), np.int32))
    inputs = (X, tensor("int64", (1, 2), "mask"), tensor("int64", (), "rate"))
    report, pack = project.write(role(), inputs, {"rate": InputSpec(name="rate", value=16000)})
    found = pack[0].tensors()
    assert {name: value.dtype.name for name, value in found.items()} == {
        "x": "float32",
        "mask": "int64",
        "rate": "int64",
    }
    assert found["rate"].shape == ()
    assert found["rate"] == 16000
    assert report.notes == {"'mask': int32 cast to int64": 1, "'x': float64 cast to float32": 1}


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_one_file_of_rows_gains_the_batch_axis_and_takes_labels_by_row(project, suffix):
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    file = project.folder / f"rows.{suffix}"
    np.save(file, rows) if suffix == "npy" else np.savez_compressed(file, x=np.asfortranarray(rows))
    (project.folder / "labels.csv").write_text(
        "file,label\n" + "".join(f"{i},{i % 2}\n" for i in range(4))
    )
    report, pack = project.write(role(file.name, labels="labels.csv", samples=2))
    assert [(sample.id, sample.truth) for sample in pack] == [("1", 1), ("3", 1)]
    assert (pack[1].tensors()["x"] == rows[3:]).all()
    assert report.notes == {"'x': batch axis added": 2}


def test_string_inputs_travel(project):
    np.save(project.data / "a.npy", np.array([["hello", "wörld"]]))
    _, pack = project.write(role(), (tensor("string", (1, 2)),))
    assert pack[0].tensors()["x"].tolist() == [["hello", "wörld"]]


@pytest.mark.parametrize(
    ("array", "spec", "code"),
    [
        (np.zeros((1, 4), np.float32), X, "E257"),
        (np.zeros((1, 1, 1, 3), np.float32), X, "E257"),
        (np.zeros((0, 3), np.float32), X, "E257"),
        (np.full((1, 3), np.nan, np.float32), X, "E258"),
        (np.full((1, 3), 0.5), tensor("int32"), "E256"),
        (np.full((1, 3), 300), tensor("uint8"), "E256"),
        (np.full((1, 3), 2**24 + 1), X, "E256"),
        (np.full((1, 3), 1e300), X, "E256"),
        (np.full((1, 3), 1.0, np.float32), tensor("bfloat16"), "E256"),
        (np.array([["a", "b", "c"]]), X, "E256"),
    ],
)
def test_samples_that_do_not_fit_the_model(project, array, spec, code):
    np.save(project.data / "a.npy", array)
    project.refused(code, role(), (spec,))


def test_wrong_names_say_what_is_missing_and_what_is_extra(project):
    np.savez(project.data / "a.npz", y=np.zeros((1, 3)))
    found = project.refused("E255", role())
    assert "lacks x" in found.message
    assert "has y" in found.message
    assert found.subject == "a.npz"


def test_a_constant_for_no_input_is_refused(project):
    save_npy(project)
    project.refused("E255", role(), (X,), {"z": InputSpec(name="z", value=1)})


def test_npy_for_two_inputs_and_mixed_kinds_are_refused(project):
    save_npy(project)
    project.refused("E255", role(), (X, tensor(name="y")))
    np.savez(project.data / "a.npz", x=np.zeros((1, 3)))
    project.refused("E254", role())


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x93NUMPY\x01\x00"])
@pytest.mark.parametrize("name", ["data/a.npy", "data/a.npz", "a.npy", "a.npz"])
def test_broken_arrays_name_the_file(project, content, name):
    (project.folder / name).write_bytes(content)
    source = "data" if name.startswith("data") else name
    assert project.refused("E259", role(source)).subject == name.split("/")[-1]


def test_pickles_are_not_loaded(project):
    np.save(project.data / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    project.refused("E259", role())


def test_rows_must_agree(project):
    np.savez(project.folder / "a.npz", x=np.zeros((4, 3)), y=np.zeros((5, 3)))
    project.refused("E257", role("a.npz"), (X, tensor(name="y")))


# --- choosing ----------------------------------------------------------------------------------


def test_missing_empty_and_ambiguous_sources(project):
    project.refused("E250", role(None))
    project.refused("E250", role("nowhere"))
    project.refused("E250", role("nowhere.py:samples"))
    project.refused("E251", role())
    (project.data / "a.png").write_bytes(b"")
    (project.data / "a.wav").write_bytes(b"")
    assert "1 for images, 1 for audio" in project.refused("E254", role()).message
    project.refused("E251", role(reader="numpy"))


def test_no_row_is_no_sample_and_one_is_too_few_to_calibrate(project):
    np.save(project.folder / "none.npy", np.zeros((0, 3), np.float32))
    project.refused("E251", role("none.npy"))
    save_npy(project, 1)
    project.refused("E252", role(name="calibrate"))
    assert project.write(role())[0].samples == 1


def test_describe_is_exactly_what_is_read_and_follows_content(project):
    save_npy(project, 6)
    (project.folder / "l.csv").write_text("file,label\ns01.npy,1\ns04.npy,0\n")
    the_role = role(labels="l.csv")
    found = describe(the_role, project.folder)
    assert [(file.path, file.kind) for file in found] == [
        ("s01.npy", "data"),
        ("s04.npy", "data"),
        ("l.csv", "labels"),
    ]
    assert found[0].sha256 == file_sha256(project.data / "s01.npy")
    assert list(project.write(the_role)[0].files) == found
    (project.data / "s01.npy").write_bytes(b"changed")
    assert describe(the_role, project.folder)[0] != found[0]
    assert describe(the_role, project.folder)[1:] == found[1:]


def test_an_unreadable_selection_is_told_by_describe(project):
    (project.data / "a.npy").symlink_to(project.folder / "gone.npy")
    with pytest.raises(DataError) as caught:
        describe(role(), project.folder)
    assert caught.value.diagnostics[0].code == "E250"


def test_file_names_that_are_no_text_are_refused(project):
    name = b"a\xff.npy"
    (project.data / os.fsdecode(name)).write_bytes(b"")
    project.refused("E259", role())


# --- labels ------------------------------------------------------------------------------------


def test_labels_are_numbers_only_when_all_are(project):
    save_npy(project, 2)
    table = project.folder / "l.csv"
    for text, expected in [("7", 7), ("007", "007"), ("x, y", "x, y"), ("9" * 30, "9" * 30)]:
        table.write_text(f'file,label\ns00.npy,"{text}"\ns01.npy,-1\n')
        _, pack = project.write(role(labels="l.csv"))
        assert pack[0].truth == expected


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        ("name,label\n", "E280", 1),
        ("", "E280", 1),
        ("file,label\ns00.npy\n", "E280", 2),
        ("file,label\ns00.npy,1\ns00.npy,2\n", "E280", 3),
        ('file,label\n"s00.npy,1\n', "E280", 2),
        ("file,label\ngone.npy,1\n", "E281", None),
    ],
)
def test_malformed_label_tables(project, text, code, line):
    save_npy(project, 2)
    (project.folder / "l.csv").write_text(text)
    found = project.refused(code, role(labels="l.csv"))
    assert (found.place.line if found.place else None) == line


def test_labels_of_unknown_kind_or_missing(project):
    save_npy(project, 2)
    project.refused("E250", role(labels="gone.csv"))
    (project.folder / "l.xml").write_text("")
    project.refused("E280", role(labels="l.xml"))
    (project.folder / "l.csv").write_bytes(b"\xff\xfe\xff")
    project.refused("E280", role(labels="l.csv"))


# --- images ------------------------------------------------------------------------------------

IMAGE = TensorSpec(name="x", dtype="float32", dims=(1, 3, 4, 6))
WORDS = {"x": InputSpec(name="x", image=ImagePreprocess(height=4, width=6))}


def picture(project, name="a.png", size=(12, 8)):
    levels = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(levels).save(project.data / name)


def test_images_become_tensors_with_geometry(project):
    picture(project, "b.png")
    picture(project, "sub.png", size=(6, 4))
    report, pack = project.write(role(), (IMAGE,), WORDS)
    assert report.reader == "images"
    assert pack[0].geometry["scale_x"] == 0.5
    np.testing.assert_array_equal(
        pack[1].tensors()["x"][0].transpose(1, 2, 0),
        np.asarray(Image.open(project.data / "sub.png")),
    )


def test_every_kind_of_pixel_is_decoded_as_documented(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
    decode = lambda gray=False: images.decode(tmp_path / "a.png", "a.png", gray=gray)  # noqa: E731
    alpha = np.concatenate([rgb, np.full((4, 5, 1), 9, np.uint8)], axis=2)
    Image.fromarray(alpha).save(tmp_path / "a.png")
    assert (decode() == rgb).all()
    luma = (rgb.astype(int) @ [19595, 38470, 7471] + 32768) >> 16
    assert (decode(gray=True)[..., 0] == luma).all()
    palette = Image.fromarray(rgb).quantize(20)
    palette.save(tmp_path / "a.png")
    assert (decode() == np.asarray(palette.convert("RGB"))).all()
    flat = (np.asarray(palette.convert("RGB")).astype(int) @ [19595, 38470, 7471] + 32768) >> 16
    assert (decode(gray=True)[..., 0] == flat).all()
    deep = np.array([[0, 128, 129, 257, 65535]], np.uint16)
    Image.fromarray(deep).save(tmp_path / "a.png")
    assert decode(gray=True)[0, :, 0].tolist() == [0, 0, 1, 1, 255]
    assert decode().shape == (1, 5, 3)
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "a.png")
    assert decode(gray=True)[0, :, 0].tolist() == [255, 0]


def test_exif_orientation_is_applied(tmp_path):
    levels = np.zeros((4, 6, 3), np.uint8)
    levels[0, 0] = 255
    picture_ = Image.fromarray(levels)
    exif = picture_.getexif()
    exif[0x0112] = 6  # shown rotated by 90 degrees clockwise: top left goes to top right
    picture_.save(tmp_path / "a.png", exif=exif)
    pixels = images.decode(tmp_path / "a.png", "a.png", gray=False)
    assert pixels.shape == (6, 4, 3)
    assert pixels[0, 3].tolist() == [255, 255, 255]


def test_broken_and_unknown_images(project):
    (project.data / "a.png").write_bytes(b"no png")
    assert project.refused("E259", role(), (IMAGE,), WORDS).subject == "a.png"
    picture(project, "a.png")
    content = (project.data / "a.png").read_bytes()
    (project.data / "a.png").write_bytes(content[: len(content) // 2])
    project.refused("E259", role(), (IMAGE,), WORDS)
    (project.data / "a.png").unlink()
    Image.fromarray(np.zeros((3, 3), np.float32)).save(project.data / "a.tif")
    project.refused("E259", role(), (IMAGE,), WORDS)


def test_images_need_declared_preprocessing(project):
    picture(project)
    project.refused("E288", role(), (IMAGE,))


def test_uint8_inputs_take_bytes(project):
    picture(project)
    _, pack = project.write(role(), (tensor("uint8", (1, 3, 4, 6)),), WORDS)
    assert pack[0].tensors()["x"].dtype == np.uint8


def test_coco_boxes(project):
    picture(project, "a.png")
    picture(project, "b.png")
    picture(project, "unlisted.png")
    coco = {
        "images": [{"id": 5, "file_name": "a.png"}, {"id": 9, "file_name": "b.png"}],
        "annotations": [
            {"id": 1, "image_id": 9, "category_id": 3, "bbox": [1, 2, 3, 4]},
            {"id": 2, "image_id": 9, "category_id": 4, "bbox": [0, 0, 12, 8], "iscrowd": 1},
        ],
    }
    (project.folder / "l.json").write_text(json.dumps(coco))
    report, pack = project.write(role(labels="l.json"), (IMAGE,), WORDS)
    assert pack[0].truth == []
    assert pack[1].truth == [
        {"box": [1, 2, 3, 4], "class": 3},
        {"box": [0, 0, 12, 8], "class": 4, "crowd": True},
    ]
    assert report.ignored == {"without label": 1}
    coco["annotations"][0]["bbox"] = [1, 2, 3]
    (project.folder / "l.json").write_text(json.dumps(coco))
    project.refused("E280", role(labels="l.json"), (IMAGE,), WORDS)
    (project.folder / "l.json").write_text("{}")
    project.refused("E280", role(labels="l.json"), (IMAGE,), WORDS)


def test_yolo_boxes_in_pixels_of_the_original(project):
    picture(project, "a.png", size=(12, 8))
    picture(project, "b.png")
    labels = project.folder / "labels"
    labels.mkdir()
    project.refused("E281", role(labels="labels"), (IMAGE,), WORDS)
    (labels / "a.txt").write_text("2 0.5 0.5 0.5 0.25\n\n")
    report, pack = project.write(role(labels="labels"), (IMAGE,), WORDS)
    assert pack[0].truth == [{"box": [3.0, 3.0, 6.0, 2.0], "class": 2}]
    assert pack[1].truth == []
    assert [file.path for file in report.files] == ["a.png", "b.png", "a.txt"]
    for bad in ("2 0.5 0.5 0.5", "x 0 0 0 0", "1 0.5 0.5 1.5 0.1", "1 nan 0 0 0"):
        (labels / "a.txt").write_text(f"0 0 0 0 0\n{bad}\n")
        found = project.refused("E280", role(labels="labels"), (IMAGE,), WORDS)
        assert (found.place.file, found.place.line) == ("labels/a.txt", 2)


# --- audio -------------------------------------------------------------------------------------

SOUND = TensorSpec(name="x", dtype="float32", dims=(1, "T"))


def sound(file, values, *, width=2, rate_hz=8000, channels=1):
    with wave.open(file if hasattr(file, "write") else str(file), "wb") as stream:
        stream.setnchannels(channels)
        stream.setsampwidth(width)
        stream.setframerate(rate_hz)
        whole = np.round(np.asarray(values) * (1 << (8 * width - 1))).astype(np.int64)
        if width == 1:
            whole += 128
        raw = whole.astype("<i8").reshape(-1, 1).view(np.uint8)[:, :width]
        stream.writeframes(raw.tobytes())


def words(**more):
    return {"x": InputSpec(name="x", audio=AudioPreprocess(rate_hz=8000, **more))}


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_every_pcm_width_is_read(project, width):
    values = np.array([0.0, 0.5, -0.5, -1.0, 0.25])
    sound(project.data / "a.wav", values, width=width)
    _, pack = project.write(role(), (SOUND,), words())
    assert pack[0].tensors()["x"].tolist() == [values.tolist()]


def test_channels_are_averaged(project):
    sound(project.data / "a.wav", [0.5, 0.25, -0.5, 0.0], channels=2)
    _, pack = project.write(role(), (SOUND,), words())
    assert pack[0].tensors()["x"].tolist() == [[0.375, -0.25]]


def test_frames_are_sequences_and_the_last_is_filled(project):
    for name in ("a.wav", "b.wav"):
        sound(project.data / name, np.arange(10) / 16)
    _, pack = project.write(role(), (SOUND,), words(frame_samples=4, hop_samples=3))
    assert [(s.id, s.sequence) for s in pack][:4] == [
        ("a.wav#0", "a.wav"),
        ("a.wav#1", "a.wav"),
        ("a.wav#2", "a.wav"),
        ("b.wav#0", "b.wav"),
    ]
    assert pack[2].tensors()["x"].tolist() == [[6 / 16, 7 / 16, 8 / 16, 9 / 16]]
    _, pack = project.write(role(), (SOUND,), words(frame_samples=8))
    assert pack[1].tensors()["x"].tolist() == [[0.5, 9 / 16, 0, 0, 0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("rate", "goal"), [(44100, 16000), (8000, 16000), (16000, 8000), (48000, 16000), (22050, 16000)]
)
def test_resampling_equals_scipy_with_the_same_filter(rate, goal):
    from scipy.signal import resample_poly

    x = np.random.default_rng(0).standard_normal(3001).astype(np.float32)
    up, down = goal // np.gcd(rate, goal), rate // np.gcd(rate, goal)
    expected = resample_poly(
        x.astype(np.float64), up, down, window=audio.resampling_filter(up, down) / up
    )
    ours = audio.resample(x, rate, goal)
    assert len(ours) == len(expected)
    np.testing.assert_allclose(ours, expected, atol=2e-6)


def test_resampling_keeps_a_tone():
    t = np.arange(44100) / 44100
    ours = audio.resample(np.sin(2 * np.pi * 1000 * t).astype(np.float32), 44100, 16000)
    expected = np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)
    assert np.abs(ours - expected)[100:-100].max() < 2e-4


def test_broken_sounds(project):
    file = project.data / "a.wav"
    for content in (b"", b"RIFFxxxxWAVE", b"garbage garbage"):
        file.write_bytes(content)
        project.refused("E259", role(), (SOUND,), words())
    sound(file, np.zeros(100))
    file.write_bytes(file.read_bytes()[:-50])
    project.refused("E259", role(), (SOUND,), words())
    sound(file, [])
    project.refused("E259", role(), (SOUND,), words())


# --- functions ---------------------------------------------------------------------------------


def code(project, text):
    (project.folder / "mine.py").write_text("import numpy as np\n" + text)
    return role("mine.py:samples")


def test_a_function_yields_samples_with_parameters(project):
    the_role = code(
        project,
        "def samples(count, scale=1.0):\n"
        "    for i in range(count):\n"
        "        x = {'x': np.full((1, 3), i * scale, np.float32)}\n"
        "        yield [x, (x, i), (x, np.int64(i), f'n{i}'), (x, None, f'n{i}', 's')][i]\n",
    )
    the_role = DataRole(name="evaluate", source=the_role.source, parameters={"count": 9}, samples=4)
    report, pack = project.write(the_role)
    assert [(s.id, s.truth, s.sequence) for s in pack] == [
        ("0", None, None),
        ("1", 1, None),
        ("n2", 2, None),
        ("n3", None, "s"),
    ]
    assert (report.reader, report.sequences, report.with_truth) == ("function", 1, 2)
    assert [(f.path, f.kind) for f in report.files] == [("mine.py", "code")]


ONE_BY_ONE = """
def samples(names):
    for number, name in enumerate(names):
        yield {"x": np.full((1, 3), number, np.float32)}, None, f"n{number}", name
"""


@pytest.mark.parametrize("names", [[None] * 4, ["a", "b", "c"], ["a", None, "b", None]])
@pytest.mark.parametrize("role_name", ["calibrate", "evaluate"])
def test_single_samples_are_refused_for_a_state(project, names, role_name):
    """Nothing follows anything, so a state would stay zero; without a state that is fine."""
    source = code(project, ONE_BY_ONE).source
    the_role = DataRole(name=role_name, source=source, parameters={"names": names})
    found = project.refused("E865", the_role, carried=("h",))
    assert found.subject == role_name and "'h'" in found.message
    assert "sequence" in found.hint and "h: {value: 0}" in found.hint
    report, _ = project.write(the_role)
    assert report.longest == (1 if any(names) else 0)


def test_one_sequence_of_two_is_enough_for_a_state(project):
    source = code(project, ONE_BY_ONE).source
    the_role = DataRole(name="calibrate", source=source, parameters={"names": ["a", "b", "b"]})
    report, _ = project.write(the_role, carried=("h",))
    assert (report.sequences, report.longest) == (2, 2)


def test_whole_files_without_frames_are_no_stream(project):
    """WAV files that are one call each leave a state at zero; cut into frames they move it."""
    for name in "ab":
        sound(project.data / f"{name}.wav", [0.5] * 64)
    spec = tensor(dims=(1, "T"))
    words = {"x": InputSpec(name="x", audio=AudioPreprocess(rate_hz=8000))}
    project.refused("E865", role(), (spec,), words, carried=("h",))
    words = {"x": InputSpec(name="x", audio=AudioPreprocess(rate_hz=8000, frame_samples=16))}
    report, _ = project.write(role(), (tensor(dims=(1, 16)),), words, carried=("h",))
    assert (report.sequences, report.longest) == (2, 4)


def test_a_function_can_import_its_neighbours(project):
    (project.folder / "neighbour_of_mine.py").write_text("VALUE = 3.0\n")
    the_role = code(
        project,
        "def samples():\n"
        "    from neighbour_of_mine import VALUE\n"
        "    yield {'x': np.full((1, 3), VALUE, np.float32)}\n",
    )
    assert project.write(the_role)[1][0].tensors()["x"][0, 0] == 3


@pytest.mark.parametrize(
    ("text", "expected", "line"),
    [
        ("def samples():\n    yield 1 / 0\n", "E283", 3),
        ("def samples():\n    raise SystemExit(3)\n", "E283", 3),
        ("def samples():\n    np.zeros(3).reshape(2, 2)\n    yield\n", "E283", 3),
        ("import no_such_module\n", "E283", 2),
        ("def samples(:\n", "E283", 2),
        ("def other():\n    yield {}\n", "E282", None),
        ("def samples(needed):\n    yield {}\n", "E282", None),
        ("def samples():\n    return 3\n", "E284", None),
        ("def samples():\n    return {'x': 1}\n", "E284", None),
        ("def samples():\n    yield 3\n", "E284", None),
        ("def samples():\n    yield ({}, {1, 2})\n", "E284", None),
        ("def samples():\n    yield ({}, float('nan'))\n", "E284", None),
        ("def samples():\n    return iter(())\n", "E251", None),
        ("def samples():\n    yield {'x': [[object()] * 3]}\n", "E256", None),
        ("def samples():\n    yield {'x': [[1, 2], [3]]}\n", "E257", None),
    ],
)
def test_user_code_that_fails(project, text, expected, line):
    found = project.refused(expected, code(project, text))
    assert (found.place.line if found.place else None) == line
    if line:
        assert found.place.file == "mine.py"


def test_equal_ids_and_torn_sequences_are_refused(project):
    x = "{'x': np.zeros((1, 3), np.float32)}"
    project.refused(
        "E284",
        code(project, f"def samples():\n    for i in range(2):\n        yield {x}, 0, 'a'\n"),
    )
    torn = f"def samples():\n    for i, s in enumerate('aba'):\n        yield {x}, 0, i, s\n"
    project.refused("E284", code(project, torn))


def test_labels_beside_a_function_are_refused(project):
    the_role = code(project, "def samples():\n    yield {}\n")
    with pytest.raises(DataError):
        select(DataRole(name="evaluate", source=the_role.source, labels="l.csv"), project.folder)


def blob(kind):
    stream = io.BytesIO()
    values = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    if kind == ".npy":
        np.save(stream, values)
    elif kind == ".npz":
        np.savez_compressed(stream, x=values)
    elif kind == ".wav":
        sound(stream, np.zeros(300))
    else:
        Image.fromarray(values).save(stream, Image.registered_extensions()[kind])
    return stream.getvalue()


@pytest.mark.parametrize("kind", [".npy", ".npz", ".wav", ".png", ".jpg", ".gif", ".bmp", ".webp"])
@pytest.mark.parametrize("single", [False, True])
def test_damaged_files_never_end_in_anything_but_a_data_error(project, kind, single):
    whole = blob(kind)
    random = np.random.default_rng(len(whole))
    file = project.data / f"a{kind}"
    inputs = (tensor("float32", None),)
    specs = {
        "x": InputSpec(
            name="x",
            image=ImagePreprocess(height=4, width=4),
            audio=AudioPreprocess(rate_hz=8000),
        )
    }
    refused = 0
    for trial in range(40):
        damaged = bytearray(whole)
        if trial % 4 == 0:
            damaged = damaged[: random.integers(0, len(damaged))]
        for _ in range(3):
            if damaged:
                damaged[random.integers(0, min(len(damaged), 300))] = random.integers(0, 256)
        file.write_bytes(damaged)
        try:
            project.write(role(f"data/a{kind}" if single else "data"), inputs, specs)
        except DataError:
            refused += 1
    assert refused >= 5


# --- packs -------------------------------------------------------------------------------------


def pack_of(folder, samples):
    folder.mkdir()
    with PackWriter(folder) as writer:
        for name, value, sequence in samples:
            writer.add(name, {"x": np.array([value], np.float32)}, truth=name, sequence=sequence)
    return PackReader(folder)


def test_overlap_compares_content_and_whole_sequences(tmp_path):
    first = pack_of(tmp_path / "a", [("p", 1, None), ("f0", 0, "one"), ("f1", 5, "one")])
    second = pack_of(
        tmp_path / "b",
        [("q", 1, None), ("r", 2, None), ("g0", 0, "two"), ("h0", 0, "three"), ("h1", 5, "three")],
    )
    assert overlap(first, second) == ["q", "three"]


def test_packs_are_equal_bytes_whatever_the_order_of_names(tmp_path):
    for name, tensors in (("a", ["u", "v"]), ("b", ["v", "u"])):
        (tmp_path / name).mkdir()
        with PackWriter(tmp_path / name) as writer:
            writer.add("s", {key: np.array([ord(key)]) for key in tensors})
    for file in ("index.json", "tensors.bin"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_damaged_packs_are_typed(tmp_path):
    pack_of(tmp_path / "a", [("p", 1, None), ("q", 2, None)])
    for name, content in (("tensors.bin", b"12"), ("index.json", b"{}"), ("index.json", b"\xff")):
        (tmp_path / "a" / name).write_bytes(content)
        with pytest.raises(DataError) as caught:
            PackReader(tmp_path / "a")
        assert caught.value.diagnostics[0].code == "E253"


def test_a_pack_that_is_cut_off_while_it_is_read_is_typed(tmp_path):
    pack = pack_of(tmp_path / "a", [("p", 1, None), ("q", 2, None)])
    assert next(iter(pack)).tensors()["x"] == 1
    (tmp_path / "a/tensors.bin").write_bytes(b"\0" * 64)
    with pytest.raises(DataError) as caught:
        pack[1].tensors()
    assert caught.value.diagnostics[0].code == "E253"


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
def test_packs_are_read_without_being_mapped(tmp_path):
    """Pages of a mapped file count as memory in use, and would grow with the samples."""
    pack = pack_of(tmp_path / "a", [("p", 1, None)])
    kept = pack[0].tensors()
    assert "tensors.bin" not in Path("/proc/self/maps").read_text()
    assert kept["x"] == 1
