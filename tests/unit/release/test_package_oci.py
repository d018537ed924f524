"""OCI image layouts: the rules of the image specification, and what a client pulls."""

from pathlib import Path

import packed
import pytest

from edgedeploy.errors import UsageError
from edgedeploy.release import verify_file
from edgedeploy.release.packages import write_packages
from tests.packages.oci import check_layout, copy, manifest_of, needs_skopeo, pull


def layout_of(bundle: Path, folder: Path) -> Path:
    """Write an image layout of a bundle and return it."""
    (package,) = write_packages(bundle, packed.TRUSTED, ["oci"], folder)
    return package.paths[0]


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image layout of a release."""
    folder = tmp_path_factory.mktemp("oci")
    return layout_of(packed.write(folder), folder)


def test_the_layout_keeps_the_rules_of_the_specification(layout: Path) -> None:
    """And says under which licences it is."""
    manifest = check_layout(layout, "1.2.0")
    assert manifest["annotations"]["org.opencontainers.image.licenses"].startswith("Apache-2.0")


def test_what_is_pulled_is_a_release_that_verifies(layout: Path, tmp_path: Path) -> None:
    """Each layer under its title, as ORAS restores files; the device's own check takes it."""
    manifest = pull(layout, tmp_path / "pulled")
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


@needs_skopeo
def test_another_implementation_copies_it(layout: Path, tmp_path: Path) -> None:
    """Skopeo finds it by its tag, checks every digest, and copies every blob."""
    copy(layout, "1.2.0", tmp_path / "copy")
