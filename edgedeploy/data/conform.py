"""Bringing samples to what a model takes, or saying by name why they cannot be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgedeploy.errors import DataError
from edgedeploy.profile.dims import format_dim, takes
from edgedeploy.profile.types import DimSpec, InputSpec
from edgedeploy.signature import TensorSpec


class Conformer:
    """Checks samples against a signature, casting only where no meaning is lost.

    Whole numbers are cast where every value is kept exactly; floats may be rounded to a narrower
    float type; a missing leading batch axis of size 1 is added. What was done is counted in
    :attr:`notes`.

    Args:
        inputs: The model's inputs without state inputs, dims bound where they are fixed.
        specs: The profile's words on them; ``value`` makes a constant.
        axes: Per input, the name of each axis's dim (None where it has none).
        dims: What the profile says of named dims: ranges are checked, buckets choose samples.

    Raises:
        DataError: A constant does not fit its input (E256, E257), or names none (E255).
    """

    def __init__(
        self,
        inputs: Sequence[TensorSpec],
        specs: Mapping[str, InputSpec],
        axes: Mapping[str, Sequence[str | None]] | None = None,
        dims: Mapping[str, DimSpec] | None = None,
    ) -> None:
        self._inputs = {spec.name: spec for spec in inputs}
        self._images = {name: spec.image for name, spec in specs.items() if spec.image is not None}
        self._dims = {
            spec.name: tuple(
                (dims or {}).get(name or "") for name in (axes or {}).get(spec.name, ())
            )
            for spec in inputs
        }
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

    def is_of_other_bucket(self, tensors: Mapping[str, Any]) -> bool:
        """Return whether a bucketed axis has the size of a bucket that is not this model's."""
        for spec in self.wanted:
            own = spec.dims or ()
            if spec.name not in tensors or not any(
                dim and dim.buckets for dim in self._dims[spec.name]
            ):
                continue
            shape = _array("a sample", spec.name, tensors[spec.name]).shape
            if len(shape) == len(own) - 1:
                shape = (1, *shape)
            for size, bound, dim in zip(shape, own, self._dims[spec.name], strict=False):
                other = isinstance(bound, int) and size != bound
                if dim is not None and other and size in dim.buckets:
                    return True
        return False

    def conform(self, sample: str, tensors: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Return the sample as the model takes it, in the order of the inputs.

        Args:
            sample: Its id, for messages.
            tensors: Arrays (or nested lists) by input name.

        Raises:
            DataError: A name is missing or unknown (E255), a dtype (E256) or shape (E257) does
                not fit, the axes stand in another order (E843), or a value is not finite (E258).
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
        dims = spec.dims
        if dims is None:
            return array
        if array.ndim == len(dims) - 1 and (dims[0] == 1 or not isinstance(dims[0], int)):
            self.notes[f"'{spec.name}': batch axis added"] += 1
            array = array[None]
        fits = array.ndim == len(dims) and all(
            size == dim or not isinstance(dim, int)
            for size, dim in zip(array.shape, dims, strict=True)
        )
        if not fits:
            self._check_layout(where, spec, array.shape)
        if not fits or 0 in array.shape:
            wanted = ", ".join("?" if dim is None else str(dim) for dim in dims)
            if any(dim is not None and dim.buckets for dim in self._dims[spec.name]):
                wanted += "] or that of another bucket [" + ", ".join(
                    str(format_dim(dim)) for dim in self._dims[spec.name] if dim and dim.buckets
                )
            raise DataError(
                f"{where}: '{spec.name}' has shape {list(array.shape)}, the model takes [{wanted}]",
                code="E257",
                subject=spec.name,
                hint="Reshape the data, or bind other dims in the profile.",
            )
        self._check_ranges(where, spec, array.shape)
        return array

    def _check_layout(self, where: str, spec: TensorSpec, shape: tuple[int, ...]) -> None:
        """Refuse an image whose axes stand in another order than the model's."""
        image, dims = self._images.get(spec.name), spec.dims or ()
        if image is None or len(shape) != 4 or len(dims) != 4:
            return
        other = "nhwc" if image.layout == "nchw" else "nchw"
        order = (0, 2, 3, 1) if other == "nhwc" else (0, 3, 1, 2)
        turned = [shape[axis] for axis in order]
        if all(
            size == dim or not isinstance(dim, int) for size, dim in zip(turned, dims, strict=True)
        ):
            raise DataError(
                f"{where}: `layout: {image.layout}` gives '{spec.name}' the shape {list(shape)}, "
                f"the model takes {turned}",
                code="E843",
                subject=spec.name,
                hint=f"Write `layout: {other}` under `image`.",
            )

    def _check_ranges(self, where: str, spec: TensorSpec, shape: tuple[int, ...]) -> None:
        for axis, (size, dim) in enumerate(zip(shape, self._dims[spec.name], strict=False)):
            if dim is not None and not takes(dim, size):
                raise DataError(
                    f"{where}: axis {axis} of '{spec.name}' has size {size}, "
                    f"outside {format_dim(dim)}",
                    code="E257",
                    subject=spec.name,
                    hint="Give samples of these sizes, or widen the range in the profile.",
                )

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
