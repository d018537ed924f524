"""Compiling packages."""

import shutil
import tempfile
from pathlib import Path

from coremltools import _log


def compile_model(model: str, destination_path: str | None = None) -> str:
    """Compile a ``.mlpackage`` and return the path of the ``.mlmodelc``."""
    if not isinstance(model, str) or not model.rstrip("/").endswith(".mlpackage"):
        raise ValueError(f"Invalid model file path: {model!r}")
    if destination_path is not None and not destination_path.rstrip("/").endswith(".mlmodelc"):
        raise Exception('"destination_path" parameter must have ".mlmodelc" file extension.')
    if not Path(model, "Manifest.json").is_file():
        raise RuntimeError(f"Error compiling model: {model} is no package")
    _log("compile")
    made = Path(tempfile.mkdtemp(), "model.mlmodelc")
    shutil.copytree(model, made / "stand-in.mlpackage")
    if destination_path is None:
        return str(made)
    shutil.move(made, destination_path)
    return destination_path
