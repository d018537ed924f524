"""A function of the user's project over several models: ``def read(inputs, models) -> outputs``.

What a pipeline computes is a model here, whoever runs it: the float models in a build's trace, the
artifacts of a target, or a device. The function sees :class:`Models` alone::

    def read(inputs: dict[str, ndarray], models: Models) -> dict[str, ndarray]:
        boxes = models.detector(image=inputs["page"])["boxes"]

Nothing is cast or reshaped on the way: an application calls a runtime that would not do it either.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from edgedeploy.data.usercode import load_function, user_errors
from edgedeploy.errors import DataError
from edgedeploy.profile.dims import format_dim, takes
from edgedeploy.profile.types import DimSpec
from edgedeploy.runner import StateCarrier
from edgedeploy.signature import Signature, TensorSpec

if TYPE_CHECKING:
    import numpy as np

_FAILED = "E881"


class Runs(Protocol):
    """What computes a model: a :class:`edgedeploy.runner.Runner`, or what stands for one."""

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return all outputs by name for one set of inputs, state among them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A model in one shape variant, ready to be called.

    Attributes:
        name: The model's name with its variant, such as ``recogniser[W=320]``.
        runs: What computes it.
        signature: Of the normal form: what a call is held against, whatever computes.
        dims: What the profile says of named dims; a size outside of a range is refused.
        state: ``(state input, state output)`` names; they are fed and taken here, not by the
            function.
        zeros: The state at the start of a sequence, by state input.
    """

    name: str
    runs: Runs
    signature: Signature
    dims: Mapping[str, DimSpec] = field(default_factory=dict)
    state: Sequence[tuple[str, str]] = ()
    zeros: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What a call gives: all inputs but the state."""
        fed = {given for given, _ in self.state}
        return tuple(spec for spec in self.signature.inputs if spec.name not in fed)

    def why_not(self, given: Mapping[str, Any]) -> str:
        """Return why the model does not take these inputs, in words; empty where it does."""
        wanted = {spec.name: spec for spec in self.inputs}
        if wanted.keys() != given.keys():
            return f"it takes {', '.join(wanted)}, not {', '.join(map(str, given)) or 'nothing'}"
        for name, value in given.items():
            found = _misfit(wanted[name], value, self.dims)
            if found:
                return found
        return ""


def _misfit(spec: TensorSpec, value: Any, dims: Mapping[str, DimSpec]) -> str:
    import numpy as np

    if not isinstance(value, np.ndarray):
        return f"`{spec.name}` is a {type(value).__name__}, not an array"
    dtype = "string" if value.dtype.kind in "OU" else value.dtype.name
    if dtype != spec.dtype:
        return f"`{spec.name}` is {dtype}, not {spec.dtype}"
    if spec.dims is None:
        return ""
    wanted = ", ".join(_axis(dim, dims) for dim in spec.dims)
    sizes: dict[str, int] = {}
    fits = value.ndim == len(spec.dims) and all(
        _takes(dim, size, dims, sizes) for dim, size in zip(spec.dims, value.shape, strict=True)
    )
    return "" if fits else f"`{spec.name}` has the shape {list(value.shape)}, not [{wanted}]"


def _takes(
    dim: int | str | None, size: int, dims: Mapping[str, DimSpec], sizes: dict[str, int]
) -> bool:
    """Return whether an axis may have a size; ``sizes`` holds those of the names seen so far."""
    if size == 0 or (isinstance(dim, int) and size != dim):
        return False
    if not isinstance(dim, str):
        return True
    if sizes.setdefault(dim, size) != size:
        return False
    return dim not in dims or takes(dims[dim], size)


def _axis(dim: int | str | None, dims: Mapping[str, DimSpec]) -> str:
    if isinstance(dim, str) and dim in dims:
        return f"{dim}: {format_dim(dims[dim])}"
    return "any" if dim is None else str(dim)


OnCall = Callable[[str, Mapping[str, Any], str], None]
"""Told of each call: the model's name with its variant, its inputs without state, the sequence."""


class Model:
    """A model as a pipeline's function calls it: ``models.detector(image=pixels)``.

    Args:
        name: The model's.
        variants: Its shape variants; the first that takes the inputs answers.
        metadata: The metadata properties of the model file, such as a list of characters.
        on_call: Told of each call before it is made.
    """

    def __init__(
        self,
        name: str,
        variants: Sequence[Loaded],
        metadata: Mapping[str, str] | None = None,
        on_call: OnCall | None = None,
    ) -> None:
        self._name = name
        self._variants = [(loaded, StateCarrier(loaded.state, loaded.zeros)) for loaded in variants]
        self._on_call = on_call
        self._sequence = ""
        self.metadata: Mapping[str, str] = dict(metadata or {})

    def start(self, sequence: str) -> None:
        """Begin a sample: the state starts from zeros where the sequence is another one."""
        self._sequence = sequence

    def __call__(self, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """Return the outputs by name, without those that are state.

        Args:
            inputs: All inputs but the state, as arrays of the very dtype and shape.

        Raises:
            DataError: A name, a dtype or a shape is not the model's (E884).
            BuildError: The runtime failed (E330).
        """
        why = ""
        for loaded, carrier in self._variants:
            why = loaded.why_not(inputs)
            if why:
                continue
            if self._on_call is not None:
                self._on_call(loaded.name, inputs, self._sequence)
            outputs = loaded.runs.run(carrier.feed(inputs, self._sequence))
            carrier.keep(outputs)
            kept = {made for _, made in loaded.state}
            return {name: value for name, value in outputs.items() if name not in kept}
        if len(self._variants) > 1:
            why = f"none of {', '.join(loaded.name for loaded, _ in self._variants)} fits: {why}"
        raise DataError(
            f"the pipeline's call of `{self._name}` does not fit the model: {why}",
            code="E884",
            subject=self._name,
            hint="give what the model takes, as `edgedeploy inspect` prints it: nothing is cast, "
            "because an application's runtime would not either",
        )


class Models:
    """The models of a profile by name, as attributes.

    Args:
        models: By name.
    """

    def __init__(self, models: Mapping[str, Model]) -> None:
        self._models = dict(models)

    def start(self, sequence: str) -> None:
        """Begin a sample of a sequence."""
        for model in self._models.values():
            model.start(sequence)

    def __getattr__(self, name: str) -> Model:
        """Return a model by name.

        Raises:
            DataError: The profile has no such model (E883).
        """
        if name.startswith("__"):  # what Python itself asks objects for
            raise AttributeError(name)
        return self[name]

    def __getitem__(self, name: str) -> Model:
        """Return a model by name, also one whose name is no Python name.

        Raises:
            DataError: The profile has no such model (E883).
        """
        try:
            return self._models[name]
        except KeyError:
            near = difflib.get_close_matches(name, self._models, n=1)
            raise DataError(
                f"the pipeline calls the model `{name}`, which the profile does not have",
                code="E883",
                subject=name,
                hint=(f"did you mean `{near[0]}`? " if near else "")
                + f"`models:` names {', '.join(self._models)}",
            ) from None


class Pipeline:
    """The function that a profile names, with everything that goes wrong in it told as its own.

    Args:
        reference: ``file.py:function``, relative to ``folder``.
        folder: The profile's folder.

    Raises:
        DataError: There is no such function (E282), the file raises when it is imported (E881), or
            the function does not take inputs and models (E880).
    """

    def __init__(self, reference: str, folder: Path) -> None:
        self._reference = reference
        self._folder = folder
        self._file = folder / reference.rpartition(":")[0]
        self._function = load_function(reference, folder, code=_FAILED)
        signature = inspect.signature(self._function)
        try:
            signature.bind(None, None)
        except TypeError as error:
            raise DataError(
                f"{reference}{signature} cannot be called as a pipeline: {error}",
                code="E880",
                subject=reference,
                hint="define it as `def name(inputs, models)`",
            ) from error

    def run(
        self, inputs: Mapping[str, np.ndarray], models: Models, sequence: str
    ) -> dict[str, np.ndarray]:
        """Return what the function returns for one sample.

        Args:
            inputs: The sample's arrays by name.
            models: What it may call.
            sequence: The sample's sequence, or its own name: states start anew where it changes.

        Raises:
            DataError: The function raised (E881), called a model that is not there (E883) or with
                what it does not take (E884), or returned something else than arrays (E882).
            BuildError: A runtime failed (E330).
        """
        models.start(sequence)
        with user_errors(self._reference, self._file, self._folder, _FAILED):
            found = self._function(dict(inputs), models)
        return self._arrays(found)

    def _arrays(self, found: Any) -> dict[str, np.ndarray]:
        import numpy as np

        if not isinstance(found, Mapping) or not found:
            raise self._wrong(f"returned {_shown(found)}, not a dict of arrays by name")
        arrays = {}
        for name, value in found.items():
            try:
                array = np.asarray(value)
            except ValueError as error:
                raise self._wrong(f"returned no array as {name!r}: {error}") from error
            texts = array.dtype.kind == "U" or (
                array.dtype.kind == "O" and all(isinstance(item, str) for item in array.flat)
            )
            if not isinstance(name, str) or not (texts or array.dtype.kind in "biuf"):
                raise self._wrong(f"returned {_shown(value)} as {name!r}")
            arrays[name] = array.astype(object) if texts else array
        return arrays

    def _wrong(self, what: str) -> DataError:
        return DataError(
            f"{self._reference} {what}",
            code="E882",
            subject=self._reference,
            hint="return a dict of names to arrays of numbers, booleans or texts",
        )


def _shown(value: Any) -> str:
    empty = isinstance(value, Mapping) and not value
    return "an empty dict" if empty else f"a {type(value).__name__}"
