"""The same bytes for the same model: what coremltools writes differently each time, made plain.

A manifest names its items by random numbers, a model carries the day of its conversion, and maps
are written in the order of a hash.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edgedeploy.mil.read import MODEL_FILE, WEIGHTS_FILE

if TYPE_CHECKING:
    from edgedeploy.backends.base import Words

_DROPPED = (
    "com.github.apple.coremltools.conversion_date",
    "com.github.apple.coremltools.source",
)
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "mlpackage.edgedeploy")

SOURCE = "edgedeploy.source.sha256"
"""Under which a package says what model file it was made from."""


def canonicalise(package: Path, words: Words | None = None) -> None:
    """Rewrite a saved package so that equal programs have equal bytes.

    Args:
        package: The ``.mlpackage`` folder.
        words: What the profile says of the model: it becomes the metadata.
    """
    from coremltools.proto import Model_pb2

    path = package / MODEL_FILE
    spec = Model_pb2.Model()
    spec.ParseFromString(path.read_bytes())
    told = spec.description.metadata
    for key in _DROPPED:
        told.userDefined.pop(key, None)
    if words is not None:
        told.author, told.license, told.versionString = words.author, words.licence, words.version
        if words.source:
            told.userDefined[SOURCE] = words.source
    path.write_bytes(spec.SerializeToString(deterministic=True))
    weights = package / WEIGHTS_FILE
    if not weights.is_file() and weights.parent.is_dir():
        weights.parent.rmdir()
    manifest = json.dumps(_manifest(package), indent=4, sort_keys=True)
    (package / "Manifest.json").write_text(manifest + "\n", encoding="utf-8", newline="\n")


def _manifest(package: Path) -> Mapping[str, object]:
    """Return the manifest of a package, its items named by their paths."""
    items = {"com.apple.CoreML/model.mlmodel": ("model.mlmodel", "CoreML Model Specification")}
    if (package / WEIGHTS_FILE).is_file():
        items["com.apple.CoreML/weights"] = ("weights", "CoreML Model Weights")
    names = {path: str(uuid.uuid5(_NAMESPACE, path)) for path in items}
    return {
        "fileFormatVersion": "1.0.0",
        "itemInfoEntries": {
            names[path]: {
                "author": "com.apple.CoreML",
                "description": description,
                "name": name,
                "path": path,
            }
            for path, (name, description) in items.items()
        },
        "rootModelIdentifier": names["com.apple.CoreML/model.mlmodel"],
    }
