"""Boxes on pictures: which pixels change, and which do not."""

import numpy as np
import pytest
from PIL import Image

from edgedeploy.data.drawing import draw_boxes
from edgedeploy.errors import DataError

GREY = (120, 120, 120)


def drawn(tmp_path, boxes, size=(200, 150), **how):
    Image.new("RGB", size, GREY).save(tmp_path / "in.png", **how)
    draw_boxes(tmp_path / "in.png", boxes, tmp_path / "out.png")
    return np.asarray(Image.open(tmp_path / "out.png"))


def box(*edges, label=1, score=0.5):
    return {"box": list(edges), "class": label, "label": str(label), "score": score}


def test_the_frame_lies_on_the_first_and_last_pixels(tmp_path):
    pixels = drawn(tmp_path, [box(50, 60, 120, 110)])
    changed = (pixels != GREY).any(axis=2)
    assert changed[109, 50:120].all() and not changed[110:, :].any()
    assert changed[60:110, 50].all() and not changed[:, :50].any()
    assert changed[60:110, 119].all() and not changed[62:108, 120:].any()
    assert not changed[62:108, 52:118].any()
    assert changed[:60].any()  # its name stands above


def test_classes_have_colours_and_the_best_box_lies_on_top(tmp_path):
    pixels = drawn(tmp_path, [box(50, 60, 120, 110, label=1), box(50, 60, 120, 110, label=2)])
    assert tuple(pixels[109, 80]) == (0x3C, 0xB4, 0x4B)
    assert tuple(drawn(tmp_path, [box(50, 60, 120, 110, label=9)])[109, 80]) == (0x3C, 0xB4, 0x4B)


@pytest.mark.parametrize("edges", [(-40, -9, 500, 400), (199, 149, 200, 150), (7.2, 3.4, 7.3, 3.5)])
def test_what_reaches_beyond_the_picture_is_cut(tmp_path, edges):
    assert drawn(tmp_path, [box(*edges, score=None)]).shape == (150, 200, 3)


def test_the_picture_is_turned_as_it_was_for_the_model(tmp_path):
    """EXIF says that it lies on its side: boxes are in pixels of the upright one."""
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = drawn(tmp_path, [], exif=exif)
    assert pixels.shape == (200, 150, 3)


def test_a_broken_picture_is_named(tmp_path):
    (tmp_path / "in.png").write_bytes(b"\x89PNG")
    with pytest.raises(DataError) as error:
        draw_boxes(tmp_path / "in.png", [], tmp_path / "out.png")
    assert [item.code for item in error.value.diagnostics] == ["E259"]
