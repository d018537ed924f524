"""Packages for apps: each a pure function of a bundle that was checked.

A format is one file here with a ``FORMAT``; the same bundle gives the same bytes, wherever and
whenever it is written, and nothing in a package comes from anywhere else.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from edgedeploy.errors import UsageError
from edgedeploy.release.bundle import Release, ReleaseTarget
from edgedeploy.release.opening import Bundle

FORMATS: Mapping[str, str] = {
    "android": "AAR in a Maven repository, with typed Java and Kotlin, for Android apps",
    "cmake": "CMake package: a C++ header over the C interface of ONNX Runtime, and a find module",
    "debian": "Debian packages: a versioned path, and a link that is switched in one step",
    "npm": "npm package for browsers: ONNX Runtime Web, TypeScript types",
    "oci": "OCI image layout: the release as an artifact of a registry, for ORAS",
    "ortpackage": "ONNX Runtime model packages: folders that the runtime selects from and runs",
    "swift": "Swift package for iOS and macOS: Core ML and ONNX Runtime, with tests that measure",
    "wheel": "Python wheel that picks the artifact for the machine, with typed classes",
}
"""Name -> what it is; each lives in ``formats/<name>.py``."""

FITTING: Mapping[str, str] = {
    "android": "android-arm64/ort",
    "cmake": "linux-x86-64/ort",
    "debian": "linux-x86-64/ort",
    "npm": "web/ort",
    "oci": "linux-x86-64/ort",
    "ortpackage": "linux-x86-64/ort",
    "swift": "ios17/coreml",
    "wheel": "linux-x86-64/ort",
}
"""Name -> a target that suits it, to be named to whoever has none."""


class Format(Protocol):
    """One kind of package.

    Attributes:
        name: Key in :data:`FORMATS`.
    """

    name: str

    def suits(self, release: Release) -> tuple[ReleaseTarget, ...]:
        """Return the targets of a release that a package of this kind can hold."""

    def write(self, bundle: Bundle, folder: Path) -> tuple[Path, ...]:
        """Write the package into an existing empty folder; return what a user takes from there.

        Args:
            bundle: What is packaged; at least one of its targets suits.
            folder: Where to write.

        Raises:
            UsageError: The release cannot be packaged so (E760).
            OSError: The disk refuses.
        """


def load_format(name: str) -> Format:
    """Return a format by name.

    Raises:
        UsageError: There is none (E761).
    """
    if name not in FORMATS:
        raise UsageError(
            f"there is no package format {name!r}",
            code="E761",
            subject=name,
            hint=f"use one of: {', '.join(FORMATS)}",
        )
    found: Format = importlib.import_module(f"{__name__}.{name}").FORMAT
    return found
