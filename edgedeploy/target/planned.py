"""The schemes of runtimes that nothing can be built for yet: ``targets/planned.yaml``."""

from __future__ import annotations

import hashlib
import json

from edgedeploy.config.bundled import bundled_folder
from edgedeploy.config.read import read_document
from edgedeploy.config.validation import schema_diagnostics
from edgedeploy.errors import ProfileError
from edgedeploy.target.library import plain
from edgedeploy.target.types import Target


def planned_targets() -> dict[str, Target]:
    """Return, by name, what is known of runtimes without a backend.

    Their fields are those of a target's ``runtime``, as far as they tell which schemes are legal
    and which are fast. A profile cannot name them.

    Raises:
        ProfileError: The file, which ships with edgedeploy, is damaged.
    """
    from pydantic import ValidationError

    from edgedeploy.target.schema import PlannedFile

    document = read_document(bundled_folder() / "targets" / "planned.yaml")
    try:
        checked = PlannedFile.model_validate(document.data).model_dump(exclude_unset=True)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        raise ProfileError(schema_diagnostics(errors, PlannedFile, document)) from error
    found: dict[str, Target] = {}
    for name, entry in checked["planned"].items():
        sources: dict[str, str] = {}
        fields = {"runtime": plain(entry, "runtime", sources)}
        canonical = json.dumps({"fields": fields, "sources": sources}, sort_keys=True)
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        found[name] = Target(id=name, fields=fields, sources=sources, digest=digest)
    return found
