"""The schema of a profile at the YAML edge: what may stand where, and the short forms.

Each class is one map of the file; the descriptions are what docs/profile.md and editors show.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BeforeValidator, Field, model_validator

from edgedeploy.config.nearest import advice, shorten
from edgedeploy.profile.schema_answers import Decode, Task
from edgedeploy.profile.schema_parts import (
    Axis,
    Change,
    Constant,
    DataSource,
    Digest,
    Dim,
    Distribution,
    Duration,
    Energy,
    FunctionName,
    ImageSize,
    MetricName,
    Name,
    PlainChange,
    Real,
    Reals,
    RelativePath,
    Size,
    Strict,
    Text,
    fault,
    short,
)
from edgedeploy.profile.types import BakeStep, QuantizeMethod, QuantizeMode, RangeMethod, Rounding
from edgedeploy.profile.unbuilt import QUANTIZE_MODES, not_built

QUANTIZE_NAMES = get_args(QuantizeMode)
_HABITS = {"int8": "w8a8", "int4": "w4", "float": "none", "fp32": "none", "half": "fp16"}


def _mode(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if value in QUANTIZE_MODES:
        raise fault("E137", *not_built(value, QUANTIZE_MODES[value]))
    if value not in QUANTIZE_NAMES:
        named = _HABITS.get(value)
        hint = f"write `{named}`" if named else advice(value, QUANTIZE_NAMES)
        raise fault("E107", f"`{shorten(value)}` is no mode", hint)
    return value


class SourceSchema(Strict):
    """Where a model file lies."""

    file: RelativePath = Field(
        description="Path of the ONNX file, relative to the profile; with `package`, inside it."
    )
    package: Distribution | None = Field(
        default=None, description="`name==version` of an installed package that holds the file."
    )
    sha256: Digest | None = Field(
        default=None, description="Digest that the file must have, 64 hexadecimal digits."
    )

    @model_validator(mode="after")
    def _inside(self) -> Self:
        if self.package is not None and ".." in self.file.split("/"):
            raise fault(
                "E107",
                f"`{shorten(self.file)}` leads out of the package",
                "write the file's path inside the package",
                at=("file",),
            )
        return self


class ImageSchema(Strict):
    """How an image file becomes an input tensor: `(pixel * scale - mean) / std`."""

    size: ImageSize = Field(
        description="`[height, width]` in pixels; a width of `keep` keeps the aspect ratio."
    )
    fit: Literal["stretch", "letterbox", "pad", "crop"] = Field(
        default="stretch",
        description="How an image of another aspect ratio is brought to the size.",
    )
    pad_value: Annotated[int, Field(ge=0, le=255)] = Field(
        default=0, description="Pixel value of padding, 0 to 255."
    )
    resample: Literal["bilinear", "nearest", "bicubic", "area"] = Field(
        default="bilinear", description="Interpolation of resizing."
    )
    colour: Literal["rgb", "bgr", "gray"] = Field(default="rgb", description="Channel order.")
    layout: Literal["nchw", "nhwc"] = Field(default="nchw", description="Axis order of the tensor.")
    scale: Real = Field(default=1.0, description="Factor on the 0-255 pixel value, applied first.")
    mean: Reals = Field(
        default=(), description="Subtracted after `scale`: one number, or one per channel."
    )
    std: Reals = Field(
        default=(), description="Divided by, after `mean`: one number, or one per channel."
    )
    bake: list[BakeStep] = Field(
        default=[],
        description="Steps that the artifacts do themselves: docs/preprocessing.md.",
    )

    @model_validator(mode="after")
    def _channels(self) -> Self:
        channels = 1 if self.colour == "gray" else 3
        for key in ("mean", "std"):
            count = len(getattr(self, key))
            if count not in (0, 1, channels):
                raise fault(
                    "E107",
                    f"`{key}` has {count} numbers and the image {channels} channels",
                    f"write one number, or {channels}",
                    at=(key,),
                )
        if any(item <= 0.0 for item in self.std):
            raise fault("E107", "`std` must be above 0", "write numbers above 0", at=("std",))
        return self

    @model_validator(mode="after")
    def _order(self) -> Self:
        """Refuse a baked step before one that is left outside: the steps have one order."""
        baked = {*self.bake, *(("scale", "mean") if "uint8" in self.bake else ())}
        shifts = bool(self.mean or self.std) and "mean" not in baked
        by_channel = max(len(self.mean), len(self.std)) > 1
        for step, clashes in (
            ("scale", self.scale != 1.0 and shifts),
            ("colour", self.colour == "bgr" and shifts and by_channel),
        ):
            if step in baked and clashes:
                raise fault(
                    "E896",
                    f"`{step}` is baked, and `mean` and `std`, which come after it, are not",
                    f"bake `mean` too, or leave `{step}` out of `bake`",
                    at=("bake",),
                )
        if self.scale == 0.0 and baked & {"scale", "mean"}:
            raise fault(
                "E896",
                "a `scale` of 0 leaves nothing of a picture",
                "write the factor that the model was trained with, such as 1/255",
                at=("scale",),
            )
        return self


class AudioSchema(Strict):
    """How a WAV file becomes an input tensor of samples in [-1, 1]."""

    rate: Annotated[int, Field(ge=1, le=768_000)] = Field(
        description="Sample rate that the model expects, in hertz."
    )
    frame: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Samples per model call; without it the whole file is one call."
    )
    hop: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Samples between frames; by default `frame`."
    )


class InputSchema(Strict):
    """What the profile says of one model input."""

    shape: list[Axis] | None = Field(
        default=None,
        description="One entry per axis: a size, the name of a dim, a range or buckets. "
        "By default the model's own shape.",
    )
    image: (
        Annotated[
            ImageSchema,
            BeforeValidator(
                short("size", list),
                json_schema_input_type=list[int | Literal["keep"]] | ImageSchema,
            ),
        ]
        | None
    ) = Field(
        default=None,
        description="Image preprocessing; `[height, width]` is short for `{size: ...}`.",
    )
    audio: AudioSchema | None = Field(default=None, description="Audio preprocessing.")
    value: Constant | None = Field(
        default=None, description="A constant that is always fed, a number or a list of numbers."
    )


class StateSchema(Strict):
    """An output that is fed back as an input over a sequence, starting from zeros."""

    input: Text = Field(description="Name of the state input.")
    output: Text = Field(description="Name of the output that it is fed from.")


class RoleSchema(Strict):
    """One set of data."""

    source: DataSource | None = Field(
        default=None,
        description="Folder or file relative to the profile, or `file.py:function`. Without it, "
        "data.yaml beside the profile says where the data lies.",
    )
    reader: Literal["auto", "numpy", "images", "audio", "function"] = Field(
        default="auto", description="How the source is read; `auto` decides by what it is."
    )
    labels: RelativePath | None = Field(
        default=None, description="CSV (`file,label`), COCO JSON, or folder of YOLO label files."
    )
    samples: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="At most this many samples, taken evenly."
    )
    parameters: dict[str, Any] = Field(
        default={}, description="Keyword arguments of a data function."
    )
    tables: RelativePath | None = Field(
        default=None,
        description="Folder of calibration tables that an earlier build wrote; of `calibrate` "
        "alone, and instead of all other keys.",
    )

    @model_validator(mode="after")
    def _alone(self) -> Self:
        if self.tables is not None and self.model_fields_set != {"tables"}:
            raise fault(
                "E107",
                "`tables` stands in for samples, and samples are described here too",
                "keep `tables` alone, or leave it out",
                at=("tables",),
            )
        return self


Role = Annotated[
    RoleSchema,
    BeforeValidator(short("source", str), json_schema_input_type=str | RoleSchema),
]


class DataSchema(Strict):
    """The sets of data by role."""

    calibrate: Role | None = Field(
        default=None,
        description="What activation ranges are measured on; never what is evaluated on.",
    )
    evaluate: Role | None = Field(default=None, description="What the metric is measured on.")

    @model_validator(mode="after")
    def _tables_calibrate(self) -> Self:
        if self.evaluate is not None and self.evaluate.tables is not None:
            raise fault(
                "E107",
                "`tables` hold ranges, and nothing can be evaluated on those",
                "name samples here, or leave `evaluate` out",
                at=("evaluate", "tables"),
            )
        return self


class MetricSchema(Strict):
    """What is measured on the `evaluate` data."""

    name: MetricName = Field(
        description="`top1`, `topk`, `f1`, `map`, `pearson`, `cer`, `wer`, `mse`, `cosine`, "
        "`agreement`, or `file.py:function`."
    )
    output: Text | None = Field(
        default=None, description="Output that is scored; by default the first."
    )
    parameters: dict[str, Any] = Field(default={}, description="Parameters of the metric.")


Metric = Annotated[
    MetricSchema,
    BeforeValidator(short("name", str), json_schema_input_type=str | MetricSchema),
]


class QuantizeSchema(Strict):
    """How numbers are represented in the artifact."""

    mode: Annotated[QuantizeMode, BeforeValidator(_mode)] = Field(
        default="auto",
        description="`auto` searches for the fastest that passes the gates; "
        "`docs/quantization.md` says what each of the others is, `edgedeploy targets show` which "
        "of them a target takes.",
    )
    method: QuantizeMethod = Field(
        default="own",
        description="Who quantizes: `own`, this program, or `nncf`: `w8a8` for OpenVINO by NNCF "
        "(`pip install edgedeploy[nncf]`).",
    )
    symmetric_activations: bool | None = Field(
        default=None, description="Zero point at the middle; by default what suits the target."
    )
    per_channel: bool | None = Field(
        default=None, description="One weight scale per channel; by default what suits the target."
    )
    activation_dtype: Literal["uint8", "int8"] | None = Field(
        default=None, description="Type of activations; by default what suits the target."
    )
    weight_bits: Literal[7, 8] | None = Field(
        default=None,
        description="Bits of int8 weights that are used; 7 for ORT on x86 processors without VNNI, "
        "whose 16-bit sums saturate with 8; by default 8.",
    )
    ranges: RangeMethod | None = Field(
        default=None,
        description="How activation ranges are found: over all samples, as the average of each "
        "sample's, by a histogram, or (`choose`) for each tensor by what loses least; by default "
        "`average`, and `auto` tries others.",
    )
    rounding: Rounding | None = Field(
        default=None,
        description="How weights are rounded with `w8a8` and `w8a16`: to the `nearest`, or, with "
        "`second-order` statistics of the activations, so that errors make up for one another.",
    )
    bias_correction: bool | None = Field(
        default=None,
        description="With `w8a8` and `w8a16`: whether biases make up for what rounding of weights "
        "does to the mean of a layer's results.",
    )
    smooth: bool | None = Field(
        default=None,
        description="With `w8a8` and `w8a16`: whether large channels of the activations of matrix "
        "products move into the weights.",
    )
    keep_float: list[Text] = Field(
        default=[], description="Names or glob patterns of nodes that stay in float."
    )
    keep_float_ops: list[Text] = Field(default=[], description="Op types that stay in float.")
    trials: int = Field(
        default=12,
        ge=0,
        le=100,
        description="How many mixtures of integer and float layers `auto` may build for a target.",
    )


Quantize = Annotated[
    QuantizeSchema,
    BeforeValidator(short("mode", str), json_schema_input_type=str | QuantizeSchema),
]


class LatencySchema(Strict):
    """Ceilings of the time of one inference."""

    p50: Duration | None = Field(default=None, description="Median, such as `20 ms`.")
    p90: Duration | None = Field(default=None, description="90th percentile.")
    p99: Duration | None = Field(default=None, description="99th percentile.")


class GatesSchema(Strict):
    """What is acceptable; an absent gate is not asked, `null` removes a default one."""

    metric: Change | None = Field(
        default=None,
        description="Allowed change against the float model: `-1 pt` may fall by one point, "
        "`+0.3 %` may rise by 0.3 percent of its value.",
    )
    size: Size | None = Field(
        default=None,
        description="Largest size of the files that the runtime loads, such as `4 MB`.",
    )
    latency: LatencySchema | None = Field(default=None, description="Ceilings of the latency.")
    memory: Size | None = Field(default=None, description="Largest peak memory, such as `200 MB`.")
    energy: Energy | None = Field(
        default=None,
        description="Most energy of one inference, such as `5 mJ`; judged on devices and machines "
        "that tell their power.",
    )
    not_slower_than_float: bool = Field(
        default=True, description="The artifact must be no slower than the float one."
    )
    cosine: Annotated[float, Field(ge=-1.0, le=1.0)] | None = Field(
        default=None,
        description="Least cosine similarity of outputs with the float model. Without this gate "
        "and without `metric`, parity asks for 0.95.",
    )
    worst_class: PlainChange | None = Field(
        default=None,
        description="Allowed change of the class that loses most, such as `-5 pt`; held against "
        "the float model, and by `edgedeploy compare` against a release.",
    )


class BenchSchema(Strict):
    """How measurements are made, here and on devices."""

    mode: Literal["off", "quick", "full"] = Field(
        default="off",
        description="`quick`: 10 s windows, labelled quick; `full`: 60 s and 1024 samples.",
    )
    threads: Annotated[int, Field(ge=1, le=1024)] = Field(
        default=1, description="Threads of the runtime."
    )
    cpus: list[Annotated[int, Field(ge=0, le=1023)]] = Field(
        default=[],
        description="CPUs that the measuring process is bound to, such as `[4, 5]` for the fast "
        "cores; empty leaves it to the system.",
    )
    compute_units: Literal["ALL", "CPU_ONLY", "CPU_AND_GPU", "CPU_AND_NE"] = Field(
        default="ALL",
        description="Units that Core ML may use while a Mac measures; NE is the Neural Engine.",
    )


Bench = Annotated[
    BenchSchema,
    BeforeValidator(short("mode", str), json_schema_input_type=str | BenchSchema),
]


class TargetSchema(Strict):
    """What holds for one target alone; its keys override the same keys of the defaults."""

    quantize: Quantize | None = Field(default=None, description="As at the top level.")
    gates: GatesSchema | None = Field(default=None, description="As at the top level.")
    bench: Bench | None = Field(default=None, description="As at the top level.")
    options: dict[str, Any] = Field(
        default={}, description="Options of the runtime; `edgedeploy targets show ID` lists them."
    )


class ModelSchema(Strict):
    """One model with what belongs to it."""

    source: Annotated[
        SourceSchema,
        BeforeValidator(short("file", str), json_schema_input_type=str | SourceSchema),
    ] = Field(
        description="Path of the ONNX file, or a map that names an installed package as well."
    )
    task: Task | None = Field(
        default=None,
        description="What the model is for: `classify`, `detect/yolo`, `ocr/ctc`, `vad`, `kws`, "
        "`embed`, or a map of `name` and parameters; see [tasks](tasks.md).",
    )
    author: Text | None = Field(
        default=None, description="Who made the model; artifacts that have a place for it say so."
    )
    licence: Text | None = Field(
        default=None, description="SPDX licence expression of the model; as `author`."
    )
    classes: RelativePath | None = Field(
        default=None,
        description="Text file with the classes of a classifier, one per line in the order of its "
        "output; for targets that can answer by name.",
    )
    inputs: dict[str, InputSchema] = Field(
        default={}, description="What is said of inputs, by name."
    )
    outputs: list[Text] = Field(
        default=[], description="Outputs that are kept, in order; default all."
    )
    dims: dict[str, Dim] = Field(
        default={},
        description="Sizes of named dims: `8`, `1..64`, `320..960/32`, `[160, 320, 640]`.",
    )
    state: list[StateSchema] = Field(default=[], description="Outputs fed back as inputs.")
    data: DataSchema = Field(
        default_factory=DataSchema, description="Data of this model alone, by role."
    )
    metric: Metric | None = Field(default=None, description="Metric of this model alone.")
    decode: Decode | None = Field(
        default=None,
        description="How its outputs become an answer; metrics read the answer then.",
    )
    allow_nonfinite: bool = Field(
        default=False, description="Accept NaN and infinite weights, which are refused otherwise."
    )


class ReleaseSchema(Strict):
    """What `edgedeploy release` puts into a bundle beside the artifacts."""

    golden: Literal["synthetic", "evaluate"] = Field(
        default="synthetic",
        description="Golden inputs: random ones, or (`evaluate`) the first of the data that was "
        "evaluated on, which then everybody who has the release can read.",
    )
    deny: list[Text] = Field(
        default=[], description="SPDX licence ids that no part of a release may need."
    )
    files_licence: Text | None = Field(
        default=None, description="SPDX licence expression of what `files` name."
    )
    texts: list[RelativePath] = Field(
        default=[],
        description="Files with licence texts, each named by the licence's id: "
        "`LICENSES/Apache-2.0.txt`.",
    )


def _target_map(value: Any) -> Any:
    """Return a list of target ids as a map without overrides, and an empty override as a map."""
    if isinstance(value, list):
        for place, item in enumerate(value):
            if not isinstance(item, str):
                raise fault(
                    "E106",
                    "a target id is wanted here",
                    "write `board/runtime`, such as `rpi5/ort`; overrides need the map form",
                    at=(place,),
                )
        value = {item: {} for item in value}
    if isinstance(value, dict):
        if not value:
            raise fault("E107", "`targets` names no target", "name one, such as `rpi5/ort`")
        return {key: {} if item is None else item for key, item in value.items()}
    return value


class ProfileSchema(Strict):
    """A deployment profile: what to ship, where to, and what is acceptable."""

    edgedeploy: Literal[1] = Field(description="Version of the profile's form; always 1.")
    name: Name = Field(description="Name of the profile; a folder under `build/` bears it.")
    version: Text | None = Field(default=None, description="Version of what is shipped; quote it.")
    model: ModelSchema | None = Field(
        default=None, description="The one model; short for `models: {main: ...}`."
    )
    models: dict[Name, ModelSchema] | None = Field(
        default=None, description="Several models, by name."
    )
    data: DataSchema = Field(
        default_factory=DataSchema,
        description="Data of every model without its own; with a `pipeline`, what that is given.",
    )
    metric: Metric | None = Field(
        default=None,
        description="Metric of every model without its own; with a `pipeline`, of its outputs.",
    )
    quantize: Quantize = Field(
        default_factory=QuantizeSchema,
        description="Number representation for every target; a bare word is the `mode`.",
    )
    gates: GatesSchema = Field(default_factory=GatesSchema, description="Gates for every target.")
    bench: Bench = Field(
        default_factory=BenchSchema, description="Measurement; a bare word is the `mode`."
    )
    targets: Annotated[
        dict[str, TargetSchema],
        BeforeValidator(
            _target_map, json_schema_input_type=list[str] | dict[str, TargetSchema | None]
        ),
    ] = Field(description="Target ids (`board/runtime`), as a list, or a map to overrides.")
    files: list[RelativePath] = Field(
        default=[], description="Further files that travel with a release."
    )
    release: ReleaseSchema = Field(
        default_factory=ReleaseSchema, description="What a release holds beside the artifacts."
    )
    pipeline: FunctionName | None = Field(
        default=None,
        description="`file.py:function` over the models; then the metric gate is on the whole.",
    )
