"""What a calibrated scheme does to a layer's weight and bias beyond plain rounding."""

from __future__ import annotations

import hashlib

import numpy as np

from edgedeploy.errors import DataError
from edgedeploy.quant.bias_correction import mean_shift, spread_means
from edgedeploy.quant.layers import Layer, constant_shape, float_attribute
from edgedeploy.quant.numerics import quantize_weight
from edgedeploy.quant.rounding import round_weight
from edgedeploy.quant.scheme import Scheme
from edgedeploy.quant.selection import Exempt
from edgedeploy.quant.table import CalibrationTable
from edgedeploy.quant.unfold import fold_weight, groups_of, obstacle, unfold_weight

Rounded = dict[tuple[str, bytes, bytes], np.ndarray]
"""Integers by node, digest of the exact weight, and scales."""


class Refiner:
    """Rounds weights and corrects biases by what calibration saw of the activations.

    Args:
        scheme: Its ``rounding`` and ``bias_correction`` say what is wanted.
        table: The calibration table.
        known: What was rounded before, for other forms of the same model; added to.

    Attributes:
        plain: Layers that could not get what the scheme wants, with the reason.

    Raises:
        DataError: The scheme needs moments and the table has none (E263).
    """

    def __init__(
        self, scheme: Scheme, table: CalibrationTable, known: Rounded | None = None
    ) -> None:
        self._scheme = scheme
        self._table = table
        self.plain: list[Exempt] = []
        self._known: Rounded = {} if known is None else known
        if scheme.needs_moments and table.moments is None:
            raise DataError(
                "second-order rounding needs the moments of activations, and there are none",
                code="E263",
                hint="Name calibration data under `data: calibrate`, or set `rounding: nearest`.",
            )

    def integers(self, layer: Layer, weight: np.ndarray, scales: np.ndarray) -> np.ndarray | None:
        """Return a weight's integers by second-order rounding; None where it is plainly rounded.

        Args:
            layer: The layer.
            weight: Its float weight.
            scales: float32 ``[channels]`` or ``[]``.
        """
        if not self._scheme.needs_moments or self._table.moments is None:
            return None
        reason = obstacle(layer)
        moments = None if reason else self._table.moments.of(str(layer.node.name))
        if moments is None:
            self.leave(layer, reason or "there are no moments of its activation")
            return None
        content = hashlib.sha256(weight.tobytes()).digest()
        key = (str(layer.node.name), content, scales.tobytes())
        if key in self._known:
            return self._known[key]
        folded = fold_weight(layer, weight)
        units = np.broadcast_to(scales.reshape(-1), (folded.shape[0] * folded.shape[1],))
        greatest = self._scheme.greatest_weight
        rounded = round_weight(folded, units.reshape(folded.shape[:2]), moments, greatest)
        found = self._known[key] = unfold_weight(layer, rounded)
        return found

    def correctable(self, layer: Layer) -> bool:
        """Return whether a layer's bias is to be corrected and can be."""
        if not self._scheme.bias_correction:
            return False
        reason = obstacle(layer)
        if reason is None and not layer.bias_is_constant:
            reason = "its bias is computed"
        if reason is None and _factors(layer)[1] == 0.0:
            reason = "its bias counts nothing"
        if reason is None and self._mean(layer) is None:
            reason = "calibration told no channels of its activation apart"
        if reason is not None:
            self.leave(layer, reason)
        return reason is None

    def shift(
        self, layer: Layer, weight: np.ndarray, scales: np.ndarray, integers: np.ndarray | None
    ) -> np.ndarray:
        """Return by how much the bias of a correctable layer is too large after rounding.

        What rounding adds to the mean of each channel of its result, in units of the bias.

        Args:
            layer: The layer.
            weight: Its float weight.
            scales: float32 ``[channels]`` or ``[]``.
            integers: What the weight was rounded to; None for the nearest.

        Returns:
            float64 ``[channels]``.
        """
        axis = layer.channel_axis if scales.ndim else None
        shape = [1] * weight.ndim
        if axis is not None:
            shape[axis] = -1
        if integers is None:
            integers = quantize_weight(weight, scales, axis)
        units = scales.reshape(shape) if axis is not None else scales
        error = integers * units.astype(np.float64) - weight
        mean = self._mean(layer)
        if mean is None:
            raise ValueError(f"{layer.node.name} is not correctable")
        alpha, beta = _factors(layer)
        return mean_shift(layer, error, mean) * (alpha / beta)

    def _mean(self, layer: Layer) -> np.ndarray | None:
        """Return the mean of what a layer multiplies, ``[groups, inputs]``, as far as is known."""
        if self._table.moments is not None:
            found = self._table.moments.mean_of(str(layer.node.name))
            if found is not None:
                return found
        seen = self._table.channels.get(str(layer.activation and layer.activation.name))
        if seen is None or layer.channel_axis is None:
            return None
        inputs = constant_shape(layer.weight)[1 - layer.channel_axis]
        fits = len(seen.mean) == inputs * groups_of(layer)
        return spread_means(layer, np.asarray(seen.mean)) if fits else None

    def leave(self, layer: Layer, reason: str) -> None:
        """Note that a layer could not get what the scheme wants."""
        left = Exempt(node=str(layer.node.name), op=layer.node.op_type, reason=reason)
        if left not in self.plain:
            self.plain.append(left)


def _factors(layer: Layer) -> tuple[float, float]:
    """Return what a Gemm multiplies its product and its bias by; both 1 for anything else.

    The normal form has them folded where it may: not into a large weight that others read.
    """
    if layer.node.op_type != "Gemm":
        return 1.0, 1.0
    return float_attribute(layer.node, "alpha", 1.0), float_attribute(layer.node, "beta", 1.0)
