"""Weights made smaller after the conversion, by coremltools' own compressors.

For models that no quantizer touched; weights that are integers already are left alone.
https://apple.github.io/coremltools/docs-guides/source/opt-overview.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgedeploy.backends.apple.mil_api import optimize, quiet
from edgedeploy.errors import BuildError

FORMS: Mapping[str, tuple[str, int]] = {
    "int8": ("integers", 8),
    "int4": ("integers", 4),
    "palette-8": ("palette", 8),
    "palette-6": ("palette", 6),
    "palette-4": ("palette", 4),
    "palette-2": ("palette", 2),
}
"""Values of the option ``compress``: what weights become, and in how many bits.

``integers`` have one scale per output channel, or per block of 32 inputs in four bits; a
``palette`` has the best 2^bits values of each weight, found by k-means.
"""

BLOCK = 32


def check_form(form: str, ios: int) -> None:
    """Refuse a form that programs for this iOS cannot have.

    Args:
        form: ``none`` or a key of :data:`FORMS`.
        ios: Major version of iOS.

    Raises:
        BuildError: It has no such form (E310).
    """
    if form == "int4" and ios < 18:
        raise BuildError(
            f"compress: {form} needs iOS 18 or macOS 15",
            code="E310",
            subject="compress",
            hint="use palette-4, which is as small, or int8",
        )


def compressed(model: Any, form: str) -> Any:
    """Return a converted model (``ct.models.MLModel``) with its weights made smaller.

    Args:
        model: The model; it has not been loaded.
        form: A key of :data:`FORMS`.
    """
    kind, bits = FORMS[form]
    with quiet():
        if kind == "palette":
            palette = optimize.OpPalettizerConfig(mode="kmeans", nbits=bits)
            return optimize.palettize_weights(model, optimize.OptimizationConfig(palette))
        words: dict[str, Any] = {"mode": "linear_symmetric", "dtype": "int8"}
        if bits < 8:
            words |= {"dtype": "int4", "granularity": "per_block", "block_size": BLOCK}
        config = optimize.OpLinearQuantizerConfig(**words)
        return optimize.linear_quantize_weights(model, optimize.OptimizationConfig(config))
