"""Reading a deployment profile: YAML, schema, and everything that can be said without a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from edgedeploy.config.document import Document, by_place
from edgedeploy.config.forbidden import forbidden_key
from edgedeploy.config.read import read_document
from edgedeploy.config.validation import MAX_FINDINGS, schema_diagnostics
from edgedeploy.errors import Diagnostic, EdgedeployError, Place, ProfileError
from edgedeploy.profile.overrides import apply_sets
from edgedeploy.profile.semantics import semantic_diagnostics, target_ids
from edgedeploy.profile.types import Profile
from edgedeploy.target.library import TargetLibrary

FORM_VERSION = 1
"""The number behind ``edgedeploy:`` that this version reads."""


def load_profile(
    path: Path, *, sets: Sequence[str] = (), library: TargetLibrary | None = None
) -> Profile:
    """Return the profile in ``path``.

    Args:
        path: The YAML file.
        sets: ``key.key=value`` changes, applied in order before anything is checked.
        library: Where target ids are looked up; by default the search path of the profile's folder.

    Raises:
        ProfileError: Anything is wrong; holds every finding, sorted by place.
    """
    document = read_document(path)
    _check_form(document)
    apply_sets(document, sets)
    folder = path.parent
    library = TargetLibrary(project=folder) if library is None else library
    return _validated(document, folder, path, library)


def _check_form(document: Document) -> None:
    """Refuse a file that is no profile of this form, before its keys are judged by it."""
    data = document.data
    if not isinstance(data, dict):
        raise ProfileError(
            document.diagnostic(
                "E106",
                "a profile is a map of keys, and this is not",
                (),
                hint="start with `edgedeploy: 1`; `edgedeploy init model.onnx` writes a start",
            )
        )
    if "edgedeploy" not in data:
        raise ProfileError(
            document.diagnostic(
                "E130",
                "the first key `edgedeploy` is missing",
                (),
                hint=f"add `edgedeploy: {FORM_VERSION}` as the first line",
            )
        )
    number = data["edgedeploy"]
    at = ("edgedeploy",)
    if isinstance(number, bool) or not isinstance(number, int):
        found = document.diagnostic(
            "E130",
            "`edgedeploy` is the number of the profile's form",
            at,
            hint=f"write `edgedeploy: {FORM_VERSION}`",
        )
    elif number < FORM_VERSION:
        found = document.diagnostic(
            "E131",
            f"there is no profile form {number}; the first and only one is {FORM_VERSION}",
            at,
            hint=f"write `edgedeploy: {FORM_VERSION}`",
        )
    elif number > FORM_VERSION:
        found = document.diagnostic(
            "E132",
            f"the profile has the newer form {number}; this version reads {FORM_VERSION}",
            at,
            hint="update edgedeploy (`pip install --upgrade edgedeploy`)",
        )
    elif next(iter(data)) != "edgedeploy":
        found = document.diagnostic(
            "E130",
            "`edgedeploy` is not the first key",
            at,
            key=True,
            hint="move it to the first line",
        )
    else:
        return
    raise ProfileError(found)


def _validated(document: Document, folder: Path, file: Path, library: TargetLibrary) -> Profile:
    from pydantic import ValidationError

    from edgedeploy.profile.convert import to_profile
    from edgedeploy.profile.preset import apply_tasks
    from edgedeploy.profile.schema import ProfileSchema

    found = [
        *apply_tasks(document),
        *islice(semantic_diagnostics(document), MAX_FINDINGS),
        *islice(_targets(document, library), MAX_FINDINGS),
    ]
    schema = None
    try:
        schema = ProfileSchema.model_validate(document.data)
    except ValidationError as error:
        found.extend(
            schema_diagnostics(
                error.errors(include_url=False),
                ProfileSchema,
                document,
                unknown_key=forbidden_key,
            )
        )
    if schema is None or found:
        raise ProfileError(sorted(found, key=by_place))
    return to_profile(schema, folder=folder, file=file, places=places_of_targets(document))


def places_of_targets(document: Document) -> dict[str, Place]:
    """Return where each target id stands."""
    found = {}
    for path, target, is_key in target_ids(document.data):
        place = document.place(path, key=is_key)
        if place is not None:
            found[target] = place
    return found


def _targets(document: Document, library: TargetLibrary) -> Iterator[Diagnostic]:
    """Yield a finding for each target id that is unknown, unbuilt, not served or named twice."""
    seen: dict[str, int] = {}
    for path, target, is_key in target_ids(document.data):
        if target in seen:
            yield document.diagnostic(
                "E141",
                f"the target `{target}` stands twice",
                path,
                hint="name each target once; overrides go into the map form",
            )
            continue
        seen[target] = 1
        try:
            library.load(target)
        except EdgedeployError as error:
            for item in error.diagnostics:
                if item.place is not None:
                    yield item
                else:
                    yield document.diagnostic(
                        item.code, item.message, path, key=is_key, hint=item.hint
                    )
