"""Python wheels: one for every machine that the release is for, with typed classes of its models.

Sources: PyPA, "Binary distribution format" and "Core metadata" 2.4; PEP 639 for licences. Members
are stored in our one form of a zip archive. The runtimes are extras, because each comes under
several names (``onnxruntime-gpu``), and whichever is installed is used.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from packaging.utils import InvalidName, canonicalize_name
from packaging.version import InvalidVersion, Version

from edgedeploy.release.archive import write_archive
from edgedeploy.release.bundle import Release, ReleaseTarget
from edgedeploy.release.content import Content, parts_of, size_of
from edgedeploy.release.formats import Format
from edgedeploy.release.formats.shared import (
    beside,
    licence_expression,
    loaded,
    shared_folders,
    unfit,
    vouchers,
)
from edgedeploy.release.formats.wheel_source import module_source, takes_pixels
from edgedeploy.release.identifiers import identifiers
from edgedeploy.release.interface import interface_of
from edgedeploy.release.opening import Bundle

RUNTIMES: Mapping[str, str] = {"ort": "onnxruntime", "openvino": "openvino"}
"""Runtimes that a wheel can load, and the package that each is in."""

_HERE = Path(__file__).parent
_COPIES: Mapping[str, Path] = {
    "_loading.py": _HERE / "wheel_loading.py",
    "_verify.py": _HERE.parent / "verify_file.py",
}
_PIXELS = _HERE.parents[1] / "data/pixels.py"
_OLDEST_PYTHON = "3.9"


class Wheel:
    """A wheel; an :class:`edgedeploy.release.formats.Format`."""

    name = "wheel"

    def suits(self, release: Release) -> tuple[ReleaseTarget, ...]:
        """Return the targets with a Python and a runtime that the wheel can load."""
        return tuple(
            target
            for target in release.targets
            if target.os in ("linux", "macos") and target.runtime in RUNTIMES
        )

    def write(self, bundle: Bundle, folder: Path) -> tuple[Path, ...]:
        """Write ``NAME-VERSION-py3-none-any.whl``.

        Raises:
            UsageError: Name or version cannot be a Python package's (E760), or as
                :func:`edgedeploy.release.formats.wheel_source.module_source`.
            OSError: The disk refuses.
        """
        release, targets = bundle.release, self.suits(bundle.release)
        name, version = _named(release)
        stem = f"{name.replace('-', '_')}-{version}"
        module = identifiers([release.name], "snake", "python", kind="model")[release.name]
        places = shared_folders(release, targets)
        first = [target for target in targets if places[target.target] == target.target]
        held = loaded(bundle, first) | beside(bundle) | vouchers(bundle)
        members: dict[str, Content] = {
            f"{module}/release/{path}": content for path, content in held.items()
        }
        members |= {f"{module}/{name}": path.read_bytes() for name, path in _COPIES.items()}
        interfaces = [interface_of(model) for target in targets for model in target.models]
        if takes_pixels(interfaces):
            members[f"{module}/_pixels.py"] = _PIXELS.read_bytes()
        members[f"{module}/py.typed"] = b""
        members[f"{module}/__init__.py"] = module_source(release, targets, places).encode()
        members |= _about(bundle, f"{stem}.dist-info", name, str(version), targets)
        members[f"{stem}.dist-info/RECORD"] = _record(members, f"{stem}.dist-info/RECORD")
        goal = folder / f"{stem}-py3-none-any.whl"
        write_archive(goal, members)
        return (goal,)


def _named(release: Release) -> tuple[str, Version]:
    try:
        return canonicalize_name(release.name, validate=True), Version(release.version)
    except InvalidName as error:
        raise unfit(
            "wheel",
            f"{release.name!r} is no name of a Python package",
            "use letters, digits, and single `-`, `_` or `.` between them",
        ) from error
    except InvalidVersion as error:
        raise unfit(
            "wheel",
            f"{release.version!r} is no version of a Python package",
            "use a version such as 1.2.0, 1.2.0rc1 or 2026.11 (PEP 440)",
        ) from error


def _about(
    bundle: Bundle, place: str, name: str, version: str, targets: tuple[ReleaseTarget, ...]
) -> dict[str, Content]:
    """Return the files of ``.dist-info``, but for the record."""
    release = bundle.release
    licences = sorted({item.file for item in release.licences if item.file is not None})
    kept: dict[str, Content] = {f"{place}/licenses/{path}": bundle.read(path) for path in licences}
    metadata = [
        "Metadata-Version: 2.4",
        f"Name: {name}",
        f"Version: {version}",
        f"Summary: Models of {release.name}, ready to load",
        f"Requires-Python: >={_OLDEST_PYTHON}",
        "Requires-Dist: numpy",
        *_extras(targets),
    ]
    expression = licence_expression(release)
    if expression is not None:
        metadata.append(f"License-Expression: {expression}")
        metadata += [f"License-File: {path}" for path in licences]
    wheel = [
        "Wheel-Version: 1.0",
        f"Generator: {release.made_by}",
        "Root-Is-Purelib: true",
        "Tag: py3-none-any",
    ]
    kept[f"{place}/METADATA"] = _lines(metadata)
    kept[f"{place}/WHEEL"] = _lines(wheel)
    return kept


def _extras(targets: tuple[ReleaseTarget, ...]) -> Iterator[str]:
    """Yield an extra per runtime, with the range that all of its targets allow."""
    for runtime in sorted({target.runtime for target in targets}):
        ranges = sorted({item.runtime_versions for item in targets if item.runtime == runtime})
        yield f"Provides-Extra: {runtime}"
        yield f'Requires-Dist: {RUNTIMES[runtime]}{",".join(ranges)}; extra == "{runtime}"'


def _lines(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _record(members: Mapping[str, Content], own: str) -> bytes:
    """Return RECORD: path, digest and size of every member, sorted, and itself without either."""
    lines = []
    for path in sorted(members):
        found = hashlib.sha256()
        for part in parts_of(members[path], path):
            found.update(part)
        digest = base64.urlsafe_b64encode(found.digest()).rstrip(b"=").decode()
        lines.append(f"{_quoted(path)},sha256={digest},{size_of(members[path])}")
    return _lines([*lines, f"{own},,"])


def _quoted(path: str) -> str:
    """Return a path as a field of CSV (RFC 4180)."""
    if not set(path) & set(',"\r\n'):
        return path
    return '"' + path.replace('"', '""') + '"'


FORMAT: Format = Wheel()
