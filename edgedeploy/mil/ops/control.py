"""Operations that run blocks, and lists of tensors.

MIL documentation: ``control_flow`` of iOS15.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edgedeploy.mil.interpreter import Call, held
from edgedeploy.mil.registry import Array, op

_DTYPES = {"bool": "bool", "fp16": "float16", "fp32": "float32", "int32": "int32"}


@op("cond", call=True)
def cond(call: Call, pred: Array) -> tuple[Any, ...]:
    """Return the outputs of the first block if ``pred`` is true, of the second otherwise."""
    return call.run_block(0 if pred else 1)


@op("while_loop", call=True)
def while_loop(call: Call, loop_vars: Any) -> tuple[Any, ...]:
    """Run the second block on the loop variables for as long as the first returns true."""
    several = len(call.operation.inputs["loop_vars"]) > 1
    values = loop_vars if several else (loop_vars,)
    while call.run_block(0, values)[0]:
        values = call.run_block(1, values)
    return tuple(values)


@dataclass(frozen=True, slots=True)
class List:
    """A list of tensors of one shape; its operations return a new one, as every operation does.

    Attributes:
        items: The elements.
        grows: Whether a write beyond the end makes it longer.
    """

    items: tuple[Array, ...]
    grows: bool

    def at(self, index: Array) -> Array:
        """Return an element."""
        if not 0 <= int(index) < len(self.items):
            raise ValueError(f"index {int(index)} of a list of {len(self.items)}")
        return self.items[int(index)]

    def written(self, index: Array, value: Array) -> List:
        """Return the list with an element replaced; zeros fill what lies between."""
        place, size = int(index), len(self.items)
        if place < 0 or (place >= size and not self.grows):
            raise ValueError(f"index {place} of a list of {size}")
        items = [*self.items, *[np.zeros_like(value)] * (place + 1 - size)]
        items[place] = value
        return List(tuple(items), self.grows)


@op("make_list")
def make_list(
    elem_shape: Any,
    init_length: Array = 1,
    dynamic_length: Array = True,
    dtype: str = "fp32",
) -> List:
    """Return a list of zeros.

    Args:
        elem_shape: Sizes of an element; texts for what is known only when it runs.
        init_length: How many elements.
        dynamic_length: Whether it grows.
        dtype: Type of the elements.
    """
    sizes = elem_shape if isinstance(elem_shape, tuple) else tuple(np.atleast_1d(elem_shape))
    known = [0 if isinstance(size, str) else int(size) for size in sizes]
    zeros = np.zeros(known, held(_DTYPES[dtype]))
    return List((zeros,) * int(init_length), bool(dynamic_length))


@op("list_length")
def list_length(ls: List) -> Array:
    """Return the number of elements."""
    return np.int32(len(ls.items))


@op("list_read")
def list_read(ls: List, index: Array) -> Array:
    """Return an element."""
    return ls.at(index)


@op("list_write")
def list_write(ls: List, index: Array, value: Array) -> List:
    """Return the list with an element replaced."""
    return ls.written(index, value)


@op("list_gather")
def list_gather(ls: List, indices: Array) -> Array:
    """Return elements stacked along a new first axis."""
    return np.stack([ls.at(index) for index in indices])


@op("list_scatter")
def list_scatter(ls: List, indices: Array, value: Array) -> List:
    """Return the list with the elements at ``indices`` replaced by the rows of ``value``."""
    for index, row in zip(indices, value, strict=True):
        ls = ls.written(index, row)
    return ls
