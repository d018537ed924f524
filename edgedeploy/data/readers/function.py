"""A Python function of the user's project that yields samples.

It is called with the role's ``parameters`` as keyword arguments and yields ``inputs``,
``(inputs, truth)``, ``(inputs, truth, id)`` or ``(inputs, truth, id, sequence)``, where ``inputs``
maps input names to arrays. Its order is kept; ``samples`` takes the first ones.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any

from edgedeploy.data.readers import RawSample, Request
from edgedeploy.data.usercode import check_call, load_function, user_errors
from edgedeploy.errors import DataError


def read(request: Request) -> Iterator[RawSample]:
    """Yield what the function yields.

    Raises:
        DataError: No such function or other arguments (E282), it raises (E283), or it yields
            something else (E284).
    """
    selection, parameters = request.selection, dict(request.role.parameters)
    reference = str(request.role.source)
    file = selection.root / selection.names[0]
    function = load_function(reference, request.folder)
    check_call(reference, function, 0, parameters)
    with user_errors(reference, file, request.folder, "E283"):
        items = function(**parameters)
    if not hasattr(items, "__iter__") or isinstance(items, Mapping):
        raise _wrong(reference, f"returned {type(items).__name__}, not an iterable of samples")
    iterator = iter(items)
    for position in itertools.count():
        if position == request.role.samples:
            return
        with user_errors(reference, file, request.folder, "E283"):
            try:
                item = next(iterator)
            except StopIteration:
                return
        yield _sample(reference, position, item)


def _wrong(reference: str, what: str) -> DataError:
    return DataError(
        f"{reference} {what}",
        code="E284",
        subject=reference,
        hint="Yield a dict of input name to array, or a tuple (dict, truth[, id[, sequence]]).",
    )


def _sample(reference: str, position: int, item: Any) -> RawSample:
    parts = item if isinstance(item, tuple) else (item,)
    if not 1 <= len(parts) <= 4 or not isinstance(parts[0], Mapping):
        raise _wrong(reference, f"yielded {_shown(item)} as sample {position}")
    tensors, truth, sample_id, sequence = (*parts, None, None, None)[:4]
    truth = truth.tolist() if hasattr(truth, "tolist") else truth
    try:
        json.dumps(truth, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise _wrong(reference, f"yielded a truth that is no JSON data: {error}") from error
    return RawSample(
        id=str(position) if sample_id is None else str(sample_id),
        tensors=tensors,
        truth=truth,
        sequence=None if sequence is None else str(sequence),
    )


def _shown(item: Any) -> str:
    if isinstance(item, tuple):
        return f"({', '.join(type(part).__name__ for part in item)})"
    return type(item).__name__
