"""Tensors as the Java interface of ONNX Runtime carries them, under names for code.

Source: the public methods of its classes OnnxTensor and OnnxJavaType, 1.20.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgedeploy.release.identifiers import identifiers
from edgedeploy.release.interface import Port
from edgedeploy.release.java.model import of


@dataclass(frozen=True, slots=True)
class Carrier:
    """How tensors of a dtype cross the Java interface.

    Attributes:
        buffer: Class of the buffer.
        kind: Constant of OnnxJavaType where the buffer does not say the dtype; empty: it does.
        words: What its elements are, where Java has no such type.
    """

    buffer: str
    kind: str = ""
    words: str = ""


_CARRIERS: Mapping[str, Carrier] = {
    "float32": Carrier("FloatBuffer"),
    "float64": Carrier("DoubleBuffer"),
    "int64": Carrier("LongBuffer"),
    "int32": Carrier("IntBuffer"),
    "int16": Carrier("ShortBuffer"),
    "int8": Carrier("ByteBuffer", "INT8"),
    "uint8": Carrier("ByteBuffer", "UINT8", "unsigned bytes"),
    "bool": Carrier("ByteBuffer", "BOOL", "one byte each, 0 or 1"),
    "float16": Carrier("ShortBuffer", "FLOAT16", "the bits of half precision numbers"),
    "bfloat16": Carrier("ShortBuffer", "BFLOAT16", "the upper halves of float32 numbers"),
}


def apart(name: str, word: str) -> str:
    """Return a name with a word after it that is no other name: of a graph, all are UTF-8."""
    return f"{name} \ud800{word}"


def carried(dtype: str) -> bool:
    """Return whether the Java interface takes and gives tensors of a dtype (NumPy's name)."""
    return dtype in _CARRIERS


@dataclass(frozen=True, slots=True)
class Named:
    """A port as code calls it; ``shape`` names its shape, empty where that is fixed."""

    port: Port
    name: str
    shape: str
    carrier: Carrier

    @property
    def type(self) -> str:
        """Descriptor of its buffer."""
        return of(f"java/nio/{self.carrier.buffer}")

    @property
    def tensor(self) -> str:
        """A local variable that holds it as a tensor; nothing else is called so."""
        return f"_{self.name}Tensor"

    @property
    def doc(self) -> tuple[str, ...]:
        """What it is, in lines."""
        words = f", {self.carrier.words}" if self.carrier.words else ""
        return (f"{self.port.name}: {self.port.in_words}{words}.", *self.port.steps)


def named(ports: Sequence[Port], kind: str, *, fixed_shapes: bool) -> tuple[Named, ...]:
    """Return ports with names for code.

    Args:
        ports: Of a model.
        kind: What a port without a usable letter is called.
        fixed_shapes: Whether shapes that are known are named too.
    """
    shaped = {port.name for port in ports if fixed_shapes or port.fixed is None}
    asked = [port.name for port in ports] + [apart(name, "shape") for name in sorted(shaped)]
    found = identifiers(asked, "camel", "java", kind=kind)
    return tuple(
        Named(
            port,
            found[port.name],
            found[apart(port.name, "shape")] if port.name in shaped else "",
            _CARRIERS[port.dtype],
        )
        for port in ports
    )
