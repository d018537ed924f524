"""Trying one file: what the float model and everything built answer to it, side by side.

The file goes through the declared preprocessing, the chosen artifacts of the last build and the
model's decoder. All of it runs in workers, and nothing of the file is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgedeploy.deploy.contents import Built
from edgedeploy.errors import UsageError
from edgedeploy.events import EventLog
from edgedeploy.opening import Request
from edgedeploy.places import default_store_path
from edgedeploy.store import Store
from edgedeploy.trying.answered import Answered, Tried
from edgedeploy.trying.attempt import Attempt
from edgedeploy.trying.devices import devices_of
from edgedeploy.trying.kinds import answers_boxes, kind_of
from edgedeploy.trying.models import ask_models
from edgedeploy.trying.together import ask_pipeline

if TYPE_CHECKING:
    from edgedeploy.deploy.bench import DeviceSite

__all__ = ["Answered", "Tried", "TryOptions", "try_file"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TryOptions:
    """How a file is tried.

    Attributes:
        output: Folder for results that the build was given.
        store: The store that it was built with; None takes the user's.
        pictures: Folder for copies of the picture with each answer's boxes drawn; None draws none.
    """

    output: Path = Path("build")
    store: Path | None = None
    pictures: Path | None = None


def try_file(
    file: Path,
    request: Request,
    options: TryOptions,
    events: EventLog | None = None,
    sites: Sequence[DeviceSite] = (),
) -> Tried:
    """Return what the last build answers to a file.

    Args:
        file: A picture, a PCM WAV file, a text, or an ``.npy`` or ``.npz`` file of one sample.
        request: Which profile, with the options that it was built with.
        options: How.
        events: Where progress is told.
        sites: Devices that run the artifacts built for their boards; reading the file, decoding
            and a pipeline's function stay here. Without any all runs here.

    Returns:
        Rows; one that failed says why, and takes no other along.

    Raises:
        UsageError: There is no such file, or it is of no known kind (E850); boxes cannot be drawn
            (E853); a device has no target (E440, E441, E478).
        DataError: No model takes the file (E851, E852), it cannot be decoded (E259), or it does
            not fit (E255 to E258).
        BuildError: The profile is not built, or not as it now says (E438).
        EdgedeployError: The profile is refused, or the float model fails.
    """
    events = events or EventLog()
    kind = kind_of(file)
    store = Store(options.store or default_store_path(), events)
    with store.in_use(), store.work_folder() as folder:
        built = Built(request, options.output, store, events)
        if options.pictures is not None:
            _check_drawing(built, file, kind)
        attempt = Attempt(file.absolute(), kind, built, store, folder, options.pictures, events)
        devices = devices_of(attempt, sites)
        pipeline = built.plan.pipeline
        if pipeline is None:
            rows = ask_models(attempt, devices)
        else:
            rows = ask_pipeline(attempt, pipeline, devices)
    return Tried(file=file, kind=kind, app=built.app, rows=tuple(rows))


def _check_drawing(built: Built, file: Path, kind: str) -> None:
    """Refuse to draw where there is nothing to draw.

    Raises:
        UsageError: The file is no picture, or no model's answers are boxes (E853).
    """
    models = [item.shared.model for item in built.plan.items]
    if kind == "picture" and built.plan.pipeline is None and any(map(answers_boxes, models)):
        return
    raise UsageError(
        f"there are no boxes to draw: {file.name} is no picture"
        if kind != "picture"
        else f"there are no boxes to draw: no model of {built.app} is decoded to boxes",
        code="E853",
        subject=str(file),
        hint="leave --output out; --json has the whole answer",
    )
