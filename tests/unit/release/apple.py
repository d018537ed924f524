"""Releases for Apple's systems with real Core ML packages, for tests; without a whole build."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import packed
from made import KEY
from onnx import TensorProto, helper, numpy_helper

from edgedeploy.backends import load
from edgedeploy.backends.base import Words
from edgedeploy.data.pack import PackWriter
from edgedeploy.profile.types import ImagePreprocess
from edgedeploy.release.archive import write_archive
from edgedeploy.release.bundle import (
    ENVELOPE,
    MANIFEST,
    SUMS,
    Golden,
    Release,
    ReleaseFile,
    ReleaseModel,
    ReleaseTarget,
    Role,
    Tensor,
    members_of,
    sums,
)
from edgedeploy.release.signing import envelope, sign

ODD = 'in:put \\(0) "x"'
"""Name of an input that is no identifier, and would be more than text in careless Swift."""
CLASSES = ("cat", 'a "dog" \\(1)')
IMAGE = ImagePreprocess(height=8, width=8, scale=1 / 255)

Contents = dict[str, tuple[bytes, Role]]


def _onnx(folder: Path, port: str) -> Path:
    """Write a classifier with a state and an integer input."""
    nodes = [
        helper.make_node("ReduceMean", [port], ["mean"], name="mean", axes=[2, 3], keepdims=0),
        helper.make_node("Cast", ["count"], ["counted"], name="cast", to=TensorProto.FLOAT),
        helper.make_node("Add", ["mean", "counted"], ["more"], name="more"),
        helper.make_node("Add", ["more", "kept"], ["kept_next"], name="keep"),
        helper.make_node("Gemm", ["kept_next", "w"], ["logits"], name="fc"),
        helper.make_node("Softmax", ["logits"], ["class"], name="softmax"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [
            helper.make_tensor_value_info(port, TensorProto.FLOAT, [1, 3, 8, 8]),
            helper.make_tensor_value_info("count", TensorProto.INT64, [1, 3]),
            helper.make_tensor_value_info("kept", TensorProto.FLOAT, [1, 3]),
        ],
        [
            helper.make_tensor_value_info("class", TensorProto.FLOAT, [1, 2]),
            helper.make_tensor_value_info("kept_next", TensorProto.FLOAT, [1, 3]),
        ],
        [numpy_helper.from_array(np.eye(3, 2, dtype=np.float32), "w")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(onnx.shape_inference.infer_shapes(made), folder / "model.onnx")
    return folder / "model.onnx"


@cache
def compiled(port: str, ios: int, *options: str) -> Mapping[str, tuple[bytes, Role]]:
    """Return the files of a real package by path.

    Args:
        port: Name of the first input.
        ios: Version of the system.
        options: That are on.
    """
    words = Words(
        images={port: IMAGE} if "images" in options else {},
        state=(("kept", "kept_next"),),
        classes=CLASSES,
    )
    with TemporaryDirectory() as name:
        folder = Path(name, "artifact")
        folder.mkdir()
        report = load("coreml").compile(
            _onnx(Path(name), port),
            folder,
            dict.fromkeys(options, True),
            {"board.os": "ios", "board.os_version": ios},
            words=words,
        )
        return {
            file.path: ((folder / file.path).read_bytes(), file.role)  # type: ignore[misc]
            for file in report.files
        }


def model_of(target: str, name: str, port: str = "image", **change: Any) -> ReleaseModel:
    """Return a model as the manifest has it."""
    shape = (1, 3, 8, 8)
    model = ReleaseModel(
        name=name,
        entry=f"{target}/{name}/model.mlpackage",
        candidate="fp16",
        artifact=hashlib.sha256(f"{target}/{name}".encode()).hexdigest(),
        inputs=(
            Tensor(name=port, dtype="float32", shape=shape, image=packed.IMAGE),
            Tensor(name="count", dtype="int64", shape=(1, 3)),
            Tensor(name="kept", dtype="float32", shape=(1, 3), state="kept_next"),
        ),
        outputs=(
            Tensor(name="class", dtype="float32", shape=(1, 2)),
            Tensor(name="kept_next", dtype="float32", shape=(1, 3)),
        ),
        labels="labels.txt",
        options={},
        size_bytes=1,
        figures=(),
        gates=(),
        golden=None,
    )
    return replace(model, **change)


def target_of(
    name: str, models: Sequence[ReleaseModel], *, version: int | None, system: str = "ios"
) -> ReleaseTarget:
    """Return a target as the manifest has it."""
    runtime = name.partition("/")[2]
    return ReleaseTarget(
        target=name,
        os=system,
        arch="arm64",
        os_version=version,
        runtime=runtime,
        runtime_versions={"ort": ">=1.17", "coreml": ">=13"}[runtime],
        compute_capabilities=(),
        models=tuple(models),
    )


def golden_of(folder: Path, port: str = "image") -> dict[str, bytes]:
    """Return the files of two packs with one sample: all that goes in, and what comes out."""
    rng = np.random.Generator(np.random.PCG64(1))
    found = {}
    for kind, tensors in (
        (
            "inputs",
            {
                port: rng.normal(size=(1, 3, 8, 8)).astype(np.float32),
                "count": np.array([[1, 2, 3]], np.int64),
                "kept": np.zeros((1, 3), np.float32),
            },
        ),
        (
            "outputs",
            {
                "class": np.array([[0.25, 0.75]], np.float32),
                "kept_next": np.array([[1, 2, 3]], np.float32),
            },
        ),
    ):
        (folder / kind).mkdir(parents=True)
        with PackWriter(folder / kind) as writer:
            writer.add("first", tensors)
        for path in (folder / kind).iterdir():
            found[f"{kind}/{path.name}"] = path.read_bytes()
    return found


def write(
    folder: Path, targets: Sequence[ReleaseTarget], contents: Contents, **change: Any
) -> Path:
    """Write a bundle, signed by the first key of ``made``."""
    held: Contents = {"labels.txt": (b"cat\ndog\n", "labels"), **contents}
    release = Release(
        name="door-bell",
        version="1.2.0",
        counter=3,
        created=None,
        made_by="edgedeploy 0.1.0",
        unaccepted=(),
        targets=tuple(sorted(targets, key=lambda target: target.target)),
        licences=(),
        files=tuple(
            ReleaseFile(
                path=path,
                size=len(content),
                sha256=hashlib.sha256(content).hexdigest(),
                role=role,
            )
            for path, (content, role) in sorted(held.items())
        ),
    )
    release = replace(release, **change)
    manifest = release.manifest
    members = {path: held[path][0] for path in members_of(release.files).values()}
    members[MANIFEST] = manifest
    members[ENVELOPE] = envelope(manifest, [sign(manifest, KEY.public, KEY.sign)])
    members[SUMS] = sums(release.files)
    goal = folder / "doorbell.edpkg"
    write_archive(goal, members)
    return goal


def full(folder: Path, **change: Any) -> Path:
    """Write a release for iOS 17, macOS 14 and ONNX Runtime on iOS, one model with golden samples.

    The model ``main`` is the same on all; ``odd-one`` takes pixels, keeps its state, answers with
    classes, and is for iOS 18 alone.
    """
    contents: Contents = {}
    targets = []
    for name, system, version in (
        ("ios17/coreml", "ios", 17),
        ("macos14/coreml", "macos", 14),
    ):
        place = f"{name}/golden/main"
        golden = Golden(inputs=f"{place}/inputs", outputs=f"{place}/outputs", cosine=0.99)
        models = [model_of(name, "main", golden=golden)]
        for path, content in golden_of(folder / system).items():
            contents[f"{place}/{path}"] = content, "golden"
        for path, kept in compiled("image", 17).items():
            contents[f"{name}/main/{path}"] = kept
        targets.append(target_of(name, models, version=version, system=system))
    odd = model_of("ios18/coreml", "odd-one", ODD)
    for path, kept in compiled(ODD, 18, "images", "classifier", "stateful").items():
        contents[f"ios18/coreml/odd-one/{path}"] = kept
    targets.append(target_of("ios18/coreml", [odd], version=18))
    ort = model_of("ios17/ort", "main", entry="ios17/ort/main/model.ort")
    contents["ios17/ort/main/model.ort"] = b"ort", "model"
    targets.append(target_of("ios17/ort", [ort], version=17))
    targets.append(packed.TARGETS["rpi5/ort"])
    for port, model in (("image", "main"), (packed.ODD, "odd-one")):
        contents[f"rpi5/ort/{model}/model.ort"] = port.encode(), "model"
    return write(folder, targets, contents, **change)
