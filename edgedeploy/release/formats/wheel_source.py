"""The Python module that a wheel shows: a class per model, from its signature."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from textwrap import indent, wrap

from edgedeploy.release.bundle import Release, ReleaseModel, ReleaseTarget
from edgedeploy.release.formats.shared import unfit
from edgedeploy.release.identifiers import identifiers
from edgedeploy.release.interface import Interface, Port, interface_of

_WIDTH = 96
_IMAGE_WORDS = (
    *("height", "width", "fit", "pad_value", "resample"),
    *("colour", "layout", "scale", "mean", "std"),
)
_HEAD = '''\
"""{title}

Made by {made_by} from the release {digest}; do not edit.
"""

from __future__ import annotations

from dataclasses import dataclass as _dataclass

import numpy as _np
import numpy.typing as _npt

from ._loading import Model as _Model
from ._loading import Tensor as _Tensor
from ._loading import UnsuitableMachineError, verify
from ._loading import Variant as _Variant
{pixels}
__all__ = {names}
__version__ = {version}

RELEASE = {digest_text}
"""Digest of the release's manifest."""

_VARIANTS = (
{variants})
'''
_PIXELS = """\
from ._pixels import Image as _Image
from ._pixels import tensor_of as _tensor_of
"""


def module_source(
    release: Release, targets: Sequence[ReleaseTarget], places: Mapping[str, str]
) -> str:
    """Return the source of ``__init__.py``.

    Args:
        release: What is packaged.
        targets: That the wheel holds.
        places: For each the target under whose folder its files lie.

    Raises:
        UsageError: Targets differ in the inputs or outputs of a model, or one has a type that NumPy
            has not (E760).
    """
    interfaces = _interfaces(targets)
    classes = identifiers(interfaces, "pascal", "python", kind="model")
    head = _HEAD.format(
        title=_plain(f"Models of {release.name} {release.version}, typed by their signatures."),
        made_by=_plain(release.made_by),
        digest=release.digest,
        digest_text=repr(release.digest),
        pixels=_PIXELS if takes_pixels(interfaces.values()) else "",
        names=sorted({"RELEASE", "UnsuitableMachineError", "verify", *classes.values()}),
        version=repr(release.version),
        variants="".join(_variant(target, places[target.target]) for target in targets),
    )
    return head + "".join(_class(classes[name], interfaces[name]) for name in interfaces)


def _interfaces(targets: Sequence[ReleaseTarget]) -> dict[str, Interface]:
    found: dict[str, Interface] = {}
    for target in targets:
        for model in target.models:
            interface = interface_of(model)
            if found.setdefault(model.name, interface) != interface:
                raise unfit(
                    "wheel",
                    f"{model.name} has other inputs or outputs for {target.target}",
                    "release that target under another name",
                )
            for port in (*interface.inputs, *interface.outputs):
                if port.dtype == "bfloat16":
                    raise unfit(
                        "wheel",
                        f"{port.name} of {model.name} is bfloat16, which NumPy has not",
                        "give the model inputs and outputs of another type",
                    )
    return found


def takes_pixels(interfaces: Iterable[Interface]) -> bool:
    """Return whether any model has an input that the wheel makes of pixels."""
    return any(port.picture is not None for item in interfaces for port in item.inputs)


def _variant(target: ReleaseTarget, place: str) -> str:
    entries = {model.name: _entry(target, model, place) for model in target.models}
    devices = {
        model.name: str(model.options["device"])
        for model in target.models
        if "device" in model.options
    }
    fields = {
        "target": target.target,
        "os": target.os,
        "arch": target.arch,
        "runtime": target.runtime,
        "versions": target.runtime_versions,
        "entries": entries,
        "devices": devices,
    }
    lines = "".join(f"        {name}={value!r},\n" for name, value in fields.items())
    return f"    _Variant(\n{lines}    ),\n"


def _entry(target: ReleaseTarget, model: ReleaseModel, place: str) -> str:
    return place + model.entry.removeprefix(target.target)


def _class(name: str, interface: Interface) -> str:
    inputs = identifiers((port.name for port in interface.inputs), "snake", "python", kind="input")
    outputs = identifiers(
        (port.name for port in interface.outputs), "snake", "python", kind="output"
    )
    arguments = "".join(
        f"        {inputs[port.name]}: {_type(port)},\n" for port in interface.inputs
    )
    given = ", ".join(inputs[port.name] for port in interface.inputs)
    told = [*_told(interface.inputs, inputs, "Args"), "Returns:", *_returned(interface, outputs)]
    body = [
        f"\n\nclass {name}(_Model):",
        f'    """The model {_plain(interface.name)}."""',
        "",
        f"    _model = {interface.name!r}",
        f"    _inputs = {_tensors(interface.inputs)}",
        f"    _outputs = {_tensors(interface.outputs)}",
        "    _variants = _VARIANTS",
        "",
        "    @_dataclass(frozen=True)",
        "    class Outputs:",
        '        """What one run gives."""',
        "",
        *(f"        {outputs[port.name]}: {_type(port)}" for port in interface.outputs),
        "",
        "    def run(",
        "        self,",
        *(["        *,"] if interface.inputs else []),
        f"{arguments}    ) -> {name}.Outputs:",
        '        """Run the model once.',
        "",
        *(indent(line, "        ") for line in told),
        '        """',
        f"        return self.Outputs(*self._run({given}))",
        *(line for port in interface.inputs for line in _prepare(port, inputs[port.name])),
    ]
    return "\n".join(body) + "\n"


def _prepare(port: Port, name: str) -> Iterator[str]:
    """Yield the method that makes an input of the pixels of a picture, where there is one."""
    picture = port.picture
    if picture is None:
        return
    yield ""
    yield "    @staticmethod"
    yield f"    def prepare_{name}(pixels: _npt.NDArray[_np.uint8]) -> {_type(port)}:"
    yield f'        """Return ``{name}`` of the pixels of a decoded picture, upright.'
    yield ""
    yield "        Args:"
    yield "            pixels: uint8 ``[h, w]`` or ``[h, w, channels]``: gray, RGB or RGBA."
    yield '        """'
    yield "        words = _Image("
    for key in _IMAGE_WORDS:
        yield f"            {key}={getattr(picture, key)!r},"
    yield "        )"
    yield f"        return _tensor_of(pixels, words, {picture.dtype!r}, {picture.fixed_width!r})"


def _told(ports: Sequence[Port], names: Mapping[str, str], title: str) -> Iterator[str]:
    """Yield the lines of a docstring that say what ports are, and how data becomes them."""
    if not ports:
        return
    yield f"{title}:"
    for port in ports:
        yield f"    {names[port.name]}: {_plain(port.in_words)}."
        for step in port.steps:
            yield from (f"        {line}" for line in wrap(_plain(step), _WIDTH - 20))
    yield ""


def _returned(interface: Interface, names: Mapping[str, str]) -> Iterator[str]:
    for port in interface.outputs:
        yield f"    ``{names[port.name]}``: {_plain(port.in_words)}."
        for step in port.steps:
            yield from (f"        {line}" for line in wrap(_plain(step), _WIDTH - 20))


def _tensors(ports: Sequence[Port]) -> str:
    made = (f"_Tensor({port.name!r}, {port.dtype!r}, {port.shape!r})" for port in ports)
    return "(" + "".join(f"\n        {text}," for text in made) + "\n    )"


def _type(port: Port) -> str:
    if port.dtype == "string":
        return "_npt.NDArray[_np.object_]"
    return f"_npt.NDArray[_np.{'bool_' if port.dtype == 'bool' else port.dtype}]"


def _plain(text: str) -> str:
    """Return text that can stand in a docstring: printable, and nothing that ends or escapes it."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in text)
    return shown.replace("\\", "\\\\").replace('"', "'")
