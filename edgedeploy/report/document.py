"""The build document (``build.json``), schema 1: all that a build found, as data.

Everything that prints, compares or accepts a build reads this document and nothing else. It is
JSON: :meth:`BuildDocument.to_json` and :func:`from_json` are inverse; unknown and missing fields
are refused, so a reader never guesses. Figures that could not be computed are ``null``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from edgedeploy.errors import Diagnostic, UsageError
from edgedeploy.plaindata import from_plain, to_plain
from edgedeploy.runner import Evidence

SCHEMA = 1

GateState = Literal["passed", "refused", "not judged"]
Verdict = Literal["accepted", "refused", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A figure with its 95 % confidence interval; a bound is None where it is not known."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricReport:
    """A metric on the ``evaluate`` data.

    Attributes:
        name: Such as ``top1`` or ``cer``.
        value: None when it came out not finite.
        low, high: 95 % confidence interval.
        n: Samples it was computed from.
        higher_is_better: False for error rates.
        fraction: Whether it lies in [0, 1] and is shown in per cent, its change in points.
    """

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int
    higher_is_better: bool = True
    fraction: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyComparison:
    """An interleaved A/B measurement: ``ratio`` is this artifact's latency over the other's."""

    other: str
    ratio: Interval | None
    verdict: Literal["faster", "slower", "no difference shown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchSummary:
    """A bench record in short; made by :func:`edgedeploy.report.summary.bench_summary`.

    Attributes:
        created: When it was measured, ISO 8601 in UTC.
        evidence: Where the figures come from.
        mode: ``quick`` or ``full``; quick figures are labelled so wherever they stand.
        threads: Threads of the runtime.
        runtime: Family and version of the runtime.
        cpu: Model of the CPU that measured.
        n: Measured inferences.
        p50_ms, p90_ms, p99_ms: None with too few samples to tell.
        load_cold_ms: None when the page cache could not be emptied.
        load_warm_ms, first_inference_ms: None where what measures does not tell them.
        peak_bytes, baseline_bytes: Resident memory at its peak, and before loading; None likewise.
        validity: ``unreliable`` figures gate nothing; ``reasons`` say why.
        quantiles_ms: The 0th, 1st ... 100th percentile of the raw samples, for plots.
        device: Name of the device that measured; None: the machine that builds.
        emulated: What stood for the device's hardware; empty where it was real.
        imported: An app measured it, and a document told of it.
        energy_j: Of one inference, all that the source of power tells; None where it has none.
        energy: Where that comes from, in words, or why there is none.
        state: Of a model with one, whether it was ``carried`` along sequences, or ``zero``.
        device_bytes: Memory of the GPU that the artifact took; None without one.
        upload_ms, compute_ms, download_ms: The GPU's own mean times; None without one.
    """

    created: str
    evidence: Evidence
    mode: Literal["quick", "full"]
    threads: int
    runtime: str
    cpu: str | None
    n: int
    mean_ms: float
    p50_ms: Interval | None
    p90_ms: Interval | None
    p99_ms: Interval | None
    load_cold_ms: float | None
    load_warm_ms: float | None
    first_inference_ms: float | None
    peak_bytes: int | None
    baseline_bytes: int | None
    validity: Literal["valid", "unreliable"]
    reasons: tuple[str, ...] = ()
    comparison: LatencyComparison | None = None
    quantiles_ms: tuple[float, ...] = ()
    device: str | None = None
    emulated: str = ""
    imported: bool = False
    energy_j: Interval | None = None
    energy: str = ""
    state: Literal["carried", "zero"] | None = None
    device_bytes: int | None = None
    upload_ms: float | None = None
    compute_ms: float | None = None
    download_ms: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FloatReport:
    """The float model that all targets are held against."""

    metric: MetricReport | None = None
    size_bytes: int | None = None
    bench: BenchSummary | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateReport:
    """One scheme that was considered for a target, in the order of trying.

    Attributes:
        state: ``outdone``: it passes, and a faster one does too.
        reason: Why it is not the chosen one.
        about: What it is.
    """

    name: str
    state: Literal["chosen", "outdone", "refused", "failed", "skipped"]
    reason: str = ""
    about: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SensitiveLayer:
    """One layer of :class:`SensitivityReport`; figures as in :mod:`edgedeploy.quant.survey`.

    Attributes:
        sqnr_db: Signal-to-noise ratio of the model's outputs with this layer alone quantized; None
            without noise.
        kl: Kullback-Leibler divergence of the outputs' softmax then, in nats.
        inside_db: Ratio at its own result with all layers quantized.
        metric: The task metric with this layer alone quantized; None where it was not looked at.
        multiply_adds, weights: Its shares, in [0, 1].
    """

    node: str
    op: str
    sqnr_db: float | None
    kl: float
    inside_db: float | None
    metric: float | None
    multiply_adds: float
    weights: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SensitivityReport:
    """How the layers take to 8 bits.

    Attributes:
        samples: Calibration samples that were run.
        ranges: Range method that the layers were measured with.
        methods: By range method, the outputs' signal-to-noise ratio with all layers quantized, in
            decibels; None without noise.
        layers: Most sensitive first.
    """

    samples: int
    ranges: str
    methods: Mapping[str, float | None]
    layers: tuple[SensitiveLayer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileReport:
    """One file of an artifact."""

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineReport:
    """One engine of an artifact: what the TensorRT of a device made of the program.

    Attributes:
        platform: What built it, :class:`edgedeploy.gpu.GpuPlatform` as JSON data.
        entry: Its path in the artifact.
        way: ``python`` or ``trtexec``; None where that was not told, as for what follows.
        build_s: How long it took.
        power_mode: Of a Jetson, while it was built.
        clocks: Whether the GPU's frequency was held then: ``locked`` or ``free``.
    """

    platform: Mapping[str, Any]
    entry: str
    size_bytes: int
    sha256: str
    way: str | None = None
    build_s: float | None = None
    power_mode: str | None = None
    clocks: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityReport:
    """How one output differs from the float model's; ``stats`` by name (``cosine`` ...)."""

    output: str
    stats: Mapping[str, float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepsReport:
    """Roots of mean squares over positions ``first`` to ``last``: of error and float output."""

    first: int
    last: int
    rmse: float | None
    reference_rms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftReport:
    """The error of an output along sequences over which a state is carried.

    Attributes:
        output: Its name.
        sequences: How many.
        steps: Samples of the longest.
        growth: Error of the last thirds over that of the middle thirds, each measured by the float
            output there; None without a figure.
        worst_step: Position, counted from 0, with the largest error.
        worst_rmse: The root of the mean squared error there.
        parts: The error by position.
    """

    output: str
    sequences: int
    steps: int
    growth: Interval | None
    worst_step: int
    worst_rmse: float
    parts: tuple[StepsReport, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationReport:
    """An artifact held against the float model, sample by sample.

    Attributes:
        metric: Of the artifact; None when the profile names no metric.
        float_value: Of the float model on the same samples.
        delta: Artifact minus float, with the interval of the paired difference.
        n: Samples that both ran on.
        flipped_count: Samples whose answer differs between the two; None when not countable.
        flipped_ids: Their ids, possibly shortened.
        evidence: Where its outputs come from.
        drift: The error along sequences, of a model with a state.
    """

    metric: MetricReport | None = None
    float_value: float | None = None
    delta: Interval | None = None
    n: int = 0
    flipped_count: int | None = None
    flipped_ids: tuple[str, ...] = ()
    parity: tuple[ParityReport, ...] = ()
    evidence: Evidence = "host-runtime"
    drift: tuple[DriftReport, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerReport:
    """Mean time of one layer per inference, from a profiling run apart from the bench."""

    name: str
    op: str
    provider: str
    mean_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementReport:
    """How much of the graph one execution provider or device takes.

    Attributes:
        provider: Such as ``XNNPACK`` or ``CPU``.
        nodes: Nodes it takes, of ``total``.
        left: What it does not take, in words (``Softmax: axis is not the last``), shortened.
    """

    provider: str
    nodes: int
    total: int
    left: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedOperation:
    """Where a device plans to run one operation.

    Attributes:
        name: Of its first output.
        op: What it computes.
        preferred: ``CPU``, ``GPU`` or ``Neural Engine``; None where the device does not say.
        supported: All units that could run it.
        cost: Its estimated share of the whole, 0 to 1; None where the device gives none.
    """

    name: str
    op: str
    preferred: str | None
    supported: tuple[str, ...] = ()
    cost: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitsReport:
    """On which units a device runs an artifact: its runtime's plan, not a measurement.

    Attributes:
        units: The units that it was allowed, such as ``ALL``.
        compile_ms: How long the package took to compile there.
        first_load_ms: The first load after that.
        operations: In the order of the program; empty when there is no plan.
        why_not: Why there is none.
    """

    units: str
    compile_ms: float
    first_load_ms: float
    operations: tuple[PlannedOperation, ...] = ()
    why_not: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FloatLayer:
    """A layer that is computed in float; ``macs`` is None where it was not to be counted."""

    name: str
    op: str
    macs: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ArithmeticReport:
    """How much of a quantized artifact the runtime computes on integers.

    Attributes:
        layers: Convolutions, matrix products and recurrent nodes that it executes.
        integer_layers: Those of them whose kernel multiplies integers.
        macs, integer_macs: Multiply-adds of one inference, for the sizes of one sample.
        uncounted_layers: Layers that are in neither count of multiply-adds.
        conversions: Executed nodes that only convert between float and integers.
        stated: Whether the artifact states it, and no runtime was there to be asked.
        float_layers: The layers that stayed in float, in order of execution.
    """

    layers: int
    integer_layers: int
    macs: int
    integer_macs: int
    uncounted_layers: int = 0
    conversions: int = 0
    stated: bool = False
    float_layers: tuple[FloatLayer, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptNode:
    """A node of a float16 model that stayed in float32, and why."""

    node: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HalfReport:
    """What of a float16 model is float32.

    Attributes:
        calibrated: Whether calibration data told how large values get.
        unknown, values: Float values whose magnitude nothing tells, and all of them.
        nodes: The nodes that stayed in float32, in the order of the graph.
    """

    calibrated: bool
    unknown: int
    values: int
    nodes: tuple[KeptNode, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GateReport:
    """One gate: ``limit`` and ``value`` as printed, None when there is none."""

    gate: str
    state: GateState
    limit: str | None = None
    value: str | None = None
    evidence: Evidence = "none"
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetReport:
    """What was built for one target, how good it is and what became of it.

    Attributes:
        units: None where no device told on which units it runs what.
        arithmetic: None where nothing is quantized.
        half: None where the model was not made float16 before it was compiled.
        sensitivity: None where no look was taken at it.
        wider: What layers have more bits than the mode asks for, one line per reason.
        notes: What the backend says of the artifact, one sentence each.
        engines: What devices made of it, one per platform; empty where it is no program.
    """

    target: str
    verdict: Verdict
    chosen: str | None = None
    candidates: tuple[CandidateReport, ...] = ()
    artifact: str | None = None
    files: tuple[FileReport, ...] = ()
    size_bytes: int | None = None
    evaluation: EvaluationReport | None = None
    bench: BenchSummary | None = None
    layers: tuple[LayerReport, ...] = ()
    placement: tuple[PlacementReport, ...] = ()
    units: UnitsReport | None = None
    sensitivity: SensitivityReport | None = None
    arithmetic: ArithmeticReport | None = None
    half: HalfReport | None = None
    gates: tuple[GateReport, ...] = ()
    diagnostics: tuple[Diagnostic, ...] = ()
    wider: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    engines: tuple[EngineReport, ...] = ()

    @property
    def simulated(self) -> bool:
        """Whether an engine of it is none: something stood in for the device that made it."""
        return any(engine.platform.get("simulated") for engine in self.engines)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReport:
    """One model of the profile; ``signature`` is :class:`edgedeploy.signature.Signature` JSON."""

    name: str
    source_sha256: str
    signature: Mapping[str, Any] = field(default_factory=dict)
    float: FloatReport = FloatReport()
    targets: tuple[TargetReport, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LossReport:
    """The pipeline with one model as chosen and all others in float: what that model loses."""

    model: str
    value: float | None
    delta: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineReport:
    """The profile's function over its models, as a whole.

    Attributes:
        function: ``file.py:function``.
        float: With the float models.
        targets: The models of each target together; ``chosen`` names the candidate of each.
        losses: By target: what each model loses, where the combination was refused.
    """

    function: str
    float: FloatReport = FloatReport()
    targets: tuple[TargetReport, ...] = ()
    losses: Mapping[str, tuple[LossReport, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class StageReport:
    """One stage of the plan; ``why`` it ran or what it hit."""

    id: str
    kind: str
    state: Literal["hit", "ran", "failed"]
    why: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildDocument:
    """A whole build.

    Attributes:
        profile: Name of the profile.
        created: ISO 8601 in UTC.
        version: Of edgedeploy.
        tools: Tool name -> version.
        host: From :func:`edgedeploy.bench.host.host_facts`.
        pipeline: None where the profile has none.
    """

    schema: int = SCHEMA
    profile: str
    created: str
    version: str
    tools: Mapping[str, str] = field(default_factory=dict)
    host: Mapping[str, Any] = field(default_factory=dict)
    models: tuple[ModelReport, ...] = ()
    stages: tuple[StageReport, ...] = ()
    pipeline: PipelineReport | None = None

    @property
    def sections(self) -> tuple[tuple[str, ModelReport], ...]:
        """What has a table of targets, with its title: every model, and the pipeline like one."""
        found = [(f"Model {model.name}", model) for model in self.models]
        if self.pipeline is not None:
            title = f"Pipeline {self.pipeline.function}"
            whole = ModelReport(
                name=self.pipeline.function,
                source_sha256="",
                float=self.pipeline.float,
                targets=self.pipeline.targets,
            )
            found.append((title, whole))
        return tuple(found)

    def to_json(self) -> dict[str, Any]:
        """Return the document as JSON data; a figure that is not finite becomes None."""
        return cast(dict[str, Any], to_plain(self))

    def text(self) -> str:
        """Return the document as the text of ``build.json``."""
        return json.dumps(self.to_json(), indent=1, sort_keys=True, allow_nan=False) + "\n"


def from_json(data: Any) -> BuildDocument:
    """Return the document that :meth:`BuildDocument.to_json` wrote.

    Raises:
        UsageError: It is not one (E370) or of another schema version (E371).
    """
    if not isinstance(data, dict) or "schema" not in data:
        raise _malformed("it has no `schema`")
    if data["schema"] != SCHEMA:
        raise UsageError(
            f"the build document has schema {data['schema']!r}, this version reads {SCHEMA}",
            code="E371",
            hint=f"It was written by edgedeploy {data.get('version', '?')}; use that, or rebuild.",
        )
    try:
        return cast(BuildDocument, from_plain(BuildDocument, data, "document"))
    except ValueError as error:
        raise _malformed(str(error)) from error


def read_document(path: Path) -> BuildDocument:
    """Return the document in a file; raises as :func:`from_json`, and when it is unreadable."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _malformed(f"{path.name}: {error}") from error
    return from_json(data)


def _malformed(why: str) -> UsageError:
    return UsageError(
        f"this is no build document: {why}",
        code="E370",
        hint="Give the `build.json` of a build folder, or build again.",
    )
