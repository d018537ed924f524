"""Arithmetic with broadcasting."""

from __future__ import annotations

from edgedeploy.backends.apple.mil_api import Var, mb
from edgedeploy.backends.apple.node import Node
from edgedeploy.backends.apple.registry import op


@op("Add")
def add(node: Node) -> Var:
    """Return the sum."""
    return mb.add(x=node.var(0), y=node.var(1))
