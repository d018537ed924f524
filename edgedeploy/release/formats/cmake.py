"""CMake packages: a C++ header with a class per model, over the C interface of ONNX Runtime.

The folder is found by ``find_package(NAME CONFIG)`` where ``CMAKE_PREFIX_PATH`` names it. It holds
the models of every target of the release; the application says at run time where it installed
them and for which target it was built. Source: cmake-packages(7), cmake-developer(7).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from packaging.specifiers import SpecifierSet

from edgedeploy.release.bundle import Release, ReleaseTarget
from edgedeploy.release.content import Content, write_content
from edgedeploy.release.formats import Format
from edgedeploy.release.formats.cmake_source import header_source, takes_pixels
from edgedeploy.release.formats.shared import beside, loaded, shared_folders, unfit, vouchers
from edgedeploy.release.identifiers import identifiers
from edgedeploy.release.interface import interface_of
from edgedeploy.release.opening import Bundle

_FILES = Path(__file__).with_name("cmake_files")
_VERSION = re.compile(r"[0-9]+(\.[0-9]+){0,3}")


class CMake:
    """A CMake package; an :class:`edgedeploy.release.formats.Format`."""

    name = "cmake"

    def suits(self, release: Release) -> tuple[ReleaseTarget, ...]:
        """Return the targets of ONNX Runtime; on phones other packages are usual, but it works."""
        return tuple(target for target in release.targets if target.runtime == "ort")

    def write(self, bundle: Bundle, folder: Path) -> tuple[Path, ...]:
        """Write ``NAME-VERSION-cmake/``.

        Raises:
            UsageError: The version is none of CMake's (E760), or as
                :func:`edgedeploy.release.formats.cmake_source.header_source`.
            OSError: The disk refuses.
        """
        release, targets = bundle.release, self.suits(bundle.release)
        if not _VERSION.fullmatch(release.version):
            raise unfit(
                "cmake",
                f"{release.version!r} is no version that CMake compares",
                "use one to four numbers, such as 1.2.0",
            )
        places = shared_folders(release, targets)
        first = [target for target in targets if places[target.target] == target.target]
        held = loaded(bundle, first) | beside(bundle) | vouchers(bundle)
        files: dict[str, Content] = {f"release/{path}": held[path] for path in held}
        files |= _sources(release, targets, places)
        root = folder / f"{release.name}-{release.version}-cmake"
        for path, content in files.items():
            write_content(root / path, content)
        return (root,)


def _sources(
    release: Release, targets: tuple[ReleaseTarget, ...], places: Mapping[str, str]
) -> dict[str, Content]:
    name = identifiers([release.name], "snake", "cpp", kind="model")[release.name]
    oldest = _oldest(targets)
    values = {
        "NAME": name,
        "NAMESPACE": name,
        "VERSION": release.version,
        "OLDEST": f"1.{oldest}",
        "API_VERSION": str(oldest),
        "VERSIONS": f"1.{oldest} or newer",
    }
    files: dict[str, Content] = {
        f"{name}-config.cmake": _filled("config.cmake", values),
        f"{name}-config-version.cmake": _filled("version.cmake", values),
        "FindOnnxRuntime.cmake": _filled("FindOnnxRuntime.cmake", {}),
        f"include/{name}/session.hpp": _filled("session.hpp", values),
        f"include/{name}/{name}.hpp": header_source(release, targets, places, name).encode(),
    }
    if takes_pixels(interface_of(model) for target in targets for model in target.models):
        files[f"include/{name}/pixels.hpp"] = _filled("pixels.hpp", values)
    return files


def _filled(file: str, values: dict[str, str]) -> bytes:
    text = (_FILES / file).read_text(encoding="utf-8")
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    return text.encode()


def _oldest(targets: tuple[ReleaseTarget, ...]) -> int:
    """Return the second number of the oldest ONNX Runtime that all targets take.

    It is also the version of the C interface that is asked for. Source: onnxruntime_c_api.h,
    ORT_API_VERSION.
    """
    found = [
        int(part.version.split(".")[1])
        for target in targets
        for part in SpecifierSet(target.runtime_versions)
        if part.operator in (">=", "==", "~=") and part.version.startswith("1.")
    ]
    if not found:
        raise unfit(
            "cmake",
            f"{targets[0].runtime_versions!r} names no oldest ONNX Runtime",
            "state one in the target, such as >=1.17",
        )
    return max(found)


FORMAT: Format = CMake()
