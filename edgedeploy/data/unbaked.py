"""Running a model that takes preprocessed images on samples of one that preprocesses itself."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgedeploy.data.preprocess import unbaked
from edgedeploy.profile.types import ImagePreprocess
from edgedeploy.runner import Closing, Evidence, Runner
from edgedeploy.signature import Signature


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
        return self._runner.run(
            {
                name: value
                if name not in self._images
                else unbaked(value, self._images[name]).astype(self._dtypes[name])
                for name, value in inputs.items()
            }
        )

    def close(self) -> None:
        """Close the runner."""
        self._runner.close()
