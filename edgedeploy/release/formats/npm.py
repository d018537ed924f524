"""npm packages: models for ONNX Runtime Web with typed classes, as an archive that npm installs.

Members, names and dates of the archive have one form; npm reads any. Sources: npm documentation,
"package.json" and "npm pack"; Node.js documentation, "Packages" (exports, conditions); Semantic
Versioning 2.0.0; validate-npm-package-name, README, for what a package may be called.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgedeploy.release.bundle import Release, ReleaseTarget
from edgedeploy.release.content import Content
from edgedeploy.release.formats import Format
from edgedeploy.release.formats.npm_readme import readme
from edgedeploy.release.formats.npm_sources import (
    PIXELS,
    RUNTIME,
    Wrapped,
    declarations,
    script,
    takes_pixels,
    wrapped,
)
from edgedeploy.release.formats.shared import beside, licence_expression, loaded, unfit, vouchers
from edgedeploy.release.opening import Bundle
from edgedeploy.release.tarball import Entry, write_tar

FILES = "release"
"""Folder of the package that holds files of the release, under the paths of its manifest."""

RUNTIME_SOURCE = Path(__file__).with_name("npm_runtime.js")
PIXELS_SOURCE = Path(__file__).with_name("npm_pixels.js")
_PEER = "onnxruntime-web"
_SYSTEM, _ENDING = "web", ".ort"
_TOP = "package"  # the one folder that npm looks into

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,213}")
_NO_NAMES = frozenset({"node_modules", "favicon.ico"})
_PART = r"(?:0|[1-9][0-9]*)"
_PRE = rf"(?:{_PART}|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
_VERSION = re.compile(
    rf"{_PART}\.{_PART}\.{_PART}(?:-{_PRE}(?:\.{_PRE})*)?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?"
)


class Npm:
    """An npm package; an :class:`edgedeploy.release.formats.Format`."""

    name = "npm"

    def suits(self, release: Release) -> tuple[ReleaseTarget, ...]:
        """Return the targets for browsers whose models ONNX Runtime Web loads."""
        return tuple(
            target
            for target in release.targets
            if target.os == _SYSTEM
            and all(model.entry.endswith(_ENDING) for model in target.models)
        )

    def write(self, bundle: Bundle, folder: Path) -> tuple[Path, ...]:
        """Write ``NAME-VERSION.tgz``.

        Raises:
            UsageError: npm cannot have the name or the version, there are several targets for
                browsers, or a model takes or gives what JavaScript cannot hold (E760).
            OSError: The disk refuses.
        """
        release = bundle.release
        target = _checked(self.suits(release), release)
        models = wrapped(target, _labels(bundle, target))
        contents: dict[str, Content] = {
            "README.md": readme(release, models, _PEER).encode(),
            "index.d.ts": declarations(release, models).encode(),
            "index.js": script(release, models, FILES).encode(),
            "package.json": _package_json(release, target, models),
            RUNTIME: RUNTIME_SOURCE.read_bytes(),
        }
        if takes_pixels(models):
            contents[PIXELS] = PIXELS_SOURCE.read_bytes()
        kept = {**vouchers(bundle), **beside(bundle), **loaded(bundle, [target])}
        contents |= {f"{FILES}/{path}": content for path, content in kept.items()}
        goal = folder / f"{release.name}-{release.version}.tgz"
        entries = [
            Entry(path=f"{_TOP}/{path}", content=content) for path, content in contents.items()
        ]
        write_tar(goal, entries, gzip=True)
        return (goal,)


def _checked(targets: Sequence[ReleaseTarget], release: Release) -> ReleaseTarget:
    if not _NAME.fullmatch(release.name) or release.name in _NO_NAMES:
        raise unfit(
            "npm",
            f"npm has no package called {release.name!r:.100}",
            "a profile's name that npm takes has small letters, digits, `-`, `_` and `.`",
        )
    if not _VERSION.fullmatch(release.version):
        raise unfit(
            "npm",
            f"{release.version!r:.100} is no version of npm's",
            'use a semantic version, such as `version: "1.2.0"`, in the profile',
        )
    if len(targets) > 1:
        raise unfit(
            "npm",
            f"it has several targets for browsers: {', '.join(item.target for item in targets)}",
            "keep one of them in the profile",
        )
    return targets[0]


def _labels(bundle: Bundle, target: ReleaseTarget) -> Mapping[str, tuple[str, ...]]:
    paths = {model.labels for model in target.models if model.labels is not None}
    return {path: tuple(_lines(bundle.read(path))) for path in sorted(paths)}


def _lines(content: bytes) -> list[str]:
    # Not str.splitlines, which ends a line at characters that a class may hold.
    return re.split(r"\r?\n", content.decode().removesuffix("\n"))


def _package_json(release: Release, target: ReleaseTarget, models: Sequence[Wrapped]) -> bytes:
    names = ", ".join(item.model.name for item in models)
    about: dict[str, Any] = {
        "name": release.name,
        "version": release.version,
        "description": f"{release.name} {release.version} for browsers: {names}",
    }
    licence = licence_expression(release)
    if licence is not None:
        about["license"] = licence
    about |= {
        "type": "module",
        "sideEffects": False,
        "types": "./index.d.ts",
        "exports": {
            ".": {"types": "./index.d.ts", "default": "./index.js"},
            f"./{FILES}/*": f"./{FILES}/*",
            "./package.json": "./package.json",
        },
        "files": [
            *("index.js", "index.d.ts", RUNTIME),
            *([PIXELS] if takes_pixels(models) else []),
            FILES,
        ],
        "peerDependencies": {_PEER: _range(target.runtime_versions)},
    }
    return (json.dumps(about, indent=2, ensure_ascii=False) + "\n").encode()


def _range(versions: str) -> str:
    """Return a range of versions as npm writes it: ``>=1.17,<2`` is ``>=1.17 <2``."""
    return " ".join(part.strip() for part in versions.split(","))


FORMAT: Format = Npm()
