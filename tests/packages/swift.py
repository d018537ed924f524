"""What a Swift package names, against the artifacts in it; tests read its code by a grammar."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tree_sitter import Node

from tests.unit.release.swiftparse import nodes, text


@dataclass(frozen=True)
class Named:
    """An artifact of the table in Release.swift.

    Attributes:
        target: It is for.
        path: Of its entry, below the folder of the release.
        inputs: Names of the inputs that the runtime is called with, and what they are.
        outputs: The same of the outputs.
    """

    target: str
    path: str
    inputs: dict[str, str]
    outputs: dict[str, str]


def variants(release: Node) -> Iterator[Named]:
    """Yield the artifacts that a parsed Release.swift names; of one model for each target."""
    for node in nodes(release, "call_expression"):
        said = text(node)
        if not said.startswith("Variant("):
            continue
        before, _, after = said.partition("outputs: [")
        ports = r'called: "(.*?)", dtype: "\w+", kind: \.(\w+)'
        yield Named(
            target=re.findall(r'target: "(.*?)"', said)[0],
            path=re.findall(r'path: "(.*?)"', said)[0],
            inputs=dict(re.findall(ports, before)),
            outputs=dict(re.findall(ports, after)),
        )


def features(package: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Return names and kinds of what a Core ML package takes and gives, by Apple's own schema.

    Args:
        package: The ``.mlpackage``.
    """
    from coremltools.proto import Model_pb2

    spec = Model_pb2.Model()
    spec.ParseFromString((package / "Data/com.apple.CoreML/model.mlmodel").read_bytes())
    about = spec.description
    inputs, outputs = (
        {item.name: str(item.type.WhichOneof("Type")) for item in part}
        for part in ((*about.input, *about.state), about.output)
    )
    return inputs, outputs
