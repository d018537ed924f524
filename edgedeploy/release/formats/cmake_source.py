"""The header of a CMake package: a class per model, from its signature."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from textwrap import wrap

from edgedeploy.release.bundle import Release, ReleaseTarget
from edgedeploy.release.formats.shared import unfit
from edgedeploy.release.identifiers import identifiers
from edgedeploy.release.interface import Interface, Port, interface_of

_WIDTH = 96

# dtype -> C++ type and element type of the runtime; 16-bit floats and booleans as their bits.
_TYPES: Mapping[str, tuple[str, str]] = {
    "bool": ("std::uint8_t", "BOOL"),
    "bfloat16": ("std::uint16_t", "BFLOAT16"),
    "float16": ("std::uint16_t", "FLOAT16"),
    "float32": ("float", "FLOAT"),
    "float64": ("double", "DOUBLE"),
    **{
        f"{sign}int{bits}": (f"std::{sign}int{bits}_t", f"{sign}int{bits}".upper())
        for sign in ("", "u")
        for bits in (8, 16, 32, 64)
    },
}

_OURS = ("Error", "Pixels", "Target", "Tensor")
"""Names in the namespace that are no models."""

_HEAD = """\
// Models of {name} {version}, typed by their signatures.
//
// Made by {made_by} from the release
// {digest}; do not edit.
#pragma once

#include "session.hpp"
{pixels}
#include <filesystem>
#include <vector>

namespace {namespace} {{

/// What the application is built for: board and runtime.
enum class Target {{
{targets}}};
"""


def header_source(
    release: Release, targets: Sequence[ReleaseTarget], places: Mapping[str, str], namespace: str
) -> str:
    """Return the source of the header.

    Args:
        release: What is packaged.
        targets: That the package holds.
        places: For each the target under whose folder its files lie.
        namespace: Of everything in it.

    Raises:
        UsageError: Targets differ in the inputs or outputs of a model, or one of them is text
            (E760).
    """
    names = identifiers((target.target for target in targets), "snake", "cpp", kind="target")
    interfaces = _interfaces(targets)
    # The blank makes ours come first: what is called like one of them gets another name.
    spaced = [f"{model} " for model in interfaces]
    classes = identifiers([*_OURS, *spaced], "pascal", "cpp", kind="model")
    parts = [
        _HEAD.format(
            name=_plain(release.name),
            version=_plain(release.version),
            made_by=_plain(release.made_by),
            digest=release.digest,
            namespace=namespace,
            pixels='#include "pixels.hpp"\n' if takes_pixels(interfaces.values()) else "",
            targets="".join(f"  {names[item.target]},  // {item.target}\n" for item in targets),
        )
    ]
    for model, interface in interfaces.items():
        entries = {
            names[target.target]: places[target.target] + item.entry.removeprefix(target.target)
            for target in targets
            for item in target.models
            if item.name == model
        }
        parts.append(_class(classes[f"{model} "], interface, entries))
    return "".join([*parts, f"\n}}  // namespace {namespace}\n"])


def takes_pixels(interfaces: Iterable[Interface]) -> bool:
    """Return whether any model has an input that the package makes of pixels."""
    return any(port.picture is not None for item in interfaces for port in item.inputs)


def _interfaces(targets: Sequence[ReleaseTarget]) -> dict[str, Interface]:
    found: dict[str, Interface] = {}
    for target in targets:
        for model in target.models:
            interface = interface_of(model)
            if found.setdefault(model.name, interface) != interface:
                raise unfit(
                    "cmake",
                    f"{model.name} has other inputs or outputs for {target.target}",
                    "release that target under another name",
                )
            for port in (*interface.inputs, *interface.outputs):
                if port.dtype not in _TYPES:
                    raise unfit(
                        "cmake",
                        f"{port.name} of {model.name} is {port.dtype}, which C++ has no type for",
                        "give the model inputs and outputs of numbers",
                    )
    return found


def _class(name: str, interface: Interface, entries: Mapping[str, str]) -> str:
    inputs = identifiers((port.name for port in interface.inputs), "snake", "cpp", kind="input")
    outputs = identifiers((port.name for port in interface.outputs), "snake", "cpp", kind="output")
    arguments = ", ".join(
        f"const Tensor<{_TYPES[port.dtype][0]}>& {inputs[port.name]}" for port in interface.inputs
    )
    lines = [
        "",
        f"/// The model {_plain(interface.name)}.",
        f"class {name} {{",
        " public:",
        "  /// What one run gives.",
        "  struct Outputs {",
        *(line for port in interface.outputs for line in _field(port, outputs[port.name])),
        "  };",
        "",
        "  /// Opens the model.",
        "  ///",
        "  /// @param release Folder with the release's files.",
        "  /// @param target What the application is built for.",
        "  /// @param threads That the runtime may use; 0: as many as it likes.",
        f"  explicit {name}(const std::filesystem::path& release, Target target, int threads = 0)",
        "      : session_(detail::open(release / entry(target), threads)) {}",
        "",
        "  /// Runs the model once.",
        *_told(interface.inputs, inputs),
        f"  Outputs run({arguments}) const {{",
        *_body(interface, inputs),
        "  }",
        *(line for port in interface.inputs for line in _prepare(port, inputs[port.name])),
        "",
        " private:",
        "  static const char* entry(Target target) {",
        "    switch (target) {",
        *(
            f"      case Target::{target}:\n        return {_quoted(path)};"
            for target, path in entries.items()
        ),
        "      default:",
        '        throw Error("the release has no such model for this target");',
        "    }",
        "  }",
        "",
        "  detail::Owned<OrtSession> session_;",
        "};",
    ]
    return "\n".join(lines) + "\n"


def _prepare(port: Port, name: str) -> Iterator[str]:
    """Yield the function that makes an input of the pixels of a picture, where there is one."""
    picture = port.picture
    if picture is None:
        return
    kind = _TYPES[port.dtype][0]
    yield ""
    yield f"  /// Returns `{name}` of the pixels of a decoded picture."
    yield f"  static Tensor<{kind}> prepare_{name}(const Pixels& pixels) {{"
    yield "    const detail::Picture words{"
    sizes = (picture.height, picture.width or 0, picture.fixed_width or 0)
    yield f"        {', '.join(map(str, sizes))}, detail::Fit::{picture.fit}, {picture.pad_value},"
    yield f"        detail::Resample::{picture.resample}, detail::Colour::{picture.colour},"
    yield f"        detail::Layout::{picture.layout}, {_float(picture.scale)},"
    yield f"        {_floats(picture.mean)}, {_floats(picture.std)}}};"
    yield f"    return detail::tensor_of<{kind}>(pixels, words);"
    yield "  }"


def _float(value: float) -> str:
    """Return a number as C++ reads it and rounds it to float: all digits of the double."""
    return f"static_cast<float>({value!r})"


def _floats(values: Sequence[float]) -> str:
    return "{" + ", ".join(map(_float, values)) + "}"


def _field(port: Port, name: str) -> Iterator[str]:
    """Yield the declaration of an output, and how it becomes the answer."""
    yield f"    Tensor<{_TYPES[port.dtype][0]}> {name};  ///< {_said(port)}"
    for step in port.steps:
        yield from (f"    ///< {line}" for line in wrap(_plain(step), _WIDTH - 9))


def _body(interface: Interface, inputs: Mapping[str, str]) -> Iterator[str]:
    """Yield the statements that run a session; camel case: no input has such a name."""
    for at, port in enumerate(interface.inputs):
        axes = ", ".join(_axis(size) for size in port.shape)
        yield (
            f"    const auto valueOf{at} = detail::wrap({_quoted(port.name)}, "
            f"{inputs[port.name]}, {_element(port)},"
        )
        yield f"        {{{axes}}});"
    names = ", ".join(_quoted(port.name) for port in interface.inputs)
    values = ", ".join(f"valueOf{at}.get()" for at in range(len(interface.inputs)))
    wanted = ", ".join(_quoted(port.name) for port in interface.outputs)
    yield "    const auto madeValues = detail::run("
    yield f"        session_.get(), {{{names}}}, {{{values}}},"
    yield f"        {{{wanted}}});"
    yield "    return {"
    for at, port in enumerate(interface.outputs):
        call = f"detail::unwrap<{_TYPES[port.dtype][0]}>({_quoted(port.name)}, madeValues[{at}],"
        yield f"        {call}\n            {_element(port)}),"
    yield "    };"


def _axis(size: int | str) -> str:
    low, _, high = str(size).partition("..")
    if isinstance(size, int):
        return f"{{{size}, {size}}}"
    return f"{{{low}, {high}}}" if high.isdigit() else "{0, -1}"


def _element(port: Port) -> str:
    return f"ONNX_TENSOR_ELEMENT_DATA_TYPE_{_TYPES[port.dtype][1]}"


def _told(ports: Sequence[Port], names: Mapping[str, str]) -> Iterator[str]:
    if ports:
        yield "  ///"
    for port in ports:
        yield f"  /// @param {names[port.name]} {_said(port)}"
        for step in port.steps:
            yield from (f"  ///   {line}" for line in wrap(_plain(step), _WIDTH - 10))


def _said(port: Port) -> str:
    bits = port.dtype in ("bool", "float16", "bfloat16")
    return _plain(port.in_words) + (", as its bits." if bits else ".")


def _plain(text: str) -> str:
    """Return text that can stand in a comment: printable, and no backslash that joins lines."""
    return "".join(letter if letter.isprintable() else "?" for letter in text).replace("\\", "/")


def _quoted(text: str) -> str:
    """Return a string literal; bytes that are no plain letters as three octal digits."""
    plain = frozenset(b" !#$%&'()*+,-./:;<=>@[]^_`{|}~")
    made = (
        chr(byte) if byte in plain or (chr(byte).isalnum() and byte < 128) else f"\\{byte:03o}"
        for byte in text.encode()
    )
    return f'"{"".join(made)}"'
