"""Running a model that takes preprocessed images on samples of one that preprocesses itself."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgedeploy.data.pack import Sample
from edgedeploy.data.preprocess import unbaked
from edgedeploy.profile.types import ImagePreprocess
from edgedeploy.runner import Closing, Evidence, Runner
from edgedeploy.signature import Signature


def unbake(
    inputs: Mapping[str, np.ndarray],
    images: Mapping[str, ImagePreprocess],
    dtypes: Mapping[str, str],
) -> dict[str, np.ndarray]:
    """Return inputs of the model without baked steps.

    Args:
        inputs: Of the model with them.
        images: What is declared of the inputs that bake something, by name.
        dtypes: NumPy names of what the model without them takes, by input.

    Raises:
        DataError: ``mean`` or ``std`` does not match the channels (E288).
    """
    return {
        name: unbaked(value, images[name]).astype(dtypes[name]) if name in images else value
        for name, value in inputs.items()
    }


class UnbakedSample(Sample):
    """A sample of a model with baked steps, as the model without them takes it.

    Args:
        sample: The sample.
        images: As of :func:`unbake`.
        dtypes: As of :func:`unbake`.
    """

    def __init__(
        self, sample: Sample, images: Mapping[str, ImagePreprocess], dtypes: Mapping[str, str]
    ) -> None:
        super().__init__(sample._entry, sample._file)
        self._images, self._dtypes = images, dtypes

    def tensors(self) -> dict[str, np.ndarray]:
        """Return all tensors by name; raises as :func:`unbake` and :meth:`Sample.tensors`."""
        return unbake(super().tensors(), self._images, self._dtypes)


class Unbaked(Closing):
    """A runner that does baked preprocessing before the model that it was not baked into.

    Args:
        runner: Of the model without baked steps; closed with this one.
        images: What is declared of the inputs by name; what bakes nothing is passed through.
    """

    def __init__(self, runner: Runner, images: Mapping[str, ImagePreprocess]) -> None:
        self._runner = runner
        self._images = {name: image for name, image in images.items() if image.baked}
        self._dtypes = {spec.name: spec.dtype for spec in runner.signature.inputs}

    @property
    def signature(self) -> Signature:
        """The inputs and outputs of the model without baked steps."""
        return self._runner.signature

    @property
    def evidence(self) -> Evidence:
        """What the outputs prove."""
        return self._runner.evidence

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return all outputs for the inputs of the model with baked steps.

        Raises:
            BuildError: The runtime refused the inputs or failed.
            DataError: ``mean`` or ``std`` does not match the channels (E288).
        """
        return self._runner.run(unbake(inputs, self._images, self._dtypes))

    def close(self) -> None:
        """Close the runner."""
        self._runner.close()
