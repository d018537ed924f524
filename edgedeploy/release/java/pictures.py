"""Java sources that make inputs of the pixels of pictures, for an app's own sources.

They hold loops and branches, which the class files of a package do not (see :mod:`.model`); so an
app compiles them, as it does the Kotlin extensions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from edgedeploy.release.identifiers import identifiers
from edgedeploy.release.java.source import comment, java_text
from edgedeploy.release.java.wrapper import Wrapped, inputs_of
from edgedeploy.release.picture import Picture

_SOURCE = Path(__file__).with_name("Pixels.java")


def picture_sources(wrapped: Sequence[Wrapped]) -> dict[str, str]:
    """Return sources by path: ``Pixels`` of a package, and ``NAMEPixels`` for each model.

    Args:
        wrapped: The models of one Java package; those without pictures have no source.
    """
    found = {}
    for item in wrapped:
        ports = {port.name: port.port.picture for port in inputs_of(item)}
        pictures = {name: picture for name, picture in ports.items() if picture is not None}
        if pictures:
            head = f"package {item.package.replace('/', '.')};\n\n"
            found[f"{item.package}/Pixels.java"] = head + _SOURCE.read_text(encoding="utf-8")
            found[f"{item.internal}Pixels.java"] = head + _model_source(item, pictures)
    return found


def _model_source(item: Wrapped, pictures: Mapping[str, Picture]) -> str:
    lines = [
        *comment((f"Inputs of {item.name} of the pixels of a picture.",)),
        f"public final class {item.name}Pixels {{",
        f"    private {item.name}Pixels() {{}}",
    ]
    names = identifiers(pictures, "pascal", "java", kind="input")
    for name, picture in pictures.items():
        lines += ["", *_method(f"prepare{names[name]}", name, picture)]
    return "\n".join([*lines, "}", ""])


def _method(method: str, name: str, picture: Picture) -> Iterator[str]:
    yield from comment((f"Returns the input {name}.",), "    ")
    yield f"    public static Pixels.Input {method}(Pixels pixels) {{"
    yield "        Pixels.Words words = new Pixels.Words();"
    values: dict[str, str] = {
        "height": str(picture.height),
        "width": str(picture.width or 0),
        "fixedWidth": str(picture.fixed_width or 0),
        "fit": java_text(picture.fit),
        "padValue": str(picture.pad_value),
        "resample": java_text(picture.resample),
        "colour": java_text(picture.colour),
        "layout": java_text(picture.layout),
        "scale": f"(float) {picture.scale!r}",
        "mean": _floats(picture.mean),
        "std": _floats(picture.std),
        "bytes": str(picture.dtype == "uint8").lower(),
    }
    for key, value in values.items():
        yield f"        words.{key} = {value};"
    yield "        return pixels.input(words);"
    yield "    }"


def _floats(values: Sequence[float]) -> str:
    return "new float[] {" + ", ".join(f"(float) {value!r}" for value in values) + "}"
