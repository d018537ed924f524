"""What changed between two releases, and what of it is a regression past a gate."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from edgedeploy.disk import disk_errors
from edgedeploy.errors import ToolError, UsageError
from edgedeploy.measured import Measurements, read_measurements
from edgedeploy.release.believing import Believed, believed
from edgedeploy.release.bundle import (
    SUFFIX,
    Figure,
    Gate,
    Release,
    ReleaseModel,
    ReleasePipeline,
    ReleaseTarget,
)
from edgedeploy.release.delta import write_delta
from edgedeploy.release.opening import Bundle, open_bundle
from edgedeploy.report import figures
from edgedeploy.report.compare import Change, Comparison, compare, comparison_text
from edgedeploy.report.document import (
    BenchSummary,
    BuildDocument,
    EvaluationReport,
    MetricReport,
    ModelReport,
    PipelineReport,
    TargetReport,
)

_NUMBER = re.compile(r"[-+]?[0-9]+(?:\.[0-9]+)?(?:e[-+]?[0-9]+)?")
_PARITY = "cosine "

PIPELINE = "the pipeline"
"""What the models of a target together are called; no model can be."""

Judged = ReleaseModel | ReleasePipeline
"""What has figures and gates of its own."""
_SLACK = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class FileChange:
    """A file that differs; a size is None where the release has none of that path."""

    path: str
    before_bytes: int | None
    after_bytes: int | None

    @property
    def what(self) -> Literal["added", "removed", "changed"]:
        """What became of it."""
        if self.before_bytes is None:
            return "added"
        return "removed" if self.after_bytes is None else "changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Regression:
    """A change for the worse that no gate allows."""

    model: str
    target: str
    quantity: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseComparison:
    """Two releases held against each other.

    Attributes:
        changes: Verdicts, sizes, metrics and latencies by model and target.
        files: Those that differ, sorted by path.
        bundle_bytes: Of the new bundle.
        delta_bytes: Of a delta between the two; None where both have one version.
        delta_codec: What it is packed with.
        regressions: What is worse past a gate of the new release, or, where it has no gate on the
            quantity, what is shown to be worse.
    """

    changes: Comparison
    files: tuple[FileChange, ...]
    bundle_bytes: int
    delta_bytes: int | None
    delta_codec: Literal["zstd", "lzma"]
    regressions: tuple[Regression, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as JSON data."""
        files = [{**asdict(item), "what": item.what} for item in self.files]
        return {**asdict(self), "changes": self.changes.to_json(), "files": files}


def is_bundle(path: Path) -> bool:
    """Return whether a path is that of a bundle, by its name."""
    return path.name.endswith(SUFFIX)


def compare_releases(
    old: Path, new: Path, keys: tuple[Path, ...], trust: Path | None = None
) -> ReleaseComparison:
    """Compare two bundles, with the measurements that lie beside them.

    Args:
        old: The bundle that was shipped.
        new: The one that may follow it.
        keys: Files of public keys that are believed.
        trust: Trust file whose keys are believed too; None: there is none.

    Raises:
        UsageError: Nobody is believed, or the two are of different names (E763); or as
            :func:`edgedeploy.release.believing.believed`.
        IntegrityError: A bundle (E731 to E736) or its measurements (E762) are refused.
        StoreError: A file cannot be read, or the disk refuses (E601, E602).
    """
    whom = vouched(keys, trust)
    with ExitStack() as stack, disk_errors("cannot compare the bundles"):
        before = stack.enter_context(open_bundle(old, whom.trusted, whom.revoked))
        after = stack.enter_context(open_bundle(new, whom.trusted, whom.revoked))
        if before.release.name != after.release.name:
            raise UsageError(
                f"{before.release.name} and {after.release.name} are no versions of one release",
                code="E763",
                subject=after.release.name,
                hint="compare two bundles of the same name",
            )
        measured = [read_measurements(bundle, whom.trusted) for bundle in (before, after)]
        return _compared(before, after, *measured)


def vouched(keys: tuple[Path, ...], trust: Path | None) -> Believed:
    """Return whom a comparison believes; arguments and errors as :func:`compare_releases`."""
    if not keys and trust is None:
        raise UsageError(
            "a release is compared only when somebody vouches for it",
            code="E763",
            hint="name the publisher's public key, or a trust file",
        )
    return believed(keys, trust)


def _compared(
    before: Bundle, after: Bundle, was: Measurements | None, now: Measurements | None
) -> ReleaseComparison:
    one, other = before.release, after.release
    first, second = release_document(one, was), release_document(other, now)
    changes = compare(first, second)
    codec, delta_bytes = _delta(before, after)
    return ReleaseComparison(
        changes=changes,
        files=tuple(_files(one, other)),
        bundle_bytes=after.path.stat().st_size,
        delta_bytes=delta_bytes,
        delta_codec=codec,
        regressions=tuple(_regressions(one, other, changes, _benches(now))),
    )


# -- a release in the form of a build's document -----------------------------------------------


def release_document(release: Release, measured: Measurements | None) -> BuildDocument:
    """Return what a release says as a build document, which the comparison of builds reads.

    Args:
        release: The release.
        measured: What was measured of it; None: nothing.
    """
    benches = _benches(measured)
    names = dict.fromkeys(model.name for target in release.targets for model in target.models)
    return BuildDocument(
        profile=release.name,
        created=f"version {release.version}, counter {release.counter}",
        version=release.made_by,
        models=tuple(
            ModelReport(
                name=name,
                source_sha256="",
                targets=tuple(
                    _target(target, model, benches.get((name, target.target)))
                    for target in release.targets
                    for model in target.models
                    if model.name == name
                ),
            )
            for name in names
        ),
        pipeline=_pipeline(release),
    )


def _pipeline(release: Release) -> PipelineReport | None:
    """Return what the models of each target are together; None where no target says it."""
    reports = []
    for target in release.targets:
        whole = target.pipeline
        if whole is not None:
            found = _metric(whole)
            refused = any(gate.state == "refused" for gate in whole.gates)
            reports.append(
                TargetReport(
                    target=target.target,
                    verdict="refused" if refused else "accepted",
                    size_bytes=whole.size_bytes,
                    evaluation=None if found is None else EvaluationReport(metric=_report(found)),
                )
            )
    return PipelineReport(function=PIPELINE, targets=tuple(reports)) if reports else None


def _benches(measured: Measurements | None) -> dict[tuple[str, str], BenchSummary]:
    if measured is None:
        return {}
    return {
        (item.model, item.target): item.bench
        for item in measured.measured
        if item.bench is not None
    }


def _target(target: ReleaseTarget, model: ReleaseModel, bench: BenchSummary | None) -> TargetReport:
    found = _metric(model)
    refused = any(gate.state == "refused" for gate in model.gates)
    return TargetReport(
        target=target.target,
        verdict="refused" if refused else "accepted",
        chosen=model.candidate,
        artifact=model.artifact,
        size_bytes=model.size_bytes,
        evaluation=None if found is None else EvaluationReport(metric=_report(found)),
        bench=bench,
    )


def _metric(model: Judged) -> Figure | None:
    """Return the figure of the profile's metric; the others are of parity."""
    return next((item for item in model.figures if not item.name.startswith(_PARITY)), None)


def _report(figure: Figure) -> MetricReport:
    return MetricReport(
        name=figure.name,
        value=figure.value,
        low=figure.low,
        high=figure.high,
        n=figure.samples,
        higher_is_better=figure.higher_is_better,
        fraction=figure.fraction,
    )


# -- files ---------------------------------------------------------------------------------------


def _files(one: Release, other: Release) -> Iterator[FileChange]:
    before = {file.path: file for file in one.files}
    after = {file.path: file for file in other.files}
    for path in sorted(before.keys() | after.keys()):
        old, new = before.get(path), after.get(path)
        if old is None or new is None or old.sha256 != new.sha256:
            yield FileChange(
                path=path,
                before_bytes=None if old is None else old.size,
                after_bytes=None if new is None else new.size,
            )


def _delta(before: Bundle, after: Bundle) -> tuple[Literal["zstd", "lzma"], int | None]:
    """Return the codec and the bytes of a delta, packed as this machine can."""
    if before.release.version == after.release.version:
        return "zstd", None
    with tempfile.TemporaryDirectory(prefix="edgedeploy-compare-") as folder:
        try:
            return "zstd", write_delta(before.path, after.path, Path(folder)).size_bytes
        except ToolError:  # zstandard is not installed; Python's own packer is said to stand in
            made = write_delta(before.path, after.path, Path(folder), "lzma")
            return "lzma", made.size_bytes


# -- regressions ---------------------------------------------------------------------------------


def _regressions(
    one: Release,
    other: Release,
    changes: Comparison,
    benches: Mapping[tuple[str, str], BenchSummary],
) -> Iterator[Regression]:
    before, after = _models(one), _models(other)
    for change in changes.changes:
        key = (change.model, change.target)
        why = _past(change, before[key], after[key], benches.get(key))
        if why is not None:
            yield Regression(
                model=change.model, target=change.target, quantity=change.quantity, why=why
            )


def _models(release: Release) -> dict[tuple[str, str], Judged]:
    found: dict[tuple[str, str], Judged] = {
        (model.name, target.target): model for target in release.targets for model in target.models
    }
    for target in release.targets:
        if target.pipeline is not None:
            found[PIPELINE, target.target] = target.pipeline
    return found


def _past(change: Change, one: Judged, other: Judged, bench: BenchSummary | None) -> str | None:
    """Return why a change is a regression; None where it is none."""
    gates = {gate.gate: gate for gate in other.gates}
    if change.quantity == "metric" and "metric" in gates:
        return _metric_past(gates["metric"], one, other)
    return past_gates(change, gates, other.size_bytes, bench)


class Limited(Protocol):
    """A gate as a release or a build document says it."""

    @property
    def limit(self) -> str | None:
        """What is acceptable; None: it has no limit."""


def past_gates(
    change: Change,
    gates: Mapping[str, Limited],
    size_bytes: int | None,
    bench: BenchSummary | None,
) -> str | None:
    """Return why a change of what needs no samples is a regression; None where it is none.

    Args:
        change: The change.
        gates: Those of the new artifact, by name.
        size_bytes: Of the new artifact; None where a device has yet to make it.
        bench: Its measurement; None where there is none.
    """
    if change.quantity == "size" and "size" in gates and size_bytes is not None:
        return _above("size", gates["size"], size_bytes)
    if change.quantity == "latency":
        judged = [name for name in gates if name.startswith("latency_") or name == "not_slower"]
        if judged:
            return _latency_past(change, gates, bench)
    if change.finding != "worse":
        return None
    return f"{change.before} -> {change.after}, and no gate says what is acceptable"


def _metric_past(gate: Gate, one: Judged, other: Judged) -> str | None:
    """Return why a metric is past the change that its gate allows, from the old release's value."""
    before, after = _metric(one), _metric(other)
    if before is None or after is None or gate.limit is None or before.name != after.name:
        return None
    if before.value is None or after.value is None:
        return None
    change, unit = after.value - before.value, gate.limit.partition(" ")[2]
    if unit == "pt":
        change *= 100
    elif unit == "%":
        change = 100 * change / abs(before.value) if before.value else change * float("inf")
    loss = -change if after.higher_is_better else change
    if change == 0 or loss <= abs(_number(gate.limit)) + _SLACK:
        return None
    # Of two releases no sample is known to be the same: the samples are not paired.
    uncertain = "" if _apart(before, after) else ", uncertain: the intervals overlap"
    shown = f"{change:+.3g} {unit}".rstrip()
    return f"{after.name} changed by {shown}, the gate allows {gate.limit}{uncertain}"


def _apart(one: Figure, other: Figure) -> bool:
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return False
    return other.low > one.high or other.high < one.low


def _latency_past(
    change: Change, gates: Mapping[str, Limited], bench: BenchSummary | None
) -> str | None:
    """Return why a latency is past a gate: its own ceiling, or slower than the old release."""
    if bench is None or change.finding == "not comparable":
        return None
    for name in ("p50", "p90", "p99"):
        gate, found = gates.get(f"latency_{name}"), getattr(bench, f"{name}_ms")
        if gate is not None and found is not None:
            why = _above(f"{name} in ms", gate, found.value)
            if why is not None:
                return why
    if "not_slower" in gates and change.finding == "worse":
        return f"{change.before} -> {change.after}, slower than the old release"
    return None


def _above(what: str, gate: Limited, value: float) -> str | None:
    if gate.limit is None or value <= _number(gate.limit):
        return None
    return f"{what} is {value:g}, the gate allows {gate.limit}"


def _number(limit: str) -> float:
    """Return the number in a limit such as ``<= 4000000 B``, ``-1 pt`` or ``<= 20 ms``.

    Raises:
        UsageError: There is none (E763).
    """
    found = _NUMBER.search(limit)
    if found is None:
        raise UsageError(
            f"the limit {limit!r:.60} of a gate is not understood",
            code="E763",
            subject=limit[:60],
            hint="use the edgedeploy that made the release",
        )
    return float(found[0])


def releases_text(found: ReleaseComparison) -> str:
    """Return the comparison of two releases as plain text that ends in a line feed."""
    text = comparison_text(found.changes).rstrip("\n").rpartition("\n")[0].rstrip("\n")
    lines = [text, "", f"{len(found.files)} files differ"]
    for file in found.files:
        sizes = [figures.size(size) for size in (file.before_bytes, file.after_bytes)]
        lines.append(f"  {file.what}: {file.path}: {sizes[0]} -> {sizes[1]}")
    if found.delta_bytes is not None:
        share = found.delta_bytes / max(found.bundle_bytes, 1)
        lines.append(
            f"delta: {figures.size(found.delta_bytes)} ({found.delta_codec}), {share:.1%} of the "
            f"bundle of {figures.size(found.bundle_bytes)}"
        )
    lines.append("")
    for item in found.regressions:
        lines.append(f"regression: {item.model} {item.target}: {item.quantity}: {item.why}")
    if not found.regressions:
        lines.append("no regression")
    return figures.printable("\n".join(lines) + "\n")
