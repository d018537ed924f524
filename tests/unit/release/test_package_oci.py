"""OCI image layouts: the rules of the image specification, and what a client pulls."""

import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import packed
import pytest

from edgedeploy.errors import UsageError
from edgedeploy.release import verify_file
from edgedeploy.release.packages import write_packages

# RFC 6838 section 4.2, as the specification asks of every mediaType and artifactType.
_NAME = "[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}"
MEDIA_TYPE = re.compile(f"{_NAME}/{_NAME}")
REFERENCE = re.compile(r"[A-Za-z0-9]+([-._:@/+][A-Za-z0-9]+)*")  # image-layout's ref.name
EMPTY = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"  # manifest.md


def layout_of(bundle: Path, folder: Path) -> Path:
    """Write an image layout of a bundle and return it."""
    (package,) = write_packages(bundle, packed.TRUSTED, ["oci"], folder)
    return package.paths[0]


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image layout of a release."""
    folder = tmp_path_factory.mktemp("oci")
    return layout_of(packed.write(folder), folder)


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


def test_the_layout_keeps_the_rules_of_the_specification(layout: Path) -> None:
    """Marker, index, manifest, empty config, descriptors; no blob that nothing names."""
    assert json.loads((layout / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    entry, manifest = manifest_of(layout)
    reference = entry["annotations"]["org.opencontainers.image.ref.name"]
    assert REFERENCE.fullmatch(reference) and reference == "1.2.0"
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
    assert manifest["annotations"]["org.opencontainers.image.licenses"].startswith("Apache-2.0")


def test_what_is_pulled_is_a_release_that_verifies(layout: Path, tmp_path: Path) -> None:
    """Each layer under its title, as ORAS restores files; the device's own check takes it."""
    _, manifest = manifest_of(layout)
    for layer in manifest["layers"]:
        place = tmp_path / "pulled" / layer["annotations"]["org.opencontainers.image.title"]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(blob(layout, layer))
    found = verify_file.verify(str(tmp_path / "pulled"), [packed.KEY.public])
    assert found["digest"] == manifest["annotations"]["vnd.edgedeploy.release.digest"]
    assert found["signers"] == [packed.KEY.id]


def test_equal_files_are_one_blob(layout: Path) -> None:
    """Four boards, two models that differ by the name of a tensor: two contents."""
    _, manifest = manifest_of(layout)
    models = [
        layer["digest"]
        for layer in manifest["layers"]
        if layer["annotations"]["org.opencontainers.image.title"].endswith(".ort")
    ]
    assert (len(models), len(set(models))) == (8, 2)


def test_the_same_bundle_gives_the_same_layout(layout: Path, tmp_path: Path) -> None:
    """To the last byte."""
    again = layout_of(packed.write(tmp_path), tmp_path / "else")
    files = [path.relative_to(layout) for path in layout.rglob("*") if path.is_file()]
    assert sorted(files) == sorted(
        path.relative_to(again) for path in again.rglob("*") if path.is_file()
    )
    assert all((layout / path).read_bytes() == (again / path).read_bytes() for path in files)


def test_a_version_that_is_no_tag_is_refused(tmp_path: Path) -> None:
    """A tag has no `+`."""
    with pytest.raises(UsageError, match="cannot be a tag") as caught:
        layout_of(packed.write(tmp_path, version="1.0+local"), tmp_path / "packages")
    assert caught.value.diagnostics[0].code == "E760"


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="needs skopeo")
def test_another_implementation_copies_it(layout: Path, tmp_path: Path) -> None:
    """Skopeo finds it by its tag, checks every digest, and copies every blob."""
    goal = tmp_path / "copy"
    command = ["skopeo", "--insecure-policy", "copy", "-q", f"oci:{layout}:1.2.0", f"dir:{goal}"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    _, manifest = manifest_of(layout)
    assert json.loads((goal / "manifest.json").read_bytes()) == manifest
    for layer in manifest["layers"]:
        assert (goal / layer["digest"].removeprefix("sha256:")).read_bytes() == blob(layout, layer)
