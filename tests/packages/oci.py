"""The rules of the OCI image specification on a layout, what a client pulls, and skopeo."""

import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

needs_skopeo = pytest.mark.skipif(shutil.which("skopeo") is None, reason="needs skopeo")

# RFC 6838 section 4.2, as the specification asks of every mediaType and artifactType.
_NAME = "[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}"
MEDIA_TYPE = re.compile(f"{_NAME}/{_NAME}")
REFERENCE = re.compile(r"[A-Za-z0-9]+([-._:@/+][A-Za-z0-9]+)*")  # image-layout's ref.name
EMPTY = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"  # manifest.md


def blob(layout: Path, descriptor: dict[str, Any]) -> bytes:
    """Return a blob; everything that descriptor.md says of a descriptor holds."""
    assert MEDIA_TYPE.fullmatch(descriptor["mediaType"])
    algorithm, _, digest = descriptor["digest"].partition(":")
    assert algorithm == "sha256" and re.fullmatch("[0-9a-f]{64}", digest)
    content = (layout / "blobs" / algorithm / digest).read_bytes()
    assert hashlib.sha256(content).hexdigest() == digest and len(content) == descriptor["size"]
    assert all(isinstance(value, str) for value in descriptor.get("annotations", {}).values())
    return content


def manifest_of(layout: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the index's only entry and the manifest that it names."""
    index = json.loads((layout / "index.json").read_bytes())
    assert index["schemaVersion"] == 2
    assert index["mediaType"] == "application/vnd.oci.image.index.v1+json"
    (entry,) = index["manifests"]
    found: dict[str, Any] = json.loads(blob(layout, entry))
    return entry, found


def check_layout(layout: Path, tag: str) -> dict[str, Any]:
    """Hold a layout against the rules of the specification, and return its manifest.

    Marker, index, manifest, empty config, descriptors; no blob that nothing names.
    """
    assert json.loads((layout / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    entry, manifest = manifest_of(layout)
    reference = entry["annotations"]["org.opencontainers.image.ref.name"]
    assert REFERENCE.fullmatch(reference) and reference == tag
    assert manifest["schemaVersion"] == 2
    assert manifest["mediaType"] == entry["mediaType"]
    assert manifest["artifactType"] == entry["artifactType"]  # must be there: the config is empty
    assert MEDIA_TYPE.fullmatch(manifest["artifactType"])
    assert (manifest["config"]["mediaType"], manifest["config"]["digest"]) == (
        "application/vnd.oci.empty.v1+json",
        EMPTY,
    )
    named = [entry, manifest["config"], *manifest["layers"]]
    for descriptor in named:
        blob(layout, descriptor)
    digests = {descriptor["digest"].removeprefix("sha256:") for descriptor in named}
    assert {path.name for path in (layout / "blobs/sha256").iterdir()} == digests
    assert sorted(path.name for path in layout.iterdir()) == ["blobs", "index.json", "oci-layout"]
    return manifest


def pull(layout: Path, folder: Path) -> dict[str, Any]:
    """Write each layer under its title, as ORAS restores files; return the manifest."""
    _, manifest = manifest_of(layout)
    for layer in manifest["layers"]:
        place = folder / layer["annotations"]["org.opencontainers.image.title"]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(blob(layout, layer))
    return manifest


def copy(layout: Path, tag: str, goal: Path) -> None:
    """Let skopeo copy a layout, found by its tag, and hold every blob against the layout's."""
    command = ["skopeo", "--insecure-policy", "copy", "-q", f"oci:{layout}:{tag}", f"dir:{goal}"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    _, manifest = manifest_of(layout)
    assert json.loads((goal / "manifest.json").read_bytes()) == manifest
    for layer in manifest["layers"]:
        assert (goal / layer["digest"].removeprefix("sha256:")).read_bytes() == blob(layout, layer)
