"""The report files of a build folder, written again only when something in them changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgedeploy.building import BuildResult
from edgedeploy.errors import UsageError
from edgedeploy.manifest import digest, file_sha256, sweep_parts, write_atomic
from edgedeploy.places import DOCUMENT, PAGE, STAMP, TEXT
from edgedeploy.store import disk_errors
from edgedeploy.toolchain import PACKAGE, code_digest


def write_reports(result: BuildResult) -> None:
    """Write ``build.json``, ``report.txt`` and ``report.html`` beside the artifacts.

    Raises:
        StoreError: The disk refuses.
    """
    folder = result.folder
    with disk_errors("cannot write the reports"):
        folder.mkdir(parents=True, exist_ok=True)
        sweep_parts(folder)
        if reports_stand(result):
            return
    from edgedeploy.report.collect import collect
    from edgedeploy.report.page import html_report
    from edgedeploy.report.terminal import terminal_report

    document = collect(result)
    with disk_errors("cannot write the reports"):
        write_atomic(folder / PAGE, html_report(document).encode())
        write_atomic(folder / TEXT, terminal_report(document).encode())
        write_atomic(folder / DOCUMENT, document.text().encode())
        write_atomic(folder / STAMP, _stamp(result).encode())


def reports_stand(result: BuildResult) -> bool:
    """Whether the report files of this result lie in its folder, whole."""
    try:
        return (result.folder / STAMP).read_bytes() == _stamp(result).encode()
    except OSError:
        return False


def _stamp(result: BuildResult) -> str:
    """Return a digest of what the reports tell, the times of stages left out, and of the files.

    Raises:
        OSError: A report file is missing.
    """
    items: list[Any] = []
    for outcome in result.outcomes:
        trials = [[trial.name, trial.state, trial.reason] for trial in outcome.trials]
        chosen = outcome.chosen
        artifact = chosen.artifact.digest if chosen and chosen.artifact else ""
        gates = [gate.to_json() for gate in chosen.gates] if chosen else []
        records = {name: record["created"] for name, record in outcome.records.items()}
        unmeasured = [item.to_json() for item in outcome.unmeasured]
        worth = chosen.evaluation.to_json() if chosen and chosen.evaluation else None
        survey = outcome.survey and outcome.survey.to_json()
        figures = json.dumps([worth, survey], sort_keys=True)  # may hold numbers like infinity
        about = [outcome.item.name, trials, artifact, gates, records, unmeasured, figures]
        items.append(about)
    for found in result.combinations:
        worths = [item.to_json() for item in (found.evaluation, *found.alone.values()) if item]
        figures = json.dumps(worths, sort_keys=True)
        gates = [gate.to_json() for gate in found.gates]
        chosen_names = dict(found.chosen)
        items.append([found.use.target, found.state, found.reason, chosen_names, gates, figures])
    code = code_digest(("report",), PACKAGE / "__init__.py")
    files = {name: file_sha256(result.folder / name) for name in (DOCUMENT, TEXT, PAGE)}
    told = {"items": items, "lock": result.lock.expanded, "code": code, "files": files}
    return digest("reports", told)


def is_build(path: Path) -> bool:
    """Return whether a path is a build folder, or its build.json."""
    return (path / DOCUMENT).is_file() or (path.name == DOCUMENT and path.is_file())


def build_folder(path: Path) -> Path:
    """Return the build folder that a path means: itself, its build.json, or a profile's.

    Raises:
        UsageError: There is no build (E370).
    """
    for folder in (path, path.parent, Path("build") / path.stem):
        if (folder / DOCUMENT).is_file() and (folder != path.parent or path.name == DOCUMENT):
            return folder
    raise UsageError(
        f"there is no build at {path}",
        code="E370",
        subject=str(path),
        hint="give a build folder such as build/NAME, or build the profile first",
    )
