"""Which function translates which ONNX operator.

A function gets the :class:`~edgedeploy.backends.apple.node.Node` and returns one MIL value per
output (a single one may stand alone). It refuses a form that it cannot express through
:meth:`Node.refuse`; it never guesses.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgedeploy.backends.apple.node import Node

Translate = Callable[["Node"], Any]

_OPS: dict[str, Translate] = {}


def op(*names: str) -> Callable[[Translate], Translate]:
    """Register the decorated function for operators.

    Args:
        names: Operators of the standard ONNX domain; others with their domain, such as
            ``com.microsoft.MatMulNBits``.
    """

    def register(translate: Translate) -> Translate:
        for name in names:
            if name in _OPS:
                raise ValueError(f"{name} is registered twice")
            _OPS[name] = translate
        return translate

    return register


def translations() -> dict[str, Translate]:
    """Return all operators by name, loading the families in ``ops/`` on the first call."""
    from edgedeploy.backends.apple import ops

    for module in pkgutil.iter_modules(ops.__path__):
        importlib.import_module(f"{ops.__name__}.{module.name}")
    return _OPS
