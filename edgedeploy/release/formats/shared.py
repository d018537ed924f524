"""What several formats take from a bundle."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from edgedeploy.errors import UsageError
from edgedeploy.release.bundle import ENVELOPE, MANIFEST, Release, ReleaseTarget, Role
from edgedeploy.release.content import Content, bundled
from edgedeploy.release.opening import Bundle

BESIDE: frozenset[Role] = frozenset({"file", "labels", "licence", "sbom", "provenance"})
"""Roles of files that go with an app whatever the target; golden samples stay in the bundle."""


def vouchers(bundle: Bundle) -> dict[str, Content]:
    """Return manifest and signatures, which every package embeds so that an app can verify."""
    return {MANIFEST: bundle.release.manifest, ENVELOPE: bundle.envelope}


def beside(bundle: Bundle) -> dict[str, Content]:
    """Return by path the files that go with an app whatever the target."""
    return {
        file.path: bundled(bundle, file.path)
        for file in bundle.release.files
        if file.role in BESIDE
    }


def loaded(bundle: Bundle, targets: Collection[ReleaseTarget]) -> dict[str, Content]:
    """Return by path the files that the runtimes of some targets load."""
    return {
        file.path: bundled(bundle, file.path)
        for target in targets
        for model in target.models
        for file in bundle.release.files_of(target, model)
    }


def shared_folders(release: Release, targets: Collection[ReleaseTarget]) -> Mapping[str, str]:
    """Return for each target the first of them that loads the same files under the same names.

    A package holds those once: a board often gets the same artifact as another.
    """
    first: dict[tuple[tuple[str, str], ...], str] = {}
    found = {}
    for target in targets:
        files = tuple(
            (file.path.removeprefix(f"{target.target}/"), file.sha256)
            for model in target.models
            for file in release.files_of(target, model)
        )
        found[target.target] = first.setdefault(files, target.target)
    return found


def licence_expression(release: Release) -> str | None:
    """Return one SPDX expression for all of a release; None where it names no licence."""
    names = sorted({licence.spdx for licence in release.licences})
    wrapped = (f"({name})" if " OR " in name and len(names) > 1 else name for name in names)
    return " AND ".join(wrapped) or None


def unfit(kind: str, why: str, hint: str) -> UsageError:
    """Return the refusal of a release that a format cannot hold (E760)."""
    return UsageError(
        f"no package of the format {kind} can be made: {why}", code="E760", subject=kind, hint=hint
    )
