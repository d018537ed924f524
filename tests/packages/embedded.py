"""The files of the release that lie in a package, by their paths in the manifest."""

import subprocess
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path

from tests.packages import oci

Files = dict[str, bytes]


def below(files: Mapping[str, bytes], folder: str) -> Files:
    """Return what lies below a folder, by the rest of the path."""
    return {
        path.removeprefix(folder): content
        for path, content in files.items()
        if path.startswith(folder)
    }


def _tree(place: Path) -> Files:
    found = (path for path in place.rglob("*") if path.is_file())
    return {path.relative_to(place).as_posix(): path.read_bytes() for path in found}


def _zip(archive: Path) -> Files:
    with zipfile.ZipFile(archive) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def _tar(content: bytes) -> Files:
    found = {}
    with tarfile.open(fileobj=BytesIO(content)) as opened:
        for member in opened:
            file = opened.extractfile(member) if member.isfile() else None
            if file is not None:
                found[member.name] = file.read()
    return found


def _android(paths: list[Path], name: str, scratch: Path) -> Files:
    (archive,) = paths[0].rglob("*.aar")
    return below(_zip(archive), f"assets/edgedeploy/{name}/")


def _debian(paths: list[Path], name: str, scratch: Path) -> Files:
    data = subprocess.check_output(["dpkg-deb", "--fsys-tarfile", paths[0]])
    return below(_tar(data), f"./opt/{name}/package/")


def _oci(paths: list[Path], name: str, scratch: Path) -> Files:
    oci.pull(paths[0], scratch)
    return _tree(scratch)


def _ortpackage(paths: list[Path], name: str, scratch: Path) -> Files:
    files = _tree(paths[0])
    ours = below(files, "edgedeploy/")
    board = paths[0].stem.split("-", 2)[2]
    models = {
        f"{board}/ort/{path}": content
        for path, content in files.items()
        if path != "manifest.json" and not path.startswith("edgedeploy/")
    }
    return ours | models


def _swift(paths: list[Path], name: str, scratch: Path) -> Files:
    return _tree(paths[0] / f"Sources/{name.title()}Models/release")


EMBEDDED: Mapping[str, Callable[[list[Path], str, Path], Files]] = {
    "android": _android,
    "cmake": lambda paths, name, scratch: _tree(paths[0] / "release"),
    "debian": _debian,
    "npm": lambda paths, name, scratch: below(_tar(paths[0].read_bytes()), "package/release/"),
    "oci": _oci,
    "ortpackage": _ortpackage,
    "swift": _swift,
    "wheel": lambda paths, name, scratch: below(_zip(paths[0]), f"{name}/release/"),
}
"""By format: a function of what a user takes, the release's name and a folder for scratch files.

The name is one word, so that it is the same in every language.
"""
