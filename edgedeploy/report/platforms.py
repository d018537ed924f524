"""For which platforms the last build made engines, as its document tells."""

from __future__ import annotations

from pathlib import Path

from edgedeploy.engines import KnownPlatforms
from edgedeploy.errors import UsageError
from edgedeploy.gpu import GpuPlatform
from edgedeploy.places import DOCUMENT
from edgedeploy.report.document import BuildDocument, read_document


def known_platforms(document: BuildDocument) -> KnownPlatforms:
    """Return what stands for the devices of a build, to ask for its engines again."""
    return KnownPlatforms(
        {
            (model.name, target.target): tuple(
                GpuPlatform.from_json(engine.platform) for engine in target.engines
            )
            for model in document.models
            for target in model.targets
        }
    )


def last_platforms(folder: Path) -> KnownPlatforms:
    """Return what stands for the devices of the last build, whose results lie in ``folder``."""
    try:
        return known_platforms(read_document(folder / DOCUMENT))
    except UsageError:  # there is none, or it is another edgedeploy's
        return KnownPlatforms({})
