"""What a sensitivity analysis found, as plain data that planning may read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from edgedeploy.profile.types import RangeMethod

PRODUCTS = ("Gemm", "MatMul")
"""Op types whose weights are multiplied as matrices."""


COMPARED_RANGES: tuple[RangeMethod, ...] = (
    "average",
    "choose",
    "mse",
    "percentile-99.999",
    "minmax",
    "entropy",
)
"""Range methods that a survey compares; of equals the first is taken."""


def decibels(noise: float) -> float:
    """Return a share of noise as a signal-to-noise ratio in decibels; infinite without noise."""
    return -10.0 * math.log10(noise) if noise else math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSensitivity:
    """What becomes of the outputs when one layer alone is quantized.

    Attributes:
        node: Name of the layer's node in the normal form.
        op: Its op type.
        noise: Squared error of the float outputs over their squares, of the worst output.
        kl: Mean Kullback-Leibler divergence over the outputs' last axis, in nats: of the values
            where they are distributions, else of their softmax.
        multiply_adds: Of one inference with the first sample.
        weights: Elements of its weights.
        inside_db: Signal-to-noise ratio of its own result in the model with all layers quantized,
            in decibels, what earlier layers broke included; None where it cannot be told.
        metric: The task metric on the evaluation data; None where it was not looked at.
    """

    node: str
    op: str
    noise: float
    kl: float
    multiply_adds: int
    weights: int
    inside_db: float | None = None
    metric: float | None = None

    @property
    def sqnr_db(self) -> float:
        """``noise`` as a signal-to-noise ratio in decibels; infinite without noise."""
        return decibels(self.noise)


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """How a model takes to 8 bits.

    Attributes:
        samples: Calibration samples that were run.
        methods: Noise of the outputs with every layer quantized, by range method.
        ranges: The method that ``layers`` were measured with: the one with the least noise.
        layers: In graph order.
    """

    samples: int
    methods: Mapping[str, float]
    ranges: RangeMethod
    layers: tuple[LayerSensitivity, ...]

    def to_json(self) -> dict[str, Any]:
        """Return this as JSON data."""
        return {**asdict(self), "methods": dict(self.methods)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Survey:
        """Return the survey that :meth:`to_json` wrote."""
        layers = tuple(LayerSensitivity(**layer) for layer in data["layers"])
        return cls(**{**data, "layers": layers})

    def ranked(self) -> tuple[LayerSensitivity, ...]:
        """Return the layers by what keeping them in float is worth, best first.

        The noise that goes away, over the cost: the layer's share of the multiply-adds, which get
        slower, and of the weights, which get larger; and a share for the layer as such, whose
        neighbours then change between integers and floats.
        """
        work = max(self.multiply_adds(self.layers), 1)
        weights = max(sum(layer.weights for layer in self.layers), 1)

        def worth(layer: LayerSensitivity) -> float:
            cost = layer.multiply_adds / work + layer.weights / weights + 1 / len(self.layers)
            return layer.noise / cost

        return tuple(sorted(self.layers, key=lambda layer: (-worth(layer), layer.node)))

    @property
    def products_share(self) -> float:
        """The share of matrix products by constants in the multiply-adds."""
        products = [layer for layer in self.layers if layer.op in PRODUCTS]
        return self.multiply_adds(products) / max(self.multiply_adds(self.layers), 1)

    @staticmethod
    def multiply_adds(layers: tuple[LayerSensitivity, ...] | list[LayerSensitivity]) -> int:
        """Return the multiply-adds of some layers together."""
        return sum(layer.multiply_adds for layer in layers)
