"""Operations that run blocks, and lists of tensors.

MIL documentation: ``control_flow`` of iOS15. A list is a tuple of tensors here: its operations
return a new one, as every operation does.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgedeploy.mil.interpreter import Call, held
from edgedeploy.mil.registry import Array, op

List = tuple[Array, ...]


class FixedList(tuple[Array, ...]):
    """A list that may not grow."""


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


@op("make_list")
def make_list(
    elem_shape: Any,
    init_length: Array = 1,
    dynamic_length: Array = True,
    dtype: str = "fp32",
) -> tuple[List]:
    """Return a list of zeros.

    Args:
        elem_shape: Sizes of an element; texts for what is known only when it runs.
        init_length: How many elements.
        dynamic_length: Whether writing beyond its end makes it longer.
        dtype: Type of the elements.
    """
    sizes = elem_shape if isinstance(elem_shape, tuple) else tuple(np.atleast_1d(elem_shape))
    known = [0 if isinstance(size, str) else int(size) for size in sizes]
    kind = tuple if dynamic_length else FixedList
    return (kind([np.zeros(known, held(_DTYPES[dtype]))] * int(init_length)),)


@op("list_length")
def list_length(ls: List) -> Array:
    """Return the number of elements."""
    return np.int32(len(ls))


@op("list_read")
def list_read(ls: List, index: Array) -> Array:
    """Return an element."""
    return ls[_place(ls, index)]


@op("list_write")
def list_write(ls: List, index: Array, value: Array) -> tuple[List]:
    """Return the list with an element replaced.

    Beyond its end the list becomes longer, with zeros between (Apple's own test of lists).

    Raises:
        ValueError: The index is negative, or beyond the end of a list that may not grow.
    """
    place = int(index)
    if place < 0 or (place >= len(ls) and isinstance(ls, FixedList)):
        raise ValueError(f"index {place} of a list of {len(ls)}")
    longer = (*ls, *[np.zeros_like(value)] * (place - len(ls)))
    return (type(ls)((*longer[:place], value, *longer[place + 1 :])),)


@op("list_gather")
def list_gather(ls: List, indices: Array) -> Array:
    """Return elements stacked along a new first axis."""
    return np.stack([ls[_place(ls, index)] for index in indices])


@op("list_scatter")
def list_scatter(ls: List, indices: Array, value: Array) -> tuple[List]:
    """Return the list with the elements at ``indices`` replaced by the rows of ``value``."""
    for index, row in zip(indices, value, strict=True):
        (ls,) = list_write(ls, index, row)
    return (ls,)


def _place(ls: List, index: Array) -> int:
    if not 0 <= int(index) < len(ls):
        raise ValueError(f"index {int(index)} of a list of {len(ls)}")
    return int(index)
