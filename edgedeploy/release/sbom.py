"""The bill of materials of a release: CycloneDX 1.7 with model cards (ML-BOM), as canonical JSON.

Source: CycloneDX 1.7 JSON reference (ECMA-424). It is written by hand, not by a library: which
bytes come out must not depend on a library's version. Tests validate it with the official schema.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from typing import Any

from edgedeploy.manifest import canonical
from edgedeploy.release.bundle import (
    Figure,
    Release,
    ReleaseFile,
    ReleaseModel,
    ReleaseTarget,
    Tensor,
)
from edgedeploy.release.licences import licence_part
from edgedeploy.release.origin import Origin, payload, payload_digest, tool_purl

SBOM = "bom.cdx.json"
SPEC_VERSION = "1.7"

_NAMES = uuid.UUID("6f1d8f0a-6c1f-5c0e-9d53-0f4f2a6d7b11")
"""Name space of serial numbers: the same release has the same one."""

_RUNTIMES = {
    "ort": ("framework", "onnxruntime", "pkg:pypi/onnxruntime"),
    "openvino": ("framework", "openvino", "pkg:pypi/openvino"),
    "coreml": ("framework", "Core ML", None),
    "tensorrt": ("framework", "TensorRT", None),
    "tensorrt-rtx": ("framework", "TensorRT for RTX", None),
}
"""Runtime id -> type, name and package URL of what the artifacts need and the release lacks."""


def sbom(release: Release, origin: Origin) -> bytes:
    """Return the bill of materials of a release."""
    root = {
        "type": "application",
        "bom-ref": "release",
        "name": release.name,
        "version": release.version,
        "licenses": _expression(" AND ".join(_bracketed(release))),
    }
    components = [*_models(release, origin), *_others(release), *_runtimes(release)]
    metadata: dict[str, Any] = {
        "component": {key: value for key, value in root.items() if value},
        "tools": {"components": list(_tools(release, origin))},
        "lifecycles": [{"phase": "post-build"}],
    }
    if release.created is not None:
        metadata["timestamp"] = release.created
    return canonical(
        {
            "bomFormat": "CycloneDX",
            "specVersion": SPEC_VERSION,
            "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMES, payload_digest(release))}",
            "version": 1,
            "metadata": metadata,
            "components": components,
            "dependencies": list(_dependencies(release, components)),
        }
    )


def _bracketed(release: Release) -> list[str]:
    found = dict.fromkeys(licence.spdx for licence in release.licences)
    several = len(found) > 1
    return [f"({item})" if several and " OR " in item else item for item in found]


def _expression(text: str) -> list[dict[str, Any]]:
    return [{"expression": text}] if text else []


def _models(release: Release, origin: Origin) -> Iterator[dict[str, Any]]:
    licences = {licence.part: licence.spdx for licence in release.licences}
    for target in release.targets:
        for model in target.models:
            name = base_name(model.name)
            component = {
                "type": "machine-learning-model",
                "bom-ref": f"model {target.target} {model.name}",
                "name": f"{release.name} {model.name}",
                "version": release.version,
                "description": f"{model.candidate}, for {target.target}",
                "licenses": _expression(licences.get(licence_part(name), "")),
                "pedigree": {"ancestors": [_ancestor(name, origin)]},
                "modelCard": _card(model),
                "components": [_file(file) for file in release.files_of(target, model)],
                "properties": list(_properties(target, model)),
            }
            if name in origin.authors:
                component["authors"] = [{"name": origin.authors[name]}]
            yield {key: value for key, value in component.items() if value}


def base_name(model: str) -> str:
    """Return the name of a model in the profile, without its shape variant."""
    return model.partition("[")[0]


def _ancestor(name: str, origin: Origin) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "machine-learning-model", "name": f"source model {name}"}
    if name in origin.models:
        found["hashes"] = [{"alg": "SHA-256", "content": origin.models[name]}]
    return found


def _card(model: ReleaseModel) -> dict[str, Any]:
    card: dict[str, Any] = {
        "modelParameters": {
            "inputs": [{"format": _format(tensor)} for tensor in model.inputs],
            "outputs": [{"format": _format(tensor)} for tensor in model.outputs],
        }
    }
    metrics = [_metric(figure) for figure in model.figures if figure.value is not None]
    if metrics:
        card["quantitativeAnalysis"] = {"performanceMetrics": metrics}
    return card


def _format(tensor: Tensor) -> str:
    return f"{tensor.name}: {tensor.dtype} [{', '.join(map(str, tensor.shape))}]"


def _metric(figure: Figure) -> dict[str, Any]:
    found: dict[str, Any] = {
        "type": figure.name,
        "value": repr(figure.value),
        "slice": f"{figure.samples} samples, evidence: {figure.evidence}",
    }
    if figure.low is not None and figure.high is not None:
        found["confidenceInterval"] = {
            "lowerBound": repr(figure.low),
            "upperBound": repr(figure.high),
        }
    return found


def _properties(target: ReleaseTarget, model: ReleaseModel) -> Iterator[dict[str, str]]:
    facts = {
        "arch": target.arch,
        "artifact": model.artifact,
        "entry": model.entry,
        "os": target.os,
        "runtime": f"{target.runtime} {target.runtime_versions}",
    }
    for name, value in facts.items():
        yield {"name": f"edgedeploy:{name}", "value": value}
    for engine in model.engines:
        yield {"name": "edgedeploy:engine", "value": f"{engine.entry}: {engine.in_words()}"}
    for gate in model.gates:
        limit = f" ({gate.limit})" if gate.limit else ""
        yield {"name": f"edgedeploy:gate:{gate.gate}", "value": f"{gate.state}{limit}"}


def _file(file: ReleaseFile) -> dict[str, Any]:
    return {
        "type": "data" if file.role in ("golden", "labels") else "file",
        "bom-ref": f"file {file.path}",
        "name": file.path,
        "hashes": [{"alg": "SHA-256", "content": file.sha256}],
        "properties": [
            {"name": "edgedeploy:role", "value": file.role},
            {"name": "edgedeploy:size", "value": str(file.size)},
        ],
    }


def _others(release: Release) -> Iterator[dict[str, Any]]:
    """Yield the files that belong to no model."""
    taken = {
        file.path
        for target in release.targets
        for model in target.models
        for file in release.files_of(target, model)
    }
    for file in payload(release):
        if file.path not in taken:
            yield _file(file)


def _runtimes(release: Release) -> Iterator[dict[str, Any]]:
    """Yield what the artifacts are run by, which the release does not hold."""
    for runtime, versions in sorted(
        {(target.runtime, target.runtime_versions) for target in release.targets}
    ):
        kind, name, purl = _RUNTIMES.get(runtime, ("framework", runtime, None))
        found = {
            "type": kind,
            "bom-ref": _runtime_ref(runtime, versions),
            "name": name,
            "isExternal": True,
            "scope": "required",
            "versionRange": _vers(versions, "pypi" if purl else "generic"),
        }
        if purl:
            found["purl"] = purl
        yield {key: value for key, value in found.items() if value}


def _runtime_ref(runtime: str, versions: str) -> str:
    return f"runtime {runtime} {versions}"


def _vers(versions: str, scheme: str) -> str | None:
    """Return a range such as ``>=1.17,<2`` in the vers syntax; None where it says nothing.

    Source: package-url specification, VERSION-RANGE-SPEC.
    """
    parts = re.findall(r"(>=|<=|>|<|!=|==)\s*([0-9][0-9A-Za-z.]*)", versions)
    found = [f"{'' if sign == '==' else sign}{version}" for sign, version in parts]
    return f"vers:{scheme}/{'|'.join(found)}" if found else None


def _tools(release: Release, origin: Origin) -> Iterator[dict[str, Any]]:
    name, _, version = release.made_by.partition(" ")
    yield {"type": "application", "name": name, "version": version}
    for name, version in sorted(origin.tools.items()):
        yield {
            "type": "platform" if name == "python" else "library",
            "name": name,
            "version": version,
            "purl": tool_purl(name, version),
        }


def _dependencies(release: Release, components: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    held = [item["bom-ref"] for item in components if not item.get("isExternal")]
    yield {"ref": "release", "dependsOn": held}
    for target in release.targets:
        runtime = _runtime_ref(target.runtime, target.runtime_versions)
        for model in target.models:
            yield {"ref": f"model {target.target} {model.name}", "dependsOn": [runtime]}
