"""ONNX Runtime model packages: a folder that the runtime itself opens, selects from and runs.

One package per target: the runtime tells variants apart by execution provider alone, and ours are
for the CPU provider of different processors. Source: ONNX Runtime 1.32, `model_package/` of its
repository and `onnxruntime.ModelPackage`: schema 1.0, which refuses fields that it does not know.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgedeploy.manifest import canonical
from edgedeploy.release.bundle import MANIFEST, Release, ReleaseModel, ReleaseTarget
from edgedeploy.release.content import write_content
from edgedeploy.release.formats import Format
from edgedeploy.release.formats.shared import beside, loaded, vouchers
from edgedeploy.release.interface import Port, interface_of
from edgedeploy.release.opening import Bundle

SCHEMA = "1.0"
OURS = "edgedeploy"
"""Folder of a package with what is ours: the runtime's manifest has the name of our own."""


class OrtPackage:
    """``.ortpackage`` folders; an :class:`edgedeploy.release.formats.Format`."""

    name = "ortpackage"

    def suits(self, release: Release) -> tuple[ReleaseTarget, ...]:
        """Return the targets of ONNX Runtime."""
        return tuple(target for target in release.targets if target.runtime == "ort")

    def write(self, bundle: Bundle, folder: Path) -> tuple[Path, ...]:
        """Write ``NAME-VERSION-BOARD.ortpackage/`` for each target."""
        return tuple(
            _write(bundle, target, folder) for target in sorted(self.suits(bundle.release), key=_id)
        )


def _id(target: ReleaseTarget) -> str:
    return target.target


def _write(bundle: Bundle, target: ReleaseTarget, folder: Path) -> Path:
    release = bundle.release
    board = target.target.partition("/")[0]
    root = folder / f"{release.name}-{release.version}-{board}.ortpackage"
    for path, content in loaded(bundle, [target]).items():
        write_content(root / path.removeprefix(f"{target.target}/"), content)
    for path, content in (beside(bundle) | vouchers(bundle)).items():
        write_content(root / OURS / path, content)
    write_content(root / MANIFEST, canonical(_manifest(release, target)))
    return root


def _manifest(release: Release, target: ReleaseTarget) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA,
        "layout": "portable",
        "package_name": release.name,
        "package_version": release.version,
        "components": {model.name: _component(target, model) for model in target.models},
        "additional_metadata": {
            OURS: {
                "release": release.digest,
                "target": target.target,
                "os": target.os,
                "arch": target.arch,
                "onnxruntime": target.runtime_versions,
            }
        },
    }


def _component(target: ReleaseTarget, model: ReleaseModel) -> dict[str, Any]:
    place, _, file = model.entry.removeprefix(f"{target.target}/").rpartition("/")
    interface = interface_of(model)
    variant = {
        "ep": "CPUExecutionProvider",
        "variant_directory": place,
        "executor_info": {"ort": {"model_file": file}},
    }
    return {
        "variants": {model.candidate: variant},
        "additional_metadata": {
            OURS: {
                "inputs": [_told(port) for port in interface.inputs],
                "outputs": [_told(port) for port in interface.outputs],
                "labels": None if model.labels is None else f"{OURS}/{model.labels}",
            }
        },
    }


def _told(port: Port) -> dict[str, Any]:
    return {"name": port.name, "type": port.in_words, "steps": list(port.steps)}


FORMAT: Format = OrtPackage()
