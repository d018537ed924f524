"""An ONNX node as its translation sees it: attributes, and inputs as MIL values or constants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import onnx
import onnx_ir as ir

from edgedeploy.backends.apple import weights
from edgedeploy.backends.apple.mil_api import NARROW_INTEGERS, Var, is_symbolic, mb

if TYPE_CHECKING:
    from edgedeploy.backends.apple.translate import Translator


class Refusal(Exception):
    """A node that cannot be expressed; the translator collects these.

    Args:
        reason: Why, in one clause.
        hint: The way out.
    """

    def __init__(self, reason: str, hint: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


@dataclass(slots=True, eq=False)
class Value:
    """An ONNX tensor during translation.

    Attributes:
        dtype: Its ONNX type as a NumPy name, such as ``int64``.
        array: Its constant, as ONNX has it; None for what is computed.
        var: Its MIL value; None for a constant, which each block makes for itself.
    """

    dtype: str
    array: np.ndarray | None = None
    var: Var | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One ONNX node.

    Attributes:
        ir_node: The node.
        name: Its name.
        op: Its operator.
        opset: Version of the standard domain in this model.
        ios: Major version of iOS that the program is for: 16, 17 or 18.
        inputs: Its inputs, None where an optional one is left out.
        translator: For operators with bodies.
    """

    ir_node: ir.Node
    name: str
    op: str
    opset: int
    ios: int
    inputs: Sequence[Value | None]
    translator: Translator

    @property
    def since(self) -> int:
        """The opset version that defined the operator as it is used here."""
        return int(onnx.defs.get_schema(self.op, self.opset).since_version)

    @property
    def outputs(self) -> Sequence[ir.Value]:
        """Its outputs; one with an empty name is not wanted."""
        return self.ir_node.outputs

    def wants(self, index: int) -> bool:
        """Return whether an output is there and used."""
        if index >= len(self.outputs):
            return False
        made = self.outputs[index]
        return bool(made.name) and (bool(made.uses()) or made.is_graph_output())

    def attribute(self, name: str, default: Any = None) -> Any:
        """Return an attribute as int, float, str, list, array or graph, or the default."""
        found = self.ir_node.attributes.get(name)
        if found is None or found.value is None:
            return default
        if found.type == ir.AttributeType.TENSOR:
            return found.value.numpy()
        if found.type in (ir.AttributeType.INTS, ir.AttributeType.FLOATS, ir.AttributeType.STRINGS):
            return list(found.value)
        return found.value

    def given(self, index: int) -> bool:
        """Return whether an input is there."""
        return index < len(self.inputs) and self.inputs[index] is not None

    def value(self, index: int) -> Value:
        """Return an input that must be there."""
        found = self.inputs[index] if index < len(self.inputs) else None
        if found is None:
            self.refuse(f"input {index} is missing", "repair the model")
        return found

    def dtype(self, index: int) -> str:
        """Return the ONNX dtype of an input."""
        return self.value(index).dtype

    def made_dtype(self, index: int = 0) -> str:
        """Return the ONNX dtype of an output."""
        made = self.outputs[index].dtype
        if made is None:
            self.refuse("the type of its output is not known", "give the model type information")
        return str(made.numpy().name)

    def var(self, index: int, *, raw: bool = False) -> Var:
        """Return an input as a MIL value.

        Args:
            index: Which input.
            raw: Whether 8-bit integers stay what they are (only ``quantize``, ``dequantize`` and
                few others take them); by default they become int32.
        """
        value = self.value(index)
        var = self.translator.constant(value) if value.var is None else value.var
        if not raw and var.dtype in NARROW_INTEGERS:
            return mb.cast(x=var, dtype="int32")
        return var

    def constant(self, index: int) -> np.ndarray | None:
        """Return an input's value in its ONNX dtype where it is known now, else None.

        A weight that is kept in fewer bits is none: only :mod:`weights` may look at it.
        """
        value = self.value(index)
        if value.array is not None:
            return value.array
        known = None if value.var is None else value.var.val
        return None if known is None else np.asarray(known).astype(value.dtype)

    def need_constant(self, index: int, what: str) -> np.ndarray:
        """Return an input's value; refuse the node where it is computed at run time."""
        found = self.constant(index)
        kept = weights.packed(self.var(index)) if found is None else None
        if kept is not None:
            return kept.expanded()
        if found is None:
            self.refuse(
                f"{what} (input {index}) is computed at run time; Core ML needs it fixed",
                "bind the dims that it depends on, or feed a constant",
            )
        return found

    def shape(self, index: int) -> tuple[Any, ...]:
        """Return an input's sizes; symbols where they are known only at run time."""
        value = self.value(index)
        if value.array is not None:
            return tuple(value.array.shape)
        return tuple(self.var(index, raw=True).shape)

    def static_shape(self, index: int) -> tuple[int, ...]:
        """Return an input's sizes; refuse the node where one is open."""
        sizes = self.shape(index)
        if any(is_symbolic(size) for size in sizes):
            self.refuse(f"input {index} has open sizes", "bind the model's dims")
        return tuple(int(size) for size in sizes)

    def rank(self, index: int) -> int:
        """Return the number of axes of an input."""
        return len(self.shape(index))

    def axis(self, axis: int, rank: int) -> int:
        """Return an axis counted from the front; refuse one that does not exist."""
        if not -rank <= axis < max(rank, 1):
            self.refuse(f"axis {axis} does not exist in rank {rank}", "repair the model")
        return axis % rank if rank else 0

    def body(self, name: str, arguments: Sequence[Value] = ()) -> list[Var]:
        """Translate a body (an attribute that is a graph) in place; return its outputs.

        Args:
            name: Name of the attribute.
            arguments: One per input of the body.
        """
        return self.translator.body(self.attribute(name), arguments)

    def refuse(self, reason: str, hint: str) -> NoReturn:
        """Refuse this node.

        Args:
            reason: Why, such as ``dilated pooling``.
            hint: The way out.
        """
        raise Refusal(reason, hint)
