"""Checks of a whole model: by the ONNX checker, and by the reference runtime."""

from __future__ import annotations

import re
from pathlib import Path

import onnx

from edgedeploy.errors import ModelError
from edgedeploy.model.files import INLINE_BYTES
from edgedeploy.passes.equality import open_session


def check_saved(path: Path, weight_bytes: int) -> None:
    """Check a written model with the ONNX checker and by loading it in the reference runtime.

    Args:
        path: The model file.
        weight_bytes: Bytes of its weights. A model with a data file is not loaded only to see that
            it loads, which would need its size in memory; the reference run does it anyway.

    Raises:
        ModelError: A node breaks its operator's schema (E216), or the runtime refuses it (E225).
    """
    try:
        onnx.checker.check_model(str(path))
    except onnx.checker.ValidationError as error:
        raise ModelError(
            f"the model breaks the ONNX specification: {str(error).splitlines()[0]}",
            code="E216",
            subject=_context(str(error)),
            hint="export the model again; an operator or attribute is not of the opset it claims",
        ) from error
    if weight_bytes <= INLINE_BYTES:
        open_session(path)


def _context(text: str) -> str | None:
    """Return the node that a checker message is about."""
    found = re.search(r"Node name: (\S+)|node \(([^)]+)\)", text)
    return next((part for part in found.groups() if part), None) if found else None
