"""From a request to a checked plan: profile, targets, cross-check."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgedeploy.config.search import target_folders
from edgedeploy.errors import Diagnostic, ProfileError
from edgedeploy.manifest import digest, file_sha256
from edgedeploy.memory import Memory
from edgedeploy.plan import Plan, make_plan
from edgedeploy.profile.expand import expand, profile_from_expanded, targets_from_expanded
from edgedeploy.profile.types import Profile
from edgedeploy.target.types import Target
from edgedeploy.toolchain import PACKAGE, code_digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Which profile, and how it is changed before anything else.

    Attributes:
        profile: The YAML file.
        sets: ``key.key=value`` changes.
        targets: Only these target ids (glob patterns); empty takes all.
        target_path: Folders searched first for targets.
    """

    profile: Path
    sets: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    target_path: tuple[Path, ...] = ()


def open_profile(request: Request, memory: Memory | None = None) -> tuple[Plan, list[Diagnostic]]:
    """Load and check a profile and make its plan.

    Args:
        request: Which profile.
        memory: Where an expansion that is still true may be found.

    Returns:
        The plan, and notes and warnings.

    Raises:
        ProfileError: The profile or a target is refused; holds every finding.
        ModelError: A model file is missing.
        DataError: A data source is missing.
    """
    remembered = _remembered(request, memory) if memory else None
    if remembered is None:
        profile, targets, notes = load(request)
        if memory is not None:
            _remember(request, memory, profile, targets, notes)
    else:
        profile, targets, notes = remembered
    return make_plan(_only(profile, request.targets), targets), notes


def load(request: Request) -> tuple[Profile, dict[str, Target], list[Diagnostic]]:
    """Read the profile and its targets; return them with notes and warnings.

    Raises:
        ProfileError: Anything is refused; holds every finding.
    """
    from edgedeploy.profile.check import cross_check
    from edgedeploy.profile.load import load_profile
    from edgedeploy.target.library import TargetLibrary

    library = TargetLibrary(option=request.target_path, project=request.profile.parent)
    profile = load_profile(request.profile, sets=request.sets, library=library)
    targets = {use.target: library.load(use.target) for use in profile.targets}
    found = cross_check(profile, targets)
    errors = [item for item in found if item.severity == "error"]
    if errors:
        raise ProfileError(errors)
    return profile, targets, found


def still_expands(request: Request, memory: Memory) -> bool:
    """Whether the files that the request was expanded from are as they were remembered."""
    return _remembered(request, memory) is not None


def _only(profile: Profile, patterns: Sequence[str]) -> Profile:
    """Return the profile with the targets that match any of the patterns (all without any)."""
    if not patterns:
        return profile
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(use.target, pattern) for use in profile.targets):
            names = ", ".join(use.target for use in profile.targets)
            raise ProfileError(
                f"the profile has no target {pattern!r}",
                code="E185",
                subject=pattern,
                hint=f"it has: {names}",
            )
    kept = tuple(
        use
        for use in profile.targets
        if any(fnmatch.fnmatchcase(use.target, pattern) for pattern in patterns)
    )
    return replace(profile, targets=kept)


# -- the shortcut of a run that finds nothing changed: no YAML, no schema --------------------


def _request_key(request: Request) -> str:
    return digest(
        "expansion",
        {
            "sets": list(request.sets),
            "target_path": [str(path.absolute()) for path in request.target_path],
            "code": code_digest(
                ("config", "parameters", "profile", "target", "tasks"), PACKAGE / "opening.py"
            ),
        },
    )


def _look(request: Request) -> dict[str, Any]:
    """Return the state of every file that could change what the request expands to."""
    folder = request.profile.parent
    files = [request.profile, folder / "data.yaml"]
    for place in target_folders(option=request.target_path, project=folder):
        files += sorted(place.path.glob("*/*.yaml"))
    return {str(path.absolute()): file_sha256(path) if path.is_file() else "" for path in files}


def _remember(
    request: Request,
    memory: Memory,
    profile: Profile,
    targets: dict[str, Target],
    notes: list[Diagnostic],
) -> None:
    memory.expanded = {
        "request": _request_key(request),
        "files": _look(request),
        "form": expand(profile, targets),
        "notes": [item.to_json() for item in notes],
    }


def _remembered(
    request: Request, memory: Memory
) -> tuple[Profile, dict[str, Target], list[Diagnostic]] | None:
    known = memory.expanded
    if known.get("request") != _request_key(request) or known["files"] != _look(request):
        return None
    form = known["form"]
    profile = profile_from_expanded(form, request.profile.parent, request.profile)
    notes = [Diagnostic.from_json(item) for item in known["notes"]]
    return profile, targets_from_expanded(form), notes
