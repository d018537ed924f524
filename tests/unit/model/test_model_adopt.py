"""Adoption: a copy that means the same and owes nothing to the user's folder."""

from __future__ import annotations

import hashlib
from pathlib import Path

import nasty
import numpy as np
import onnx
import pytest
from onnx import numpy_helper as nh

from edgedeploy.errors import ModelError
from edgedeploy.model import adopt, scan


def folders(tmp_path: Path) -> tuple[Path, Path]:
    made = (tmp_path / "user", tmp_path / "ours")
    for folder in made:
        folder.mkdir()
    return made


def test_model_without_external_data_is_copied_byte_for_byte(tmp_path: Path) -> None:
    user, ours = folders(tmp_path)
    path = nasty.NASTY["if_with_outer_weight"](user)
    facts = adopt(path, ours)
    copy = ours / "model.onnx"
    assert [item.name for item in ours.iterdir()] == ["model.onnx"]
    assert copy.read_bytes() == path.read_bytes()
    assert facts.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_external_data_move_into_one_fresh_file(tmp_path: Path) -> None:
    user, ours = folders(tmp_path)
    path = nasty.NASTY["external_data"](user)
    facts = adopt(path, ours)
    assert sorted(item.name for item in ours.iterdir()) == ["model.onnx", "model.onnx.data"]
    before, after = onnx.load(path), onnx.load(ours / "model.onnx")
    for left, right in (
        (before.graph.initializer[0], after.graph.initializer[0]),
        (before.graph.node[1].attribute[0].t, after.graph.node[1].attribute[0].t),
    ):
        assert np.array_equal(nh.to_array(left), nh.to_array(right))
        left.raw_data = right.raw_data = b""
    assert before == after
    assert scan(ours / "model.onnx").weight_bytes == facts.weight_bytes


def test_digest_covers_the_external_bytes(tmp_path: Path) -> None:
    user, ours = folders(tmp_path)
    path = nasty.NASTY["external_data"](user)
    first = adopt(path, ours).sha256
    data = user / "weights.bin"
    content = bytearray(data.read_bytes())
    content[1] ^= 1
    data.write_bytes(content)
    assert scan(path).sha256 != first


def test_refused_model_leaves_nothing_to_convert(tmp_path: Path) -> None:
    user, ours = folders(tmp_path)
    with pytest.raises(ModelError):
        adopt(nasty.NASTY["nan_weight"](user), ours)
    assert list(ours.iterdir()) == []
    adopt(user / "model.onnx", ours, allow_nonfinite=True)
    assert (ours / "model.onnx").exists()


def test_adoption_does_not_overwrite(tmp_path: Path) -> None:
    user, ours = folders(tmp_path)
    (ours / "model.onnx.source").symlink_to(tmp_path / "victim")
    with pytest.raises(FileExistsError):
        adopt(nasty.NASTY["tied_weights"](user), ours)
    assert not (tmp_path / "victim").exists()
