"""Taking over what an app measured on a phone, where no `bench -d` reaches."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from edgedeploy.bench.app_bench import DOCUMENT_BYTES, MODE, AppBench, app_record, read_app_bench
from edgedeploy.deploy.contents import Built
from edgedeploy.disk import disk_errors
from edgedeploy.errors import DataError, UsageError
from edgedeploy.events import EventLog
from edgedeploy.measuring import Session, keep_imported
from edgedeploy.opening import Request
from edgedeploy.places import default_store_path
from edgedeploy.remote import printable
from edgedeploy.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """A measurement that was taken over.

    Attributes:
        app: What the document says.
        new: False: it was imported before.
        reasons: Why it judges no gates; empty where it does.
    """

    app: AppBench
    new: bool
    reasons: tuple[str, ...]


def import_bench(
    request: Request,
    file: Path,
    *,
    output: Path,
    store: Path | None = None,
    events: EventLog | None = None,
) -> Imported:
    """Keep what a document says that an app measured, as a record of the board that it names.

    Nothing is built or judged here; the next build reads the record.

    Args:
        request: Which profile, with the options that it was built with.
        file: The document.
        output: Folder for results that the build was given.
        store: The store that it was built with; None takes the user's.
        events: Where progress is told.

    Raises:
        DataError: It is no such document (E765).
        UsageError: It is of no artifact of the last build, or was measured otherwise than its
            gates ask for (E766).
        BuildError: There is no build of the profile, or not as it now says (E438).
        StoreError: The file cannot be read, or the record not be written.
    """
    events = events or EventLog()
    app = _read(file)
    kept = Store(store or default_store_path(), events)
    with kept.in_use():
        built = Built(request, output, kept, events)
        _check_known(built, app)
        session = built.session(app.model, app.target)
        _check_conditions(session, app)
        name = session.artifacts[-1].name
        with tempfile.TemporaryDirectory(prefix="import-") as folder:
            try:
                record = app_record(app, name, session.runtime, session.options, Path(folder))
            except ValueError as error:
                raise _refused(file, error) from error
            new = keep_imported(kept, session, record, sorted(Path(folder).glob("*.gz")))
    return Imported(app=app, new=new, reasons=tuple(record["validity"]["reasons"]))


def _read(file: Path) -> AppBench:
    if not file.is_file():  # a pipe would be waited for
        raise _refused(file, ValueError("it is no file"))
    with disk_errors("cannot read the document"), open(file, "rb") as stream:
        content = stream.read(DOCUMENT_BYTES + 1)
    try:
        return read_app_bench(content, datetime.now(UTC))
    except ValueError as error:
        raise _refused(file, error) from error


def _refused(file: Path, why: ValueError) -> DataError:
    return DataError(
        f"{file.name} is not what the bench of a package writes: {printable(str(why).encode())}",
        code="E765",
        subject=str(file),
        hint="export the attachments of the tests again, and give one whose name begins with "
        "`bench-`",
    )


def _check_known(built: Built, app: AppBench) -> None:
    """Refuse what is of no artifact of the last build.

    Raises:
        UsageError: It is (E766).
    """
    for item in built.plan.items:
        if (item.shared.name, item.use.target) == (app.model, app.target):
            artifact = built.report(item)[1].artifact
            if artifact == app.artifact:
                return
            raise _foreign(
                f"the last build's {item.name} is {(artifact or 'none')[:12]}, and "
                f"{app.artifact[:12]} was measured",
                "measure the app with a package of the last build, or build what it was made of",
            )
    raise _foreign(
        f"{built.app} has no {app.model} for {app.target}",
        "give the profile, with the options, that the app's package was made from",
    )


def _check_conditions(session: Session, app: AppBench) -> None:
    """Refuse what was measured on another system, or otherwise than the profile says.

    Raises:
        UsageError: It was (E766).
    """
    if app.system != session.system:
        raise _foreign(
            f"{app.target} is for {session.system}, and a device of {app.system} measured it",
            "measure it on a device of the board",
        )
    version, oldest = int(app.os_version.partition(".")[0]), session.os_version or 0
    if version < oldest:
        raise _foreign(
            f"{app.target} is for {app.system} {oldest} and later, and {app.os_version} "
            "measured it",
            "measure it on a device of the board",
        )
    if session.bench.mode == "full":
        raise _foreign(
            f"an app measures `{MODE}`, and `bench: full` takes nothing less",
            f"set `bench: {MODE}` in the profile",
        )
    units = session.options.get("compute_units", app.units)
    if app.units != units:
        raise _foreign(
            f"the profile says `compute_units: {units}`, and {app.units} was measured",
            "hand the same `units:` to `run` of the bench, or change `bench:` of the profile",
        )
    if session.runtime == "ort" and app.threads != session.bench.threads:
        raise _foreign(
            f"the profile says `threads: {session.bench.threads}`, and {app.threads} were measured",
            "hand the same `threads:` to `run` of the bench, or change `bench:` of the profile",
        )


def _foreign(why: str, hint: str) -> UsageError:
    return UsageError(
        f"the measurement is not of this build: {printable(why.encode())}", code="E766", hint=hint
    )
