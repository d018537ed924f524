"""A signed bundle for Android whose model has awkward names and five dtypes, and Java to run it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from edgedeploy.release.archive import write_archive
from edgedeploy.release.bundle import (
    ENVELOPE,
    MANIFEST,
    SUMS,
    Licence,
    Release,
    ReleaseFile,
    ReleaseModel,
    ReleaseTarget,
    Role,
    Tensor,
    members_of,
    sums,
)
from edgedeploy.release.formats.android import FORMAT
from edgedeploy.release.keys import new_key
from edgedeploy.release.opening import open_bundle
from edgedeploy.release.signing import envelope, sign

TARGET = "android-arm64/ort"
ENTRY = f"{TARGET}/main/model.ort"
LABELS = "labels/main.txt"

WEIGHTS = np.linspace(-1, 1, 64, dtype=np.float32).reshape(4, 16)
"""Larger than the 127 bytes up to which ONNX Runtime copies a tensor in any case."""


def the_model(folder: Path) -> bytes:
    """Return an .ort file: image * mask @ W, class + class, image in halves, image > 0."""
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["mask"], ["kept"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["image:0", "kept"], ["masked"]),
            helper.make_node("MatMul", ["masked", "W"], ["scores/é"]),
            helper.make_node("Add", ["class", "class"], ["new"]),
            helper.make_node("Cast", ["image:0"], ["half"], to=TensorProto.FLOAT16),
            helper.make_node("Greater", ["image:0", "zero"], ["positive"]),
        ],
        "awkward",
        [
            helper.make_tensor_value_info("image:0", TensorProto.FLOAT, ["n", 4]),
            helper.make_tensor_value_info("class", TensorProto.INT64, [2]),
            helper.make_tensor_value_info("mask", TensorProto.UINT8, [4]),
        ],
        [
            helper.make_tensor_value_info("scores/é", TensorProto.FLOAT, ["n", 16]),
            helper.make_tensor_value_info("new", TensorProto.INT64, [2]),
            helper.make_tensor_value_info("half", TensorProto.FLOAT16, ["n", 4]),
            helper.make_tensor_value_info("positive", TensorProto.BOOL, ["n", 4]),
        ],
        [
            numpy_helper.from_array(WEIGHTS, "W"),
            numpy_helper.from_array(np.zeros((), np.float32), "zero"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "model.ort")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(model.SerializeToString(), options)
    return (folder / "model.ort").read_bytes()


def the_release(files: Mapping[str, tuple[Role, bytes]], **changes: Any) -> Release:
    """Return a release of one model for Android; ``changes`` are fields of the release."""
    model = ReleaseModel(
        name="main",
        entry=ENTRY,
        candidate="float",
        artifact="d" * 64,
        inputs=(
            Tensor(name="image:0", dtype="float32", shape=("1..8", 4)),
            Tensor(name="class", dtype="int64", shape=(2,)),
            Tensor(name="mask", dtype="uint8", shape=(4,)),
        ),
        outputs=(
            Tensor(name="scores/é", dtype="float32", shape=("1..8", 16)),
            Tensor(name="new", dtype="int64", shape=(2,)),
            Tensor(name="half", dtype="float16", shape=("1..8", 4)),
            Tensor(name="positive", dtype="bool", shape=("1..8", 4)),
        ),
        labels=LABELS,
        options={"config": {"session.intra_op.allow_spinning": "0"}},
        size_bytes=len(files[ENTRY][1]),
        figures=(),
        gates=(),
        golden=None,
    )
    target = ReleaseTarget(
        target=TARGET,
        os="android",
        arch="arm64",
        os_version=None,
        runtime="ort",
        runtime_versions=">=1.17",
        compute_capabilities=(),
        models=(model,),
    )
    release = Release(
        name="door-bell",
        version="1.2.0",
        counter=3,
        created=None,
        made_by="edgedeploy tests",
        unaccepted=(),
        targets=(target,),
        licences=(Licence(part="model main", spdx="Apache-2.0 OR MIT", file=None),),
        files=tuple(
            ReleaseFile(
                path=path,
                size=len(content),
                sha256=hashlib.sha256(content).hexdigest(),
                role=role,
            )
            for path, (role, content) in sorted(files.items())
        ),
    )
    return replace(release, **changes)


def with_model(release: Release, **changes: Any) -> Release:
    """Return a release whose model has other fields."""
    (target,) = release.targets
    (model,) = target.models
    return replace(release, targets=(replace(target, models=(replace(model, **changes),)),))


def package(
    folder: Path, release: Release, files: Mapping[str, tuple[Role, bytes]]
) -> tuple[Path, bytes]:
    """Sign a release, open the bundle, write the package; return its folder and the manifest."""
    folder.mkdir()
    key = new_key(folder / "key")
    manifest = release.manifest
    members: dict[str, Any] = {path: files[path][1] for path in members_of(release.files).values()}
    members[MANIFEST] = manifest
    members[ENVELOPE] = envelope(manifest, [sign(manifest, key.public, key.sign)])
    members[SUMS] = sums(release.files)
    write_archive(folder / release.file_name, members)
    goal = folder / "android"
    goal.mkdir()
    with open_bundle(folder / release.file_name, {key.id: key.public}) as bundle:
        FORMAT.write(bundle, goal)
    return goal, manifest
