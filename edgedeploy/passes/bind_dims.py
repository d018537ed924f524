"""Input dims become positive numbers or names: what the profile fixes, else a name per axis."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from edgedeploy.errors import ModelError
from edgedeploy.passes.base import Pass
from edgedeploy.signature import Dim

Binding = tuple[Dim, ...]
"""Per axis: a size, a name, or None to leave what the model says."""


class BindDims(Pass):
    """Sets the dims of inputs; a named dim that is bound once is bound wherever it occurs.

    A dim of -1, 0 or ``?`` and a nameless one become ``<input>_d<axis>``. Shapes of intermediate
    values and outputs that follow from the inputs are dropped, to be inferred anew.

    Args:
        dims: Bindings by input name.
    """

    def __init__(self, dims: Mapping[str, Binding]) -> None:
        self._dims = dims

    def requires(self, model: ir.Model) -> None:
        """Refuse bindings of what is no input (E220)."""
        known = {value.name or "" for value in model.graph.inputs}
        for name in self._dims:
            if name not in known:
                raise ModelError(
                    f"the model has no input {name!r}; it has {', '.join(sorted(known))}",
                    code="E220",
                    subject=name,
                    hint="name one of the model's inputs",
                )

    def apply(self, model: ir.Model) -> bool:
        """Bind the dims and forget what was inferred with the old ones."""
        sizes: dict[str, Dim] = {}
        for value in model.graph.inputs:
            _collect(value, self._dims.get(value.name or ""), sizes)
        for value in model.graph.inputs:
            _set(value, self._dims.get(value.name or ""), sizes)
        for node in ir.traversal.RecursiveGraphIterator(model.graph):
            # Only what shape inference can find again: it does not know other domains.
            for output in node.outputs:
                if node.domain == "" and not output.is_graph_output():
                    output.shape = None
                else:
                    _rename(output, sizes)
        for index, output in enumerate(model.graph.outputs):
            _name_dims(output, f"{output.name or index}")
        return True

    def ensures(self, model: ir.Model) -> str | None:
        """Every input dim is a positive number or a name."""
        for value in model.graph.inputs:
            for dim in value.shape or ():
                if (isinstance(dim, int) and dim < 1) or (
                    not isinstance(dim, int) and not dim.value
                ):
                    return f"a dim of the input {value.name!r} is {dim}"
        return None


def _collect(value: ir.Value, binding: Binding | None, sizes: dict[str, Dim]) -> None:
    """Note which named dims a binding fixes, after checking that it fits the input."""
    if binding is None:
        return
    if value.shape is None:
        return
    if len(binding) != value.shape.rank():
        raise ModelError(
            f"{len(binding)} dims are given but the input has {value.shape.rank()}",
            code="E220",
            subject=value.name,
            hint=f"the model's own shape is {value.shape}",
        )
    for axis, (own, wanted) in enumerate(zip(value.shape, binding, strict=True)):
        if wanted is None:
            continue
        if isinstance(own, int) and own > 0:
            if wanted != own:
                raise ModelError(
                    f"axis {axis} is {own} in the model and {wanted} was asked for",
                    code="E220",
                    subject=value.name,
                    hint=f"the model's own shape is {value.shape}",
                )
            continue
        name = None if isinstance(own, int) or own.value == "?" else own.value
        if name and sizes.setdefault(name, wanted) != wanted:
            raise ModelError(
                f"the dim {name!r} is asked to be {sizes[name]} and {wanted}",
                code="E220",
                subject=value.name,
                hint="axes with one name have one size",
            )


def _set(value: ir.Value, binding: Binding | None, sizes: Mapping[str, Dim]) -> None:
    if value.shape is None:
        if binding is None or any(dim is None for dim in binding):
            return
        value.shape = ir.Shape(binding)
        return
    wanted = binding or (None,) * value.shape.rank()
    dims = []
    for own, given in zip(value.shape, wanted, strict=True):
        name = None if isinstance(own, int) else own.value
        dims.append(given if given is not None else sizes.get(name or "", own))
    value.shape = ir.Shape(dims)
    _name_dims(value, value.name or "input")


def _rename(value: ir.Value, sizes: Mapping[str, Dim]) -> None:
    if value.shape is not None and sizes:
        value.shape = ir.Shape(
            [
                dim if isinstance(dim, int) else sizes.get(dim.value or "", dim)
                for dim in value.shape
            ]
        )


def _name_dims(value: ir.Value, stem: str) -> None:
    """Give every dim that is no positive number and has no name a name."""
    if value.shape is None:
        return
    dims: list[int | str] = []
    for axis, dim in enumerate(value.shape):
        if isinstance(dim, int):
            dims.append(dim if dim > 0 else f"{stem}_d{axis}")
        else:
            known = dim.value if dim.value and dim.value != "?" else None
            dims.append(known or f"{stem}_d{axis}")
    value.shape = ir.Shape(dims)
