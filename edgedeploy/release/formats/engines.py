"""Engines in packages: one package holds those of one platform, because it does not choose."""

from __future__ import annotations

from edgedeploy.release.bundle import ReleaseEngine, ReleaseModel, ReleaseTarget
from edgedeploy.release.content import Content
from edgedeploy.release.formats.shared import loaded, unfit
from edgedeploy.release.opening import Bundle


def platforms_of(kind: str, target: ReleaseTarget) -> tuple[str, ...]:
    """Return the ids of the platforms that a target has packages for, sorted.

    Those for which every model has an engine; one empty id where no model has several.

    Args:
        kind: The format, for the message.
        target: Of the release.

    Raises:
        UsageError: No platform has an engine of every model (E760).
    """
    if all(len(model.engines) < 2 for model in target.models):
        return ("",)
    built = [
        {engine.platform.id for engine in model.engines if engine.platform is not None}
        for model in target.models
    ]
    found = set.intersection(*built)
    if not found:
        raise unfit(
            kind,
            f"no platform has an engine of every model for {target.target}",
            "build all models with the same devices, then release",
        )
    return tuple(sorted(found))


def engine_on(model: ReleaseModel, platform: str) -> ReleaseEngine | None:
    """Return the engine of a model that a package holds; None for what is no engine.

    Args:
        model: Of the release.
        platform: One of :func:`platforms_of`.
    """
    for engine in model.engines:
        if not platform or (engine.platform is not None and engine.platform.id == platform):
            return engine
    return None


def loaded_on(bundle: Bundle, target: ReleaseTarget, platform: str) -> dict[str, Content]:
    """Return by path the files that the runtime of a target loads on machines of a platform.

    Args:
        bundle: What is packaged.
        target: Of its release.
        platform: One of :func:`platforms_of`.
    """
    others = {
        engine.folder
        for model in target.models
        for engine in model.engines
        if engine != engine_on(model, platform)
    }
    return {
        path: content
        for path, content in loaded(bundle, [target]).items()
        if path.rpartition("/")[0] not in others
    }
