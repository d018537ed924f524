"""Random numbers, which no two runs would share."""

from __future__ import annotations

from edgedeploy.backends.apple.mil_api import Var
from edgedeploy.backends.apple.node import Node
from edgedeploy.backends.apple.registry import op


@op("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform")
@op("RandomUniformLike")
def random_numbers(node: Node) -> Var:
    """Refuse: what is drawn by chance could not be compared with the float model's."""
    node.refuse("it draws random numbers", "make them an input of the model")
