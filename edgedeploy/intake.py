"""Looking at one model file outside a profile, with the same care as inside one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgedeploy.errors import ModelError
from edgedeploy.executor import Builder, FileRef, Node
from edgedeploy.places import default_store_path
from edgedeploy.store import Store


def model_facts(path: Path, store: Path | None = None) -> dict[str, Any]:
    """Return the facts of a model file as JSON data (``model.ModelFacts.to_json``).

    The file is read by a worker with limits, never by this process.

    Raises:
        ModelError: There is no such file (E186), or it is refused.
    """
    if not path.is_file():
        raise ModelError(
            f"there is no model file {path}",
            code="E186",
            subject=str(path),
            hint="give the path of an ONNX file",
        )
    opened = Store(store or default_store_path())
    with opened.in_use():
        builder = Builder(opened, path.parent.absolute())
        node = Node(
            id="model.intake",
            kind="intake",
            params={"allow_nonfinite": False, "sha256": None},
            inputs={"model": FileRef(path=path.absolute())},
        )
        _, folder = builder.folder(node.output("facts"))
        facts: dict[str, Any] = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
        return facts
