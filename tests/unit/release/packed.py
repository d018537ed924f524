"""A release with models that really run, for tests of packages; made by hand, without a build."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx
from made import KEY, TRUSTED
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
from edgedeploy.release.signing import envelope, sign

IMAGE = {
    "size": [8, 8],
    "width": 8,
    "height": 8,
    "colour": "rgb",
    "resample": "bilinear",
    "fit": "stretch",
    "pad_value": 0,
    "scale": 1 / 255,
    "mean": [],
    "std": [],
    "layout": "nchw",
}
ODD = 'in:put "0"\\'
"""Name of a tensor that no language has as an identifier."""


def weights() -> np.ndarray:
    """Return the weights of the models: what a run gives follows from them by hand."""
    return np.random.Generator(np.random.PCG64(3)).normal(size=(3, 2)).astype(np.float32)


def onnx_model(name: str) -> onnx.ModelProto:
    """Return a classifier: the mean over rows and columns, then a linear layer."""
    nodes = [
        helper.make_node("GlobalAveragePool", [name], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["class"]),
    ]
    graph = helper.make_graph(
        nodes,
        "doorbell",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, "h", 8])],
        [helper.make_tensor_value_info("class", TensorProto.FLOAT, [1, 2])],
        [numpy_helper.from_array(weights(), "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def expected(image: np.ndarray) -> np.ndarray:
    """Return what the models give, by NumPy."""
    flat: np.ndarray = image.mean(axis=(2, 3)) @ weights()
    return flat


@cache
def _ort(name: str) -> bytes:
    import tempfile

    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = f"{folder}/model.ort"
        options.add_session_config_entry("session.save_model_format", "ORT")
        level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.graph_optimization_level = level
        onnxruntime.InferenceSession(
            onnx_model(name).SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return Path(folder, "model.ort").read_bytes()


@cache
def _ir(name: str) -> tuple[bytes, bytes]:
    import sys
    import tempfile

    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "model.onnx").write_bytes(onnx_model(name).SerializeToString())
        model = openvino.convert_model(f"{folder}/model.onnx")
        openvino.save_model(model, f"{folder}/model.xml", compress_to_fp16=False)
        return Path(folder, "model.xml").read_bytes(), Path(folder, "model.bin").read_bytes()


def _model(target: str, name: str, entry: str, port: str) -> ReleaseModel:
    return ReleaseModel(
        name=name,
        entry=f"{target}/{name}/{entry}",
        candidate="float",
        artifact="a" * 64,
        inputs=(Tensor(name=port, dtype="float32", shape=(1, 3, "4..16", 8), image=IMAGE),),
        outputs=(Tensor(name="class", dtype="float32", shape=(1, 2)),),
        labels="labels.txt",
        options={},
        size_bytes=1,
        figures=(),
        gates=(),
        golden=None,
    )


def _target(name: str, arch: str, entry: str, system: str = "linux") -> ReleaseTarget:
    runtime = name.partition("/")[2]
    return ReleaseTarget(
        target=name,
        os=system,
        arch=arch,
        os_version=None,
        runtime=runtime,
        runtime_versions={"ort": ">=1.17", "openvino": ">=2025.0"}[runtime],
        compute_capabilities=(),
        models=(_model(name, "main", entry, "image"), _model(name, "odd-one", entry, ODD)),
    )


TARGETS: Mapping[str, ReleaseTarget] = {
    target.target: target
    for target in (
        _target("android-arm64/ort", "arm64", "model.ort", "android"),
        _target("intel-cpu/openvino", "x86-64", "model.xml"),
        _target("linux-x86-64/ort", "x86-64", "model.ort"),
        _target("rpi4/ort", "arm64", "model.ort"),
        _target("rpi5/ort", "arm64", "model.ort"),
    )
}
WEB = _target("web/ort", "wasm32", "model.ort", "web")
"""For browsers; not among the others."""


def _contents(targets: Mapping[str, ReleaseTarget]) -> dict[str, tuple[bytes, Role]]:
    found: dict[str, tuple[bytes, Role]] = {
        "files/config.json": (b'{"threshold": 0.5}', "file"),
        "labels.txt": (b"cat\ndog\n", "labels"),
        "LICENSES/Apache-2.0.txt": (b"a licence\n", "licence"),
    }
    for name, target in targets.items():
        for model in target.models:
            port, folder = model.inputs[0].name, f"{name}/{model.name}"
            if target.runtime == "ort":
                found[f"{folder}/model.ort"] = _ort(port), "model"
            else:
                xml, binary = _ir(port)
                found[f"{folder}/model.xml"] = xml, "model"
                found[f"{folder}/model.bin"] = binary, "weights"
            found[f"{folder}/golden/x.bin"] = b"golden", "golden"
    return found


def write(folder: Path, targets: Mapping[str, ReleaseTarget] = TARGETS, **change: object) -> Path:
    """Write a bundle of these targets, signed by the first key of ``made``.

    Args:
        folder: Where to.
        targets: By id.
        change: Fields of the release that are others.
    """
    contents = _contents(targets)
    release = Release(
        name="doorbell",
        version="1.2.0",
        counter=3,
        created=None,
        made_by="edgedeploy 0.1.0",
        unaccepted=(),
        targets=tuple(targets[name] for name in sorted(targets)),
        licences=(
            Licence(part="model", spdx="Apache-2.0", file="LICENSES/Apache-2.0.txt"),
            Licence(part="data", spdx="MIT OR CC0-1.0", file=None),
        ),
        files=tuple(
            ReleaseFile(
                path=path,
                size=len(content),
                sha256=hashlib.sha256(content).hexdigest(),
                role=role,
            )
            for path, (content, role) in sorted(contents.items())
        ),
    )
    release = replace(release, **change)  # type: ignore[arg-type]
    manifest = release.manifest
    members = {path: contents[path][0] for path in members_of(release.files).values()}
    members[MANIFEST] = manifest
    members[ENVELOPE] = envelope(manifest, [sign(manifest, KEY.public, KEY.sign)])
    members[SUMS] = sums(release.files)
    goal = folder / release.file_name
    write_archive(goal, members)
    return goal


__all__ = ["KEY", "TARGETS", "TRUSTED", "WEB", "expected", "write"]
