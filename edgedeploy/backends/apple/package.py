"""From a MIL program to a saved ``.mlpackage``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgedeploy.backends.apple.interface import Port
from edgedeploy.backends.apple.mil_api import MIL_TYPES, TARGETS, ct, quiet, types
from edgedeploy.backends.apple.translate import Translation
from edgedeploy.errors import BuildError

PACKAGE = "model.mlpackage"


def save(
    translation: Translation,
    folder: Path,
    *,
    precision: str = "float16",
    ranges: Mapping[str, tuple[int, int]] | None = None,
) -> Path:
    """Convert a translated program and save it as ``model.mlpackage`` in ``folder``.

    Args:
        translation: The program.
        folder: An existing folder.
        precision: ``float16`` or ``float32``: what the program computes in.
        ranges: Lowest and highest size by the name of an open dim.

    Returns:
        The package.

    Raises:
        BuildError: coremltools cannot convert it (E342).
    """
    half = {"float16": ct.precision.FLOAT16, "float32": ct.precision.FLOAT32}[precision]
    path = folder / PACKAGE
    try:
        with quiet():
            made = ct.convert(
                translation.program,
                source="milinternal",
                inputs=[_input(port, ranges or {}) for port in translation.inputs],
                outputs=[_output(port) for port in translation.outputs],
                minimum_deployment_target=TARGETS[translation.ios],
                compute_precision=half,
                skip_model_load=True,
            )
            made.save(str(path))
    except Exception as error:
        raise BuildError(
            f"coremltools cannot convert the program: {' '.join(str(error).split())[:2000]}",
            code="E342",
            subject=PACKAGE,
            hint="report this with the model: what was translated should convert",
        ) from error
    return path


def _input(port: Port, ranges: Mapping[str, tuple[int, int]]) -> Any:
    sizes = [dim if isinstance(dim, int) else ct.RangeDim(*ranges[dim]) for dim in port.dims]
    kind = types.nptype_from_builtin(MIL_TYPES[port.dtype])
    return ct.TensorType(name=port.name, shape=sizes or [1], dtype=kind)


def _output(port: Port) -> Any:
    return ct.TensorType(name=port.name, dtype=types.nptype_from_builtin(MIL_TYPES[port.dtype]))
