"""The schema of board and runtime files: strict, and no physical number without its source."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator
from pydantic_core import PydanticCustomError

from edgedeploy.config.nearest import shorten
from edgedeploy.config.units import UnitError, frequency_hz, size_bytes

Arch = Literal["x86-64", "arm64", "armv7", "wasm32"]
System = Literal["linux", "android", "ios", "macos", "web"]
Processor = Literal["cpu", "gpu", "npu"]
ShapeForm = Literal["fixed", "range", "buckets"]
QuantizeMode = Literal["none", "fp16", "fp8", "w8a8", "w8a16", "w8", "w4", "dynamic"]

_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_VERSIONS = re.compile(r">=[0-9]+(?:\.[0-9]+)*(?:,<[0-9]+(?:\.[0-9]+)*)?")


class Strict(BaseModel):
    """A map of a target file: no unknown keys, no silent conversion."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def _fault(code: str, message: str, hint: str) -> PydanticCustomError:
    return PydanticCustomError(code, "{message}", {"message": message, "hint": hint})


def _units(parse: Callable[[object], int]) -> Callable[[object], int]:
    def convert(value: object) -> int:
        try:
            return parse(value)
        except UnitError as error:
            raise _fault("E109", str(error), error.hint) from error

    return convert


def _id(value: str) -> str:
    if not _ID.fullmatch(value):
        raise _fault("E107", f"`{shorten(value)}` is no id", "use small letters, digits and `-`")
    return value


def _versions(value: str) -> str:
    if not _VERSIONS.fullmatch(value):
        raise _fault(
            "E107",
            f"`{shorten(value)}` is no version range",
            "write `>=1.17` or `>=1.17,<2`; the oldest version must stand in it",
        )
    return value


def _source(value: str) -> str:
    if len(value.strip()) < 8:
        raise _fault(
            "E154", f"`{shorten(value)}` is no source", "give a URL, or document and section"
        )
    return value


Id = Annotated[str, AfterValidator(_id)]
FactSource = Annotated[str, AfterValidator(_source)]
Count = Annotated[int, Field(ge=1)]


class Fact(Strict):
    """A number or list with the document that it was taken from."""

    source: FactSource


class CountFact(Fact):
    """A count, such as cores."""

    value: Count


class SizeFact(Fact):
    """A size in bytes."""

    value: Annotated[int, PlainValidator(_units(size_bytes), json_schema_input_type=str)]


class FrequencyFact(Fact):
    """A frequency in hertz."""

    value: Annotated[int, PlainValidator(_units(frequency_hz), json_schema_input_type=str)]


class FeaturesFact(Fact):
    """Instruction set extensions, named as in Linux ``/proc/cpuinfo`` where it has a name."""

    value: list[str]


_CAPABILITY = re.compile(r"[0-9]{1,2}\.[0-9]")


def _capability(value: str) -> str:
    if not _CAPABILITY.fullmatch(value):
        raise _fault(
            "E107",
            f"`{shorten(value)}` is no compute capability",
            'write it in quotes, such as "8.7"',
        )
    return value


Capability = Annotated[str, AfterValidator(_capability)]


class GpuFact(Fact):
    """An NVIDIA GPU, by what engines are built for.

    ``compute_capabilities`` lists those of every GPU that the board stands for; ``dla_cores`` says
    how many deep learning accelerators are beside it.
    """

    compute_capabilities: Annotated[list[Capability], Field(min_length=1)]
    dla_cores: Count | None = None


class BoardSchema(Strict):
    """A board: the class of hardware and its system.

    ``os_version`` is the oldest major version of the system that artifacts must run on.
    """

    id: Id
    title: str | None = None
    extends: Id | None = None
    os: System | None = None
    os_version: Count | None = None
    arch: Arch | None = None
    processor: Processor | None = None
    host: bool | None = None
    cpu: str | None = None
    cpu_vendor: str | None = None
    cores: CountFact | None = None
    clock: FrequencyFact | None = None
    features: FeaturesFact | None = None
    ram: SizeFact | None = None
    gpu: GpuFact | None = None


REQUIRED_OF_BOARD = ("title", "os", "arch", "processor")


class SchemeSchema(Fact):
    """How 8-bit numbers are represented there, and which of it no profile may change."""

    activation_dtype: Literal["uint8", "int8"]
    symmetric_activations: bool
    per_channel: bool
    fixed: list[Literal["activation_dtype", "symmetric_activations", "per_channel"]] = []


class ModeSchema(Fact):
    """What is known of the speed of one number representation.

    ``provider`` names the execution provider of the runtime that it holds for, where that is not
    the usual one; ``features`` the instruction set extensions that it needs.
    """

    mode: QuantizeMode
    provider: str | None = None
    features: list[str] = []
    note: str


class ServedSchema(Strict):
    """One kind of board that the runtime serves, and what holds there.

    ``os_versions`` tells which of a board's ``os_version`` it is about, ``compute_capabilities``
    among which all of its GPU's are (an entry without is about boards without a GPU of NVIDIA's).
    ``quantize`` lists the modes that are legal there, ``fast`` those with fast kernels, ``slow``
    those that make the file smaller but are not known to be faster than float.
    """

    os: System
    os_versions: Annotated[str, AfterValidator(_versions)] | None = None
    compute_capabilities: list[Capability] | None = None
    arch: Arch
    processor: Processor
    shapes: Annotated[list[ShapeForm], Field(min_length=1)]
    quantize: Annotated[list[QuantizeMode], Field(min_length=1)]
    scheme: SchemeSchema | None = None
    fast: list[ModeSchema] = []
    slow: list[ModeSchema] = []
    defaults: dict[str, Any] = {}


class OptionSchema(Strict):
    """One backend option that a profile may set; ``within`` are the ends of an ``int``."""

    type: Literal["choice", "bool", "int", "text", "size"]
    values: list[str] = []
    within: Annotated[list[int], Field(min_length=2, max_length=2)] | None = None
    default: Any = None
    help: str


class RuntimeSchema(Strict):
    """A runtime: its file format, versions, and which boards it serves.

    ``refused_options`` are those that a user may look for, each with why it is not taken.
    """

    id: Id
    title: str | None = None
    extends: Id | None = None
    format: Literal["ort", "openvino-ir", "mlpackage", "tensorrt-engine"] | None = None
    distribution: str | None = None
    versions: Annotated[str, AfterValidator(_versions)] | None = None
    opset: CountFact | None = None
    ir_version: CountFact | None = None
    serves: Annotated[list[ServedSchema], Field(min_length=1)] | None = None
    options: dict[str, OptionSchema] = {}
    refused_options: dict[str, str] = {}


REQUIRED_OF_RUNTIME = (
    "title",
    "format",
    "distribution",
    "versions",
    "opset",
    "ir_version",
    "serves",
)
