"""Activation functions."""

from __future__ import annotations

from edgedeploy.backends.apple.mil_api import Var, mb
from edgedeploy.backends.apple.node import Node
from edgedeploy.backends.apple.registry import op


@op("Relu")
def relu(node: Node) -> Var:
    """Return ``max(x, 0)``."""
    if node.dtype(0).startswith("float"):
        return mb.relu(x=node.var(0))
    return mb.maximum(x=node.var(0), y=0)
