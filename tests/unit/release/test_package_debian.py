"""Debian packages: dpkg itself reads, installs, upgrades and removes them in a scratch root."""

import subprocess
import threading
from pathlib import Path
from typing import Any

import packed
import pytest

from edgedeploy.errors import UsageError
from edgedeploy.release.packages import write_packages
from tests.packages.dpkg import Root, field, needs_dpkg, needs_root

pytestmark = [needs_dpkg, needs_root]
MODEL = "current/models/main/model.ort"


def packages_of(bundle: Path, folder: Path) -> dict[str, Path]:
    """Write the packages of a bundle; by name."""
    (package,) = write_packages(bundle, packed.TRUSTED, ["debian"], folder)
    return {path.name: path for path in package.paths}


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The packages of a release."""
    folder = tmp_path_factory.mktemp("debian")
    return packages_of(packed.write(folder), folder)


def ours(packages: dict[str, Path]) -> Path:
    """Return the package for ONNX Runtime on x86-64."""
    return next(path for name, path in packages.items() if "linux-x86-64-ort" in name)


@pytest.fixture
def root(tmp_path: Path) -> Root:
    """An empty root."""
    return Root(tmp_path / "root")


def test_there_is_one_for_each_target_on_linux(packages: dict[str, Path]) -> None:
    """Named as Debian names packages; dpkg-deb reads the fields."""
    assert list(packages) == [
        "doorbell-intel-cpu-openvino_1.2.0_amd64.deb",
        "doorbell-linux-x86-64-ort_1.2.0_amd64.deb",
        "doorbell-rpi4-ort_1.2.0_arm64.deb",
        "doorbell-rpi5-ort_1.2.0_arm64.deb",
    ]
    deb = ours(packages)
    names = ("Package", "Version", "Architecture", "Edgedeploy-Runtime")
    assert [field(deb, name) for name in names] == [
        "doorbell-linux-x86-64-ort",
        "1.2.0",
        "amd64",
        "ort >=1.17",
    ]
    listed = subprocess.check_output(["dpkg-deb", "--contents", deb], text=True)
    assert "root/root" in listed and "./opt/doorbell/package/models -> linux-x86-64/ort" in listed
    assert subprocess.check_output(["ar", "t", deb], text=True).split() == [
        "debian-binary",
        "control.tar.gz",
        "data.tar.gz",
    ]


def test_installing_makes_a_release_current(packages: dict[str, Path], root: Root) -> None:
    """Under one path for every board; dpkg's own check finds nothing wrong, then a change."""
    root.dpkg("-i", ours(packages))
    assert (root.app / MODEL).stat().st_size > 500
    for name in ("manifest.json", "manifest.dsse.json", "files/config.json", "labels.txt"):
        assert (root.app / "current" / name).is_file()
    released = (root.app / "current").readlink()
    assert str(released).startswith("releases/1.2.0-")
    model = root.app / "package/models/main/model.ort"
    assert (root.app / MODEL).samefile(model)  # no second copy on the disk
    name = "doorbell-linux-x86-64-ort"
    assert root.dpkg("--verify", name) == ""
    model.write_bytes(b"another")
    changed = root.dpkg("--verify", name, status=None)  # it differs by version of dpkg
    assert "opt/doorbell/package/linux-x86-64/ort/main/model.ort" in changed


def watching(path: Path, seen: set[Any], stop: threading.Event) -> None:
    """Read a file again and again, and note whose it is; a read that fails is noted too."""
    while not stop.is_set():
        try:
            seen.add(path.read_bytes())
        except OSError as error:
            seen.add(type(error))


def test_an_upgrade_switches_in_one_step(
    packages: dict[str, Path], root: Root, tmp_path: Path
) -> None:
    """A reader sees the old release or the new one at every moment; the old one stays beside."""
    root.dpkg("-i", ours(packages))
    label = root.app / "current/manifest.json"
    old = label.read_bytes()
    releases, seen = [old], set[Any]()
    stop = threading.Event()
    watcher = threading.Thread(target=watching, args=(label, seen, stop))
    watcher.start()
    try:
        for version in ("1.3.0", "1.4.0"):
            folder = tmp_path / version
            folder.mkdir()
            bundle = packed.write(folder, version=version, counter=int(version[2]) + 1)
            root.dpkg("-i", ours(packages_of(bundle, folder)))
            releases.append(label.read_bytes())
    finally:
        stop.set()
        watcher.join()
    assert len(set(releases)) == 3
    assert old in seen and seen <= set(releases)  # never a part of one, never nothing
    kept = sorted(path.name.partition("-")[0] for path in (root.app / "releases").iterdir())
    assert kept == ["1.3.0", "1.4.0"]
    root.dpkg("--purge", "doorbell-linux-x86-64-ort")
    assert not root.app.exists()


def test_installing_again_changes_nothing(packages: dict[str, Path], root: Root) -> None:
    """Neither the link nor what it leads to."""
    root.dpkg("-i", ours(packages))
    before = (root.app / "current").lstat().st_ino, (root.app / "current").stat().st_ino
    root.dpkg("-i", ours(packages))
    assert ((root.app / "current").lstat().st_ino, (root.app / "current").stat().st_ino) == before


def test_one_target_takes_the_place_of_another(packages: dict[str, Path], root: Root) -> None:
    """They share a path, so only one is installed; apt says what dpkg is told here."""
    root.dpkg("-i", ours(packages))
    other = next(path for name, path in packages.items() if "openvino" in name)
    root.dpkg("-i", other, status=1)
    assert (root.app / MODEL).is_file()
    root.dpkg("--remove", "doorbell-linux-x86-64-ort")
    root.dpkg("-i", other)
    assert (root.app / "current/models/main/model.xml").is_file()


def test_the_same_bundle_gives_the_same_packages(packages: dict[str, Path], tmp_path: Path) -> None:
    """To the last byte."""
    again = packages_of(packed.write(tmp_path), tmp_path / "else")
    assert {name: path.read_bytes() for name, path in again.items()} == {
        name: path.read_bytes() for name, path in packages.items()
    }


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"version": "v1"}, "'v1' is no version of a Debian package"),
        ({"name": "a~b"}, "'a~b' is no name of a Debian package"),
    ],
)
def test_what_cannot_be_a_debian_package_is_refused(
    tmp_path: Path, change: dict[str, str], why: str
) -> None:
    """With the name or version that is wrong."""
    with pytest.raises(UsageError, match=why) as caught:
        packages_of(packed.write(tmp_path, **change), tmp_path / "packages")
    assert caught.value.diagnostics[0].code == "E760"


def test_scripts_are_plain_shell(packages: dict[str, Path], tmp_path: Path) -> None:
    """Which dash, Debian's /bin/sh, parses."""
    subprocess.run(["dpkg-deb", "--control", ours(packages), tmp_path], check=True)
    for name in ("postinst", "postrm"):
        subprocess.run(["sh", "-n", tmp_path / name], check=True)
        assert "@" not in (tmp_path / name).read_text()
