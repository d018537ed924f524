"""Field types of the profile schema: texts, numbers and units, each with its own diagnostic."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, PlainValidator
from pydantic_core import PydanticCustomError

from edgedeploy.config.nearest import advice, shorten
from edgedeploy.config.units import UnitError, delta, duration_ms, energy_j, size_bytes
from edgedeploy.profile.dims import DimError, parse_dim
from edgedeploy.profile.types import Delta, DimSpec

METRICS = ("top1", "topk", "f1", "map", "pearson", "cer", "wer", "mse", "cosine", "agreement")
DECODERS = ("yolo", "boxes", "ctc", "classes", "speech", "vector")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_FUNCTION = re.compile(r"[^:\0]+\.py:[A-Za-z_]\w{0,99}")
_DISTRIBUTION = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([A-Za-z0-9][A-Za-z0-9.+!_-]*)")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_FRACTION = re.compile(
    r"([+-]?[0-9]{1,12}(?:\.[0-9]{0,12})?)\s*/\s*([0-9]{1,12}(?:\.[0-9]{0,12})?)"
)


class Strict(BaseModel):
    """A map of the profile: no unknown keys, no silent conversion."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, protected_namespaces=())


def fault(code: str, message: str, hint: str, *, at: tuple[Any, ...] = ()) -> PydanticCustomError:
    """Return an error that becomes the diagnostic ``code``; ``at`` is a path below the field."""
    # The text goes in as context: a template would read braces of the user's own text.
    return PydanticCustomError(code, "{message}", {"message": message, "hint": hint, "at": at})


def short(key: str, *kinds: type) -> Callable[[Any], Any]:
    """Return a validator that reads a bare value of one of ``kinds`` as ``{key: value}``."""

    def expand(value: Any) -> Any:
        bare = isinstance(value, kinds) and not (isinstance(value, bool) and bool not in kinds)
        return {key: value} if bare else value

    return expand


def _units(parse: Callable[[object], Any]) -> Callable[[object], Any]:
    def convert(value: object) -> Any:
        try:
            return parse(value)
        except UnitError as error:
            raise fault("E109", str(error), error.hint) from error

    return convert


def _delta(value: object) -> Delta:
    amount, unit = delta(value)
    return Delta(amount=amount, unit=unit)  # type: ignore[arg-type]


def _plain_delta(value: object) -> Delta:
    """Return a change that is not relative: of two classes the rarer would always be the worse."""
    found = _delta(value)
    if found.unit == "%":
        raise fault(
            "E107", "a relative change is not allowed here", "write points, such as `-5 pt`"
        )
    return found


def _dim(value: object) -> DimSpec:
    try:
        return parse_dim(value)
    except DimError as error:
        raise fault("E134", str(error), error.hint) from error


def _axis(value: object) -> int | str | DimSpec:
    """Return one entry of a shape: a size, the name of a dim, or a dim."""
    if isinstance(value, str) and ".." not in value:
        return _clean(value)
    dim = _dim(value)
    return dim if dim.fixed is None else dim.fixed


def _clean(value: object) -> str:
    """Return a text that is not empty and holds no control characters."""
    if not isinstance(value, str):
        raise PydanticCustomError("string_type", "text")
    if not value.strip():
        raise fault("E107", "an empty text is not allowed here", "write a text, or remove the key")
    if not value.isprintable():
        raise fault(
            "E107",
            f"`{shorten(value)}` holds characters that are not printable",
            "remove line ends and control characters",
        )
    return value


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise fault(
            "E107",
            f"`{shorten(value)}` is no name",
            "use letters, digits, `.`, `_` and `-`, starting with a letter or digit",
        )
    return value


def _relative(value: str) -> str:
    if value.startswith(("/", "~")):
        raise fault(
            "E146",
            f"`{shorten(value)}` is a path of one machine",
            "write a path relative to the profile; where private data lies belongs into data.yaml",
        )
    return value


def _function(value: str) -> str:
    if not _FUNCTION.fullmatch(value):
        raise fault(
            "E107", f"`{shorten(value)}` names no function", "write `file.py:function_name`"
        )
    return _relative(value)


def _data_source(value: str) -> str:
    return _function(value) if ".py:" in value else _relative(value)


def _metric_name(value: str) -> str:
    if ".py" in value:
        return _function(value)
    if value not in METRICS:
        raise fault("E107", f"`{shorten(value)}` is no metric", advice(value, METRICS))
    return value


def _decoder_name(value: str) -> str:
    if value not in DECODERS:
        raise fault("E873", f"`{shorten(value)}` is no decoder", advice(value, DECODERS))
    return value


def _distribution(value: str) -> str:
    if not _DISTRIBUTION.fullmatch(value):
        raise fault(
            "E107",
            f"`{shorten(value)}` names no version of a package",
            "write `name==version`, such as `rapidocr-onnxruntime==1.4.4`",
        )
    return value


def _digest(value: str) -> str:
    if not _DIGEST.fullmatch(value):
        raise fault(
            "E107",
            f"`{shorten(value)}` is no SHA-256",
            "write the 64 small hexadecimal digits that `sha256sum` prints",
        )
    return value


def _real(value: object) -> float:
    """Return a number, or a fraction such as ``1/255``."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    found = _FRACTION.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None or float(found[2]) == 0.0:
        raise fault(
            "E106",
            f"`{shorten(value)}` is no number",
            "write a number such as `0.5`, or a fraction such as `1/255`",
        )
    return float(found[1]) / float(found[2])


def _reals(value: object) -> tuple[float, ...]:
    """Return one number or a list of numbers as a tuple."""
    return tuple(_real(item) for item in (value if isinstance(value, list) else [value]))


def _image_size(value: object) -> tuple[int, int | None]:
    """Return (height, width); width None keeps the aspect ratio."""
    hint = "write `[height, width]` in pixels, such as `[640, 640]` or `[48, keep]`"
    if not isinstance(value, list) or len(value) != 2:
        raise fault("E106", f"`{shorten(value)}` is no image size", hint)
    height, width = value
    width = None if width == "keep" else width
    for place, item in enumerate((height, width)):
        whole = isinstance(item, int) and not isinstance(item, bool) and 1 <= item <= 65535
        if not whole and (place == 0 or item is not None):
            raise fault("E107", f"`{shorten(item)}` is no size in pixels", hint, at=(place,))
    return height, width


def _constant(value: object) -> Any:
    """Return a number, bool, text, or a (nested) list of them."""
    if isinstance(value, list):
        return [_constant(item) for item in value]
    if value is None or isinstance(value, dict):
        raise fault("E106", "a constant is wanted", "write a number or a list of numbers")
    return value


Text = Annotated[str, PlainValidator(_clean, json_schema_input_type=str)]
Name = Annotated[Text, AfterValidator(_name)]
RelativePath = Annotated[Text, AfterValidator(_relative)]
FunctionName = Annotated[Text, AfterValidator(_function)]
DataSource = Annotated[Text, AfterValidator(_data_source)]
MetricName = Annotated[Text, AfterValidator(_metric_name)]
DecoderName = Annotated[Text, AfterValidator(_decoder_name)]
Distribution = Annotated[Text, AfterValidator(_distribution)]
Digest = Annotated[Text, AfterValidator(_digest)]
Duration = Annotated[float, PlainValidator(_units(duration_ms), json_schema_input_type=str)]
Energy = Annotated[float, PlainValidator(_units(energy_j), json_schema_input_type=str)]
Size = Annotated[int, PlainValidator(_units(size_bytes), json_schema_input_type=str)]
Change = Annotated[Delta, PlainValidator(_units(_delta), json_schema_input_type=str)]
PlainChange = Annotated[Delta, PlainValidator(_units(_plain_delta), json_schema_input_type=str)]
Dim = Annotated[DimSpec, PlainValidator(_dim, json_schema_input_type=int | str | list[int])]
Axis = Annotated[
    int | str | DimSpec, PlainValidator(_axis, json_schema_input_type=int | str | list[int])
]
Real = Annotated[float, PlainValidator(_real, json_schema_input_type=float | str)]
Reals = Annotated[
    tuple[float, ...],
    PlainValidator(_reals, json_schema_input_type=float | str | list[float | str]),
]
ImageSize = Annotated[
    tuple[int, int | None],
    PlainValidator(_image_size, json_schema_input_type=list[int | Literal["keep"]]),
]
Constant = Annotated[Any, PlainValidator(_constant, json_schema_input_type=Any)]
