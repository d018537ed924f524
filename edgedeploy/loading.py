"""What one device loads of an artifact: all of it, or the engine of its platform."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgedeploy.gpu import EngineNeeds
from edgedeploy.store import ActionRecord
from edgedeploy.target.types import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one device loads of an artifact.

    Attributes:
        entry: What the runtime opens, relative to the artifact's folder.
        loaded: The files that it needs.
        needs: What it asks of the device; None for what is no engine.
    """

    entry: str
    loaded: tuple[str, ...]
    needs: EngineNeeds | None = None


def engines_of(record: ActionRecord | None) -> Mapping[str, Any]:
    """Return the engines of an artifact by the id of their platform; empty where there are none.

    Args:
        record: Of the stage that made the artifact; see ``steps/engines.py``.
    """
    return record.summary.get("engines", {}) if record else {}


def loaded_part(record: ActionRecord, target: Target, engine: str = "") -> Part:
    """Return what one device loads of an artifact.

    Args:
        record: Of the stage that made the artifact.
        target: What it is for.
        engine: Id of the platform whose engine is taken; empty where there are none, and for all
            of them, of which the entry is the first.
    """
    summary = record.summary
    if not engine:
        return Part(
            entry=str(summary["entry"]),
            loaded=tuple(summary["loaded"]),
            needs=_ahead(record, target),
        )
    made = summary["engines"][engine]
    folder = made["entry"].rpartition("/")[0]
    return Part(
        entry=made["entry"],
        loaded=tuple(path for path in summary["loaded"] if path.startswith(f"{folder}/")),
        needs=EngineNeeds.from_json(made["needs"]),
    )


def _ahead(record: ActionRecord, target: Target) -> EngineNeeds | None:
    """Return what an engine needs that was built here, ahead of time; None where it is none."""
    if target.runtime != "tensorrt-rtx":
        return None
    return EngineNeeds(
        runtime="tensorrt-rtx",
        version=record.components["tools"][str(target.get("runtime.distribution"))],
        system=str(target.get("board.os")),
        arch=str(target.get("board.arch")),
        compute_capabilities=tuple(record.summary["compute_capabilities"]),
    )
