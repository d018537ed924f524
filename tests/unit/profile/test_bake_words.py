"""What may be baked: the steps behind it must be, and what is left is what an application does."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgedeploy.errors import ProfileError
from edgedeploy.profile.expand import application_inputs
from edgedeploy.profile.load import load_profile
from edgedeploy.profile.types import ImagePreprocess

HEAD = "edgedeploy: 1\nname: a\nmodel:\n  source: m.onnx\n  inputs:\n    x:\n      image: "
TAIL = "\ntargets: [linux-x86-64/ort]\n"


@pytest.mark.parametrize(
    ("words", "at"),
    [
        ("size: [4, 4], scale: 1/255, mean: 0.5, bake: [scale]", "bake"),
        ("size: [4, 4], scale: 1/255, std: 0.5, bake: [scale, layout]", "bake"),
        ("size: [4, 4], colour: bgr, mean: [1, 2, 3], bake: [colour]", "bake"),
        ("size: [4, 4], scale: 0, bake: [uint8]", "scale"),
    ],
)
def test_a_step_before_one_that_is_left_outside_is_refused(
    tmp_path: Path, words: str, at: str
) -> None:
    (tmp_path / "p.yaml").write_text(HEAD + "{" + words + "}" + TAIL)
    with pytest.raises(ProfileError) as caught:
        load_profile(tmp_path / "p.yaml")
    (found,) = caught.value.diagnostics
    assert found.code == "E896"
    assert found.place is not None
    line = (tmp_path / "p.yaml").read_text().splitlines()[found.place.line - 1]
    assert at in line[: found.place.column + len(at) + 2]


@pytest.mark.parametrize(
    "words",
    [
        "size: [4, 4], scale: 1/255, mean: 0.5, bake: [mean]",
        "size: [4, 4], colour: bgr, mean: 5, bake: [colour]",  # one number for all: no order
        "size: [4, 4], scale: 1/255, bake: [scale]",
        "size: [4, 4], mean: [1, 2, 3], std: [1, 2, 3], bake: [uint8]",
        "size: [4, 4], bake: [layout]",
    ],
)
def test_the_last_steps_can_be_baked(tmp_path: Path, words: str) -> None:
    (tmp_path / "p.yaml").write_text(HEAD + "{" + words + "}" + TAIL)
    profile = load_profile(tmp_path / "p.yaml")
    assert profile.models["main"].inputs["x"].image is not None


def test_what_is_left_is_what_an_application_is_told(tmp_path: Path) -> None:
    words = "{size: [4, 6], colour: bgr, scale: 1/255, mean: 0.5, std: [1, 2, 3], bake: [%s]}"
    (tmp_path / "p.yaml").write_text(HEAD + words % "mean, layout" + TAIL)
    model = load_profile(tmp_path / "p.yaml").models["main"]
    told = application_inputs(model)["x"]["image"]
    assert (told["scale"], told["mean"], told["std"]) == (1 / 255, [], [])
    assert (told["colour"], told["layout"], told["bake"]) == ("bgr", "nhwc", [])


def test_outside_and_inside_are_all_of_it() -> None:
    image = ImagePreprocess(height=2, width=2, colour="bgr", scale=2.0, mean=(1.0,))
    assert (image.outside, image.takes_pixels) == (image, False)
    assert image.inside == ImagePreprocess(height=2, width=2)
