"""Small wheels that pip takes for real ones, in a folder that stands for a package index."""

import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path


def make_wheel(
    folder: Path,
    name: str,
    version: str,
    tags: str,
    files: Mapping[str, str | bytes],
    needs: tuple[str, ...] = (),
) -> Path:
    """Write a wheel into a folder and return its path.

    Args:
        folder: Existing folder.
        name, version: Of the distribution.
        tags: Such as ``cp311-cp311-manylinux_2_28_aarch64``.
        files: Content by path.
        needs: Its requirements.
    """
    info = f"{name}-{version}.dist-info"
    metadata = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", "License: MIT"]
    metadata += [f"Requires-Dist: {need}" for need in needs]
    path = folder / f"{name}-{version}-{tags}.whl"
    wheel = ["Wheel-Version: 1.0", "Root-Is-Purelib: false", *(f"Tag: {tags}" for _ in "1")]
    with zipfile.ZipFile(path, "w") as archive:
        for inner, content in files.items():
            archive.writestr(inner, content)
        archive.writestr(f"{info}/METADATA", "\n".join(metadata) + "\n\n")
        archive.writestr(f"{info}/WHEEL", "\n".join(wheel) + "\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


def sha256(path: Path) -> str:
    """Return the digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def runtime_module(version: str, extra: str = "") -> dict[str, str | bytes]:
    """Return the files of a package that says it is ONNX Runtime."""
    return {"onnxruntime/__init__.py": f"import numpy\n__version__ = {version!r}\n{extra}"}


def numpy_module() -> dict[str, str | bytes]:
    """Return the files of a package that says it is NumPy."""
    return {"numpy/__init__.py": "__version__ = '0'\n"}
