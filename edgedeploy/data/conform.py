"""Bringing samples to what a model takes, or saying by name why they cannot be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgedeploy.errors import DataError
from edgedeploy.profile.types import InputSpec
from edgedeploy.signature import TensorSpec


class Conformer:
    """Checks samples against a signature, casting only where no meaning is lost.

    Whole numbers are cast where every value is kept exactly; floats may be rounded to a narrower
    float type; a missing leading batch axis of size 1 is added. What was done is counted in
    :attr:`notes`.

    Args:
        inputs: The model's inputs without state inputs, dims bound where they are fixed.
        specs: The profile's words on them; ``value`` makes a constant.

    Raises:
        DataError: A constant does not fit its input (E256, E257), or names none (E255).
    """

    def __init__(self, inputs: Sequence[TensorSpec], specs: Mapping[str, InputSpec]) -> None:
        self._inputs = {spec.name: spec for spec in inputs}
        self.notes: Counter[str] = Counter()
        self._constants: dict[str, np.ndarray] = {}
        for name, spec in specs.items():
            if spec.value is None:
                continue
            if name not in self._inputs:
                raise DataError(
                    f"the profile gives a value for '{name}', which is no input of the model",
                    code="E255",
                    subject=name,
                    hint=f"The inputs are: {', '.join(self._inputs)}.",
                )
            self._constants[name] = self._constant(self._inputs[name], spec.value)

    @property
    def wanted(self) -> tuple[TensorSpec, ...]:
        """The inputs that samples must give (those without a constant)."""
        return tuple(spec for name, spec in self._inputs.items() if name not in self._constants)

    def _constant(self, spec: TensorSpec, value: Any) -> np.ndarray:
        array = _array("the profile's value", spec.name, value)
        if array.ndim == 0 and spec.dims:
            shape = [dim if isinstance(dim, int) else 1 for dim in spec.dims]
            array = np.full(shape, value)
        return self._tensor("the profile's value", spec, array)

    def takes(self, tensors: Mapping[str, Any]) -> bool:
        """Return whether the shapes of a sample are such as the model takes."""
        return all(
            name in tensors and self._fits(spec, np.shape(tensors[name])) is not None
            for name, spec in self._inputs.items()
            if name not in self._constants
        )

    def conform(self, sample: str, tensors: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Return the sample as the model takes it, in the order of the inputs.

        Args:
            sample: Its id, for messages.
            tensors: Arrays (or nested lists) by input name.

        Raises:
            DataError: A name is missing or unknown (E255), a dtype (E256) or shape (E257) does
                not fit, or a value is not finite (E258).
        """
        wanted = {spec.name for spec in self.wanted}
        if set(tensors) != wanted:
            missing, extra = sorted(wanted - set(tensors)), sorted(set(tensors) - wanted)
            parts = [f"lacks {', '.join(missing)}"] if missing else []
            parts += [f"has {', '.join(extra)}, which the model does not take"] if extra else []
            raise DataError(
                f"sample {sample} {' and '.join(parts)}",
                code="E255",
                subject=sample,
                hint=f"Give exactly: {', '.join(sorted(wanted))}.",
            )
        return {
            name: self._constants[name]
            if name in self._constants
            else self._tensor(
                f"sample {sample}", spec, _array(f"sample {sample}", name, tensors[name])
            )
            for name, spec in self._inputs.items()
        }

    def _tensor(self, where: str, spec: TensorSpec, array: np.ndarray) -> np.ndarray:
        array = self._shaped(where, spec, array)
        array = self._cast(where, spec, array)
        if array.dtype.kind in "fc" and not np.isfinite(array).all():
            count = int(array.size - np.isfinite(array).sum())
            raise DataError(
                f"{where}: '{spec.name}' has {count} values that are NaN or infinite",
                code="E258",
                subject=spec.name,
                hint="Remove the sample or mend what makes it.",
            )
        return array

    def _shaped(self, where: str, spec: TensorSpec, array: np.ndarray) -> np.ndarray:
        shape = self._fits(spec, array.shape)
        if shape is None:
            wanted = ", ".join("?" if dim is None else str(dim) for dim in spec.dims or ())
            raise DataError(
                f"{where}: '{spec.name}' has shape {list(array.shape)}, the model takes [{wanted}]",
                code="E257",
                subject=spec.name,
                hint="Reshape the data, or bind other dims in the profile.",
            )
        if len(shape) > array.ndim:
            self.notes[f"'{spec.name}': batch axis added"] += 1
        return array.reshape(shape)

    @staticmethod
    def _fits(spec: TensorSpec, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        """Return the shape with its batch axis, or None where the input does not take it."""
        dims = spec.dims
        if dims is None:
            return shape
        if len(shape) == len(dims) - 1 and (dims[0] == 1 or not isinstance(dims[0], int)):
            shape = (1, *shape)
        fits = len(shape) == len(dims) and all(
            size == dim or not isinstance(dim, int) for size, dim in zip(shape, dims, strict=True)
        )
        return shape if fits and 0 not in shape else None

    def _cast(self, where: str, spec: TensorSpec, array: np.ndarray) -> np.ndarray:
        if spec.dtype == "string" and array.dtype.kind in "OU":
            return array.astype(object)
        if array.dtype.name == spec.dtype:
            return array
        if spec.dtype not in ("string", "bfloat16") and array.dtype.kind in "biuf":
            goal = np.dtype(spec.dtype)
            with np.errstate(over="ignore", invalid="ignore"):
                cast = array.astype(goal)
            if _is_kept(array, cast):
                self.notes[f"'{spec.name}': {array.dtype.name} cast to {goal.name}"] += 1
                return cast
        raise DataError(
            f"{where}: '{spec.name}' is {array.dtype.name}, which cannot become {spec.dtype} "
            "without loss",
            code="E256",
            subject=spec.name,
            hint=f"Give the data as {spec.dtype}.",
        )


def _array(where: str, name: str, value: Any) -> np.ndarray:
    try:
        return np.asarray(value)
    except ValueError as error:
        raise DataError(
            f"{where}: '{name}' is no array: {error}",
            code="E257",
            subject=name,
            hint="Give all rows the same length.",
        ) from error


def _is_kept(array: np.ndarray, cast: np.ndarray) -> bool:
    """Return whether ``cast`` still means ``array``."""
    if cast.dtype.kind == "f" and array.dtype.kind == "f":
        return bool((np.isfinite(cast) == np.isfinite(array)).all())
    if array.dtype.kind == "f" or cast.dtype.kind not in "iuf":
        return False
    if not np.can_cast(array.dtype, cast.dtype, "safe") and cast.dtype.kind in "iu":
        limits = np.iinfo(cast.dtype)
        return bool(array.size == 0 or (array.min() >= limits.min and array.max() <= limits.max))
    return bool((cast.astype(np.longdouble) == array.astype(np.longdouble)).all())
