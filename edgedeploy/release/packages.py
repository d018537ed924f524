"""Packages of a release, one folder per format."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgedeploy.disk import disk_errors
from edgedeploy.errors import UsageError
from edgedeploy.manifest import canonical
from edgedeploy.publish import replacing, sweep
from edgedeploy.release.believing import believed
from edgedeploy.release.bundle import Release
from edgedeploy.release.formats import FITTING, FORMATS, Format, load_format
from edgedeploy.release.opening import NOBODY, Bundle, open_bundle

ALL = "all"
"""Stands for every format that suits a release."""

ABOUT = "edgedeploy-package.json"
"""File beside a package that says what it was made from; it marks the folder as ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageOptions:
    """How packages are made.

    Attributes:
        formats: Names of formats, or ``all``.
        keys: Files of the public keys that are believed.
        trust: Trust file whose keys are believed too; None: there is none.
        folder: Gets one folder per format.
    """

    formats: tuple[str, ...]
    keys: tuple[Path, ...] = ()
    trust: Path | None = None
    folder: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A package that was written: for which targets, and what a user takes from its folder."""

    format: str
    targets: tuple[str, ...]
    paths: tuple[Path, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return {
            "format": self.format,
            "targets": list(self.targets),
            "paths": [str(path) for path in self.paths],
        }


def package(path: Path, options: PackageOptions) -> tuple[Package, ...]:
    """Check a bundle and write packages of it.

    Raises:
        UsageError: As :func:`edgedeploy.release.believing.believed`, :func:`formats_for` and
            :func:`write_packages`.
        IntegrityError: As :func:`edgedeploy.release.believing.believed` and
            :func:`edgedeploy.release.opening.open_bundle`.
        StoreError: The disk refuses (E601, E602).
    """
    whom = believed(options.keys, options.trust)
    return write_packages(path, whom.trusted, options.formats, options.folder, whom.revoked)


def formats_for(release: Release, names: Sequence[str]) -> tuple[Format, ...]:
    """Return formats by name, each once, in the order of their table.

    Args:
        release: What is to be packaged.
        names: Names of formats, or ``all``.

    Raises:
        UsageError: There is no such format (E761), or nothing of the release suits it (E760).
    """
    named = [load_format(name) for name in dict.fromkeys(names) if name != ALL]
    for found in named:
        if not found.suits(release):
            raise UsageError(
                f"nothing in {release.name} {release.version} can be put into a package of the "
                f"format {found.name}",
                code="E760",
                subject=found.name,
                hint=f"it holds {', '.join(target.target for target in release.targets)}; "
                f"build for one such as {FITTING[found.name]}",
            )
    if ALL in names:
        named = [found for found in map(load_format, FORMATS) if found.suits(release)]
    return tuple(sorted(named, key=lambda found: list(FORMATS).index(found.name)))


def write_packages(
    path: Path,
    trusted: Mapping[str, bytes],
    names: Sequence[str],
    folder: Path,
    revoked: Mapping[str, str] = NOBODY,
) -> tuple[Package, ...]:
    """Write packages of a bundle, all or none of them, into ``folder/FORMAT/``.

    A folder that holds an earlier package is replaced.

    Args:
        path: The bundle.
        trusted: As :func:`edgedeploy.release.opening.open_bundle`.
        names: As :func:`formats_for`.
        folder: Need not exist.
        revoked: As :func:`edgedeploy.release.opening.open_bundle`.

    Raises:
        UsageError: As :func:`formats_for`, or a folder holds something else than a package (E767).
        IntegrityError: As :func:`edgedeploy.release.opening.open_bundle`.
        StoreError: The disk refuses (E601, E602).
    """
    if not names:
        return ()
    with (
        disk_errors("cannot write the package"),
        open_bundle(path, trusted, revoked) as bundle,
        ExitStack() as replaced,  # when all are written: one that is refused leaves the old ones
    ):
        chosen = formats_for(bundle.release, names)
        for found in chosen:
            _check_place(folder / found.name)
        sweep(folder)
        return tuple(
            _write(found, bundle, place, replaced.enter_context(replacing(place)))
            for found, place in ((found, folder / found.name) for found in chosen)
        )


def _write(found: Format, bundle: Bundle, place: Path, fresh: Path) -> Package:
    """Write a package into a fresh folder that will have the name of a place."""
    targets = tuple(target.target for target in found.suits(bundle.release))
    paths = [at.relative_to(fresh) for at in found.write(bundle, fresh)]
    about = {
        "format": found.name,
        "release": bundle.release.digest,
        "targets": targets,
        "paths": [at.as_posix() for at in paths],
    }
    (fresh / ABOUT).write_bytes(canonical(about))
    return Package(format=found.name, targets=targets, paths=tuple(place / at for at in paths))


def _check_place(place: Path) -> None:
    """Refuse to replace what is not ours."""
    if not os.path.lexists(place):
        return
    if place.is_symlink() or not place.is_dir() or not (place / ABOUT).is_file():
        raise UsageError(
            f"{place} is there already, and holds no package",
            code="E767",
            subject=str(place),
            hint="name another folder; only a folder with an earlier package is replaced",
        )
