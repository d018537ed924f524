"""From a MIL program to a saved ``.mlpackage``."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgedeploy.backends.apple import precision as computing
from edgedeploy.backends.apple.compress import check_form, compressed
from edgedeploy.backends.apple.flexible import Sizes
from edgedeploy.backends.apple.images import image_type, pixel_dims
from edgedeploy.backends.apple.interface import Port
from edgedeploy.backends.apple.mil_api import MIL_TYPES, TARGETS, checked_once, ct, quiet, types
from edgedeploy.backends.apple.special import classifier
from edgedeploy.backends.apple.translate import Translation
from edgedeploy.errors import BuildError

PACKAGE = "model.mlpackage"

HARMFUL_PASSES = (
    # Takes a reshape between two conversions to work on the integers, and does not look whether
    # their scales are the same.
    "common::int_op_canonicalization",
    # Divides the scales of both operands and of the result of a quantized addition by one of them.
    # The quotients are no longer the scales that the other runtimes compute with, and in float16
    # an operand of up to 127 times a quotient may be infinite.
    "common::distributive_quantized_binary_op_scale_normalization",
)
"""Passes of coremltools 9.0 that would change what a quantized program computes."""


def save(
    translation: Translation,
    folder: Path,
    *,
    precision: str = "float16",
    keep: Collection[str] = (),
    ranges: Mapping[str, tuple[int, int]] | None = None,
    listed: Mapping[str, Sequence[int]] | None = None,
    compress: str = "none",
) -> Path:
    """Convert a translated program and save it as ``model.mlpackage`` in ``folder``.

    Args:
        translation: The program.
        folder: An existing folder.
        precision: ``float16`` or ``float32``: what the program computes in. What is known to
            fail in float16 stays in float32 (:mod:`edgedeploy.backends.apple.precision`).
        keep: Names of further operations that stay in float32.
        ranges: Lowest and highest size by the name of an open dim.
        listed: All sizes by the name of an open dim; goes before ``ranges``.
        compress: ``none``, or a form of :mod:`edgedeploy.backends.apple.compress`.

    Returns:
        The package.

    Raises:
        BuildError: An open dim has no sizes or too many (E348), coremltools cannot convert it
            (E342), or this iOS has no such compressed form (E310).
    """
    check_form(compress, translation.ios)
    computed = ct.precision.FLOAT32
    if precision == "float16":
        computed = ct.transform.FP16ComputePrecision(op_selector=computing.selector(keep))
    pipeline = ct.PassPipeline()
    pipeline.remove_passes(set(HARMFUL_PASSES))
    sizes = Sizes(ranges=ranges or {}, listed=listed or {})
    sizes.check(translation.inputs)
    path = folder / PACKAGE
    try:
        with quiet(), checked_once():
            made = ct.convert(
                translation.program,
                source="milinternal",
                inputs=[_input(port, sizes) for port in translation.inputs if port.kind != "state"],
                outputs=_outputs(translation.outputs),
                classifier_config=classifier(translation.outputs),
                minimum_deployment_target=TARGETS[translation.ios],
                compute_precision=computed,
                pass_pipeline=pipeline,
                skip_model_load=True,
            )
            if compress != "none":
                made = compressed(made, compress)
            made.save(str(path))
    except Exception as error:
        raise BuildError(
            f"coremltools cannot convert the program: {' '.join(str(error).split())[:2000]}",
            code="E342",
            subject=PACKAGE,
            hint="report this with the model: what was translated should convert",
        ) from error
    return path


def _input(port: Port, sizes: Sizes) -> Any:
    if port.kind == "image":
        return image_type(port, sizes.shape(pixel_dims(port)))
    kind = types.nptype_from_builtin(MIL_TYPES[port.dtype])
    return ct.TensorType(name=port.name, shape=sizes.shape(port.dims), dtype=kind)


def _outputs(ports: Sequence[Port]) -> list[Any] | None:
    """Return the outputs with their types; a classifier's take no types."""
    if classifier(ports) is not None:
        return None
    return [
        ct.TensorType(name=port.name, dtype=types.nptype_from_builtin(MIL_TYPES[port.dtype]))
        for port in ports
        if port.kind != "state"
    ]
