"""The inputs and outputs of a release's models as Swift code has them, on both runtimes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgedeploy.errors import UsageError
from edgedeploy.release.bundle import ReleaseModel, ReleaseTarget, folder_of
from edgedeploy.release.formats.shared import unfit
from edgedeploy.release.interface import Port, interface_of
from edgedeploy.release.opening import Bundle

TYPES: Mapping[str, str] = {
    "bool": "Bool",
    **{f"int{bits}": f"Int{bits}" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": f"UInt{bits}" for bits in (8, 16, 32, 64)},
    "float16": "Float",
    "float32": "Float",
    "float64": "Double",
}
"""Swift type by NumPy dtype; ``Float16`` is none of Intel Macs, so that apps for both lack it."""

ORT_TYPES = frozenset({"float32", "int8", "uint8", "int32", "uint32", "int64", "uint64"})
"""What ONNX Runtime's Objective-C interface has since 1.17. Source: objectivec/include/ort_enums.h
of its repository; strings are left out."""

_KINDS = frozenset({"array", "image", "state", "classes"})
_INTERFACE = "interface.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class SwiftPort:
    """An input or output, and what it is at the runtime of one target.

    Attributes:
        port: In the model that the release was made from.
        called: Name that the runtime knows.
        dtype: Type at the runtime, as NumPy names it.
        kind: ``array``, ``image`` (pixels), ``state`` (kept by Core ML) or ``classes``.
        classes: Names of the classes, in the order of the output.
        colour: Of an image, as the profile says it; empty for anything else.
        size: Height and width of an image; empty for anything else, or where one is open.
    """

    port: Port
    called: str
    dtype: str
    kind: str
    classes: tuple[str, ...] = ()
    colour: str = ""
    size: tuple[int, ...] = ()

    @property
    def seen(self) -> bool:
        """Whether an app feeds or gets it."""
        return self.kind != "state"

    @property
    def type(self) -> str:
        """Its type in Swift."""
        return "CVPixelBuffer" if self.kind == "image" else f"Tensor<{TYPES[self.port.dtype]}>"


@dataclass(frozen=True, slots=True, kw_only=True)
class SwiftModel:
    """Inputs and outputs of a model for one target, in graph order."""

    inputs: tuple[SwiftPort, ...]
    outputs: tuple[SwiftPort, ...]

    def shown(self) -> Any:
        """Return what an app sees of it: this must be the same for all targets of a package."""
        return tuple(
            tuple((item.port, item.kind, item.colour, item.size) for item in ports)
            for ports in (self.inputs, self.outputs)
        )


def models_of(bundle: Bundle, targets: Sequence[ReleaseTarget]) -> dict[str, dict[str, SwiftModel]]:
    """Return by target and model what each model takes and gives there.

    Args:
        bundle: What is packaged.
        targets: Of Core ML and ONNX Runtime.

    Raises:
        UsageError: Targets differ in what an app would see of a model, a tensor has a type that
            Swift or the runtime has not, or Core ML's own names are not in the release (E760).
    """
    found: dict[str, dict[str, SwiftModel]] = {}
    first: dict[str, tuple[str, Any]] = {}
    for target in targets:
        found[target.target] = {}
        for model in target.models:
            made = _model(bundle, target, model)
            found[target.target][model.name] = made
            other, shown = first.setdefault(model.name, (target.target, made.shown()))
            if shown != made.shown():
                raise unfit(
                    "swift",
                    f"an app would feed {model.name} otherwise for {target.target} than for "
                    f"{other}",
                    "give both targets the same options, or release one under another name",
                )
    return found


def _model(bundle: Bundle, target: ReleaseTarget, model: ReleaseModel) -> SwiftModel:
    interface = interface_of(model)
    for port in (*interface.inputs, *interface.outputs):
        known = ORT_TYPES if target.runtime == "ort" else TYPES.keys()
        if port.dtype not in known:
            raise unfit(
                "swift",
                f"{port.name} of {model.name} is {port.dtype}, which Swift code cannot give to or "
                f"get from {target.runtime}",
                "give the model inputs and outputs of another type",
            )
    if target.runtime == "ort":
        return SwiftModel(
            inputs=tuple(map(_plain, interface.inputs)),
            outputs=tuple(map(_plain, interface.outputs)),
        )
    told = _told(bundle, target, model)
    try:
        return SwiftModel(
            inputs=tuple(_core_ml(port, told["inputs"]) for port in interface.inputs),
            outputs=tuple(_core_ml(port, told["outputs"]) for port in interface.outputs),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _unknown(target, model) from error


def _plain(port: Port) -> SwiftPort:
    return SwiftPort(port=port, called=port.name, dtype=port.dtype, kind="array")


def _told(bundle: Bundle, target: ReleaseTarget, model: ReleaseModel) -> Any:
    """Return what the artifact says of its inputs and outputs: Core ML has other names and types.

    Its form is that of :class:`edgedeploy.backends.apple.interface.Interface`.
    """
    path = f"{folder_of(target.target, model.name)}/{_INTERFACE}"
    try:
        return json.loads(bundle.read(path))
    except (KeyError, ValueError) as error:
        raise _unknown(target, model) from error


def _core_ml(port: Port, told: Sequence[Mapping[str, Any]]) -> SwiftPort:
    (about,) = (item for item in told if item["onnx_name"] == port.name)
    kind, image = about["kind"], about["image"]
    if kind not in _KINDS or (kind == "image") != (image is not None):
        raise ValueError(kind)
    return SwiftPort(
        port=port,
        called=str(about["name"]),
        dtype=str(about["dtype"]),
        kind=kind,
        classes=tuple(map(str, about["classes"])),
        colour="" if image is None else str(image["colour"]),
        size=() if image is None else tuple(_size(port, str(image["layout"]))),
    )


def _size(port: Port, layout: str) -> Iterator[int]:
    if port.fixed is not None:
        yield from (port.fixed[layout.index(axis)] for axis in "hw")


def _unknown(target: ReleaseTarget, model: ReleaseModel) -> UsageError:
    return unfit(
        "swift",
        f"the release does not say what {model.name} takes and gives on {target.target}",
        "build and release it again",
    )
