"""The deployment profile as frozen data: what every layer below the YAML edge works with.

Built by :mod:`edgedeploy.profile.load`; its canonical JSON (:mod:`edgedeploy.profile.expand`) is
what ``plan --expand`` prints and what enters the keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from edgedeploy.errors import Place

QuantizeMode = Literal["auto", "none", "fp16", "fp8", "w8a8", "w8a16", "w8", "w4", "dynamic"]
QuantizeMethod = Literal["own", "nncf"]
RangeMethod = Literal[
    "minmax",
    "average",
    "percentile-99.9",
    "percentile-99.99",
    "percentile-99.999",
    "entropy",
    "mse",
    "choose",
]
Rounding = Literal["nearest", "second-order"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DimSpec:
    """What sizes one axis may take.

    Exactly one form holds: ``fixed`` (``8``), a range ``low..high[/step]`` (``1..64``,
    ``320..960/32``), or ``buckets`` (``[160, 320, 640]``, one artifact each).
    """

    fixed: int | None = None
    low: int | None = None
    high: int | None = None
    step: int = 1
    buckets: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSource:
    """Where a model file lies.

    Attributes:
        path: A file, relative to the profile's folder; or, with ``distribution``, a path inside
            that installed distribution.
        distribution: Name of an installed Python distribution, found through its metadata without
            importing it.
        version: Version that the distribution must have.
        sha256: Digest that the file must have (64 hex digits).
    """

    path: str
    distribution: str | None = None
    version: str | None = None
    sha256: str | None = None


BakeStep = Literal["scale", "mean", "colour", "layout", "uint8"]
"""A step of the preprocessing of images that a model can do itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePreprocess:
    """How an image file becomes an input tensor: ``(decoded * scale - mean) / std``.

    Attributes:
        height, width: Size in pixels after ``fit``; width None keeps the aspect ratio.
        fit: ``stretch`` | ``letterbox`` (centred, padded) | ``pad`` (right, bottom) | ``crop``.
        pad_value: Pixel value 0-255 of padding.
        resample: ``bilinear`` | ``nearest`` | ``bicubic`` | ``area``.
        colour: ``rgb`` | ``bgr`` | ``gray``.
        layout: ``nchw`` | ``nhwc``.
        scale: Factor on the 0-255 value, applied first.
        mean, std: Per channel, in the tensor's channel order, after ``scale``.
        bake: Which of these the normal form of the model itself does; ``mean`` means mean and
            std, ``uint8`` the conversion of whole pixel values and all arithmetic behind it.
    """

    height: int
    width: int | None
    fit: Literal["stretch", "letterbox", "pad", "crop"] = "stretch"
    pad_value: int = 0
    resample: Literal["bilinear", "nearest", "bicubic", "area"] = "bilinear"
    colour: Literal["rgb", "bgr", "gray"] = "rgb"
    layout: Literal["nchw", "nhwc"] = "nchw"
    scale: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    bake: tuple[BakeStep, ...] = ()

    @property
    def baked(self) -> frozenset[BakeStep]:
        """The baked steps that change anything; ``uint8`` brings ``scale`` and ``mean`` along.

        Whole pixel values can only be handed over before any arithmetic, so a model that takes
        uint8 does all of it.
        """
        asked = {*self.bake, *(("scale", "mean") if "uint8" in self.bake else ())}
        acts = {
            "scale": self.scale != 1.0,
            "mean": bool(self.mean or self.std),
            "colour": self.colour == "bgr",
            "layout": self.layout == "nchw",
            "uint8": True,
        }
        return frozenset(step for step in asked if acts[step])

    @property
    def takes_pixels(self) -> bool:
        """Whether the model with its baked steps takes values of 0 to 255, without arithmetic."""
        left = self.outside
        return bool(self.baked) and left.scale == 1.0 and not (left.mean or left.std)

    @property
    def outside(self) -> ImagePreprocess:
        """What is left to do outside the model: the same words without the baked steps.

        A baked layout leaves ``nhwc``, as pixels lie in memory, and a baked colour ``rgb``.
        """
        baked = self.baked
        return replace(
            self,
            colour="rgb" if "colour" in baked else self.colour,
            layout="nhwc" if "layout" in baked else self.layout,
            scale=1.0 if "scale" in baked else self.scale,
            mean=() if "mean" in baked else self.mean,
            std=() if "mean" in baked else self.std,
            bake=(),
        )

    @property
    def inside(self) -> ImagePreprocess:
        """What the model does behind :attr:`outside`: together they are all of the steps."""
        baked = self.baked
        return replace(
            self,
            colour="rgb" if self.colour == "bgr" and "colour" not in baked else self.colour,
            scale=self.scale if "scale" in baked else 1.0,
            mean=self.mean if "mean" in baked else (),
            std=self.std if "mean" in baked else (),
            bake=(),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioPreprocess:
    """How a WAV file becomes an input tensor of samples in [-1, 1].

    Attributes:
        rate_hz: Sample rate that the model expects; a file of another rate is resampled.
        frame_samples: Samples per model call; None feeds the whole file as ``[1, n]``.
        hop_samples: Samples between frames; defaults to ``frame_samples``.
    """

    rate_hz: int
    frame_samples: int | None = None
    hop_samples: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSpec:
    """What the profile says of one model input.

    Attributes:
        name: Input name in the graph.
        shape: One entry per axis: a size, the name of a dim in ``ModelSpec.dims``, or a DimSpec;
            None leaves the graph's own dims.
        value: A constant (JSON number or list) that is always fed, such as a sample rate.
    """

    name: str
    shape: tuple[int | str | DimSpec, ...] | None = None
    image: ImagePreprocess | None = None
    audio: AudioPreprocess | None = None
    value: Any | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StatePair:
    """An output that is fed back as an input over a sequence, starting from zeros."""

    input: str
    output: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DataRole:
    """One named set of data (``calibrate``, ``evaluate``, ...).

    Attributes:
        source: A folder or file relative to the profile, or ``file.py:function``; None when
            the location stands in data.yaml.
        reader: ``auto`` decides by what ``source`` is.
        labels: CSV of labels (``file,label`` with a header), COCO JSON, or YOLO label folder.
        samples: At most this many, taken evenly over the sorted data; None takes all.
        parameters: Keyword arguments of a data function, as JSON data.
        tables: Folder of calibration tables that stand in for the samples; then nothing else is
            given, and only the role ``calibrate`` may have it.
    """

    name: str
    source: str | None
    reader: Literal["auto", "numpy", "images", "audio", "function"] = "auto"
    labels: str | None = None
    samples: int | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    tables: str | None = None

    @property
    def runs_user_code(self) -> bool:
        """Whether the samples come from a function of the user's project."""
        return self.reader == "function" or (
            self.reader == "auto" and ".py:" in (self.source or "")
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricSpec:
    """What is measured on the ``evaluate`` data.

    Attributes:
        name: ``top1 topk f1 map pearson cer wer mse cosine agreement`` or ``file.py:function``.
        output: Output that is scored; None takes the first.
        parameters: Metric parameters (``k``, ``decode: ctc``, ``characters: metadata:character``).
    """

    name: str
    output: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def runs_user_code(self) -> bool:
        """Whether it is a function of the user's project."""
        return ".py:" in self.name

    @property
    def is_closeness(self) -> bool:
        """Whether it holds outputs against the float model's, and needs no truth."""
        return self.name in ("mse", "cosine", "agreement")


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSpec:
    """What a model is for: a preset of :mod:`edgedeploy.tasks`, whose words are merged already.

    Attributes:
        name: Such as ``detect/yolo``.
        parameters: The preset's own, as the profile gives them.
    """

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeSpec:
    """How outputs become an answer.

    Attributes:
        name: A decoder of :mod:`edgedeploy.decode`: ``yolo boxes ctc classes speech vector``.
        output: Output that is decoded; None takes the first.
        parameters: The decoder's own, as JSON data.
    """

    name: str
    output: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """A signed allowed change of a metric: ``-1 pt`` (percentage points) or ``+0.3 %`` (relative).

    A metric that is a fraction changes by 0.01 per point.
    """

    amount: float
    unit: Literal["pt", "%", "abs"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSpec:
    """What is acceptable; None (or False) means no such gate.

    Attributes:
        metric: Allowed change against the float model, signed (``-1 pt``: may fall by one point;
            ``+1 pt`` on an error rate: may rise by one point).
        size_bytes: Largest size of the files that the runtime loads, together.
        latency_ms: Ceilings by statistic (``p50``, ``p90``, ``p99``), milliseconds per inference.
        memory_bytes: Largest peak resident memory of the bench process above its baseline.
        energy_j: Most energy of one inference, J, all that the board's source of power tells.
        not_slower_than_float: Whether the artifact must be no slower than the float one.
        cosine: Least cosine similarity of outputs with the float model (0-1).
        worst_class: Allowed change of the class that loses most, as ``metric`` but never relative.
    """

    metric: Delta | None = None
    size_bytes: int | None = None
    latency_ms: Mapping[str, float] = field(default_factory=dict)
    memory_bytes: int | None = None
    energy_j: float | None = None
    not_slower_than_float: bool = True
    cosine: float | None = None
    worst_class: Delta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizeSpec:
    """How numbers are represented in the artifact.

    Attributes:
        mode: ``auto`` searches for the fastest that passes the gates; the others are the modes
            that :mod:`edgedeploy.quant.scheme` names, ``fp16`` and ``none``.
        method: Who quantizes: ``own``, or NNCF (``w8a8`` for OpenVINO alone).
        symmetric_activations, per_channel: Details of the scheme; None takes the target's default.
        activation_dtype: ``uint8`` | ``int8``; None takes the target's default.
        weight_bits: 7 leaves head room in the 16-bit sums of x86 processors without VNNI.
        ranges: How activation ranges are found: ``minmax`` over all samples, the ``average``
            of the samples' own, or by a histogram; None takes the target's default.
        rounding: How weights are rounded where activations are calibrated: to the ``nearest``, or
            by ``second-order`` statistics of the activations; None takes the default.
        bias_correction: Whether biases make up for what rounding does to the mean of results;
            None takes the default.
        smooth: Whether large channels of activations move into the weights of matrix products;
            None takes the default.
        keep_float: Names or glob patterns of nodes that stay in float.
        keep_float_ops: Op types that stay in float.
        trials: How many mixtures of integer and float layers ``auto`` may build for a target.
    """

    mode: QuantizeMode = "auto"
    method: QuantizeMethod = "own"
    symmetric_activations: bool | None = None
    activation_dtype: Literal["uint8", "int8"] | None = None
    per_channel: bool | None = None
    weight_bits: Literal[7, 8] | None = None
    ranges: RangeMethod | None = None
    rounding: Rounding | None = None
    bias_correction: bool | None = None
    smooth: bool | None = None
    keep_float: tuple[str, ...] = ()
    keep_float_ops: tuple[str, ...] = ()
    trials: int = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchSpec:
    """How measurements are made, here and on devices.

    Attributes:
        mode: ``off``, ``quick`` (10 s windows, labelled quick) or ``full`` (60 s and 1024 samples).
            Devices are measured by `bench -d` alone; ``off`` is ``quick`` there.
        threads: Threads of the runtime.
        cpus: CPUs that the measuring process is bound to; empty leaves it to the system.
        compute_units: Units that Core ML may use, on a Mac.
    """

    mode: Literal["off", "quick", "full"] = "off"
    threads: int = 1
    cpus: tuple[int, ...] = ()
    compute_units: Literal["ALL", "CPU_ONLY", "CPU_AND_GPU", "CPU_AND_NE"] = "ALL"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """One model of the profile with everything that belongs to it.

    Attributes:
        author: Who made it; stands in artifacts that can say so.
        licence: SPDX expression; as ``author``.
        classes: File with a classifier's classes, one per line in the order of its output.
        task: The preset that was merged under what the profile says.
        decode: How its outputs become an answer; None: they are numbers.
    """

    name: str
    source: ModelSource
    author: str | None = None
    licence: str | None = None
    classes: str | None = None
    inputs: Mapping[str, InputSpec] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    dims: Mapping[str, DimSpec] = field(default_factory=dict)
    state: tuple[StatePair, ...] = ()
    data: Mapping[str, DataRole] = field(default_factory=dict)
    metric: MetricSpec | None = None
    task: TaskSpec | None = None
    decode: DecodeSpec | None = None
    allow_nonfinite: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetUse:
    """One target with the profile's settings for it, overrides already merged.

    Attributes:
        target: Target id, ``board/runtime``.
        options: Backend options by name (``optimization_style``, ``device``, ``blob`` ...).
        place: Where the profile names the target; no part of the expanded form.
    """

    target: str
    quantize: QuantizeSpec = QuantizeSpec()
    gates: GateSpec = GateSpec()
    bench: BenchSpec = BenchSpec()
    options: Mapping[str, Any] = field(default_factory=dict)
    place: Place | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseSpec:
    """What a release of the profile holds beside the artifacts.

    Attributes:
        golden: Where golden inputs come from: random ones, or the data that the artifact was
            evaluated on, which then travels with the release.
        deny: SPDX licence ids that no part of a release may need.
        files_licence: SPDX expression of what `files:` name.
        texts: Files with licence texts, named by the licence's id.
    """

    golden: Literal["synthetic", "evaluate"] = "synthetic"
    deny: tuple[str, ...] = ()
    files_licence: str | None = None
    texts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineSpec:
    """A function of the project over the models, gated as a whole.

    Attributes:
        function: ``file.py:function``, relative to the profile's folder.
        data: What the function is given, by role; ``evaluate`` is among them.
        metric: What its outputs are worth.
    """

    function: str
    data: Mapping[str, DataRole]
    metric: MetricSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A whole deployment profile; ``folder`` is what relative paths are relative to."""

    name: str
    folder: Path
    file: Path
    models: Mapping[str, ModelSpec]
    targets: tuple[TargetUse, ...]
    version: str | None = None
    files: tuple[str, ...] = ()
    release: ReleaseSpec = ReleaseSpec()
    pipeline: PipelineSpec | None = None
