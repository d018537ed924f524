"""What a release says of answers: in its manifest, and in every language's documentation."""

from dataclasses import replace

import pytest
from described import described_model, described_release

from edgedeploy.release.bundle import Decode, ReleaseModel, Tensor
from edgedeploy.release.checking import check_release
from edgedeploy.release.formats.cmake_source import header_source
from edgedeploy.release.formats.npm_readme import readme
from edgedeploy.release.formats.npm_sources import declarations, wrapped
from edgedeploy.release.formats.ortpackage import _component
from edgedeploy.release.formats.swift_ports import SwiftModel, SwiftPort
from edgedeploy.release.formats.swift_source import model_source
from edgedeploy.release.formats.wheel_source import module_source
from edgedeploy.release.interface import Port, interface_of
from edgedeploy.release.java.ports import named

STEPS = ("Take the best class of each step.", "Drop class 0, the blank */ of them.")
"""The last would end a comment in some languages."""


def model() -> ReleaseModel:
    decode = Decode(name="ctc", output="y", answer="text", parameters={}, steps=STEPS)
    outputs = (
        Tensor(name="y", dtype="float32", shape=(1, 40, 97)),
        Tensor(name="z", dtype="float32", shape=(1, 2)),
    )
    return described_model(outputs=outputs, decode=decode, task="ocr/ctc")


def test_the_decoded_output_alone_says_how() -> None:
    ports = interface_of(model()).outputs
    assert [port.steps for port in ports] == [STEPS, ()]


def flat(text: str) -> str:
    """Return a text without comment marks and line breaks, which wrapping puts anywhere."""
    return " ".join(text.replace("*", " ").replace("///<", " ").replace("///", " ").split())


def sources() -> dict[str, str]:
    """Return what each language's package says."""
    release = described_release(model())
    targets = release.targets
    places = {target.target: target.target for target in targets}
    made = wrapped(targets[0], {})
    ports = interface_of(model())
    swift = SwiftModel(
        inputs=tuple(map(swift_port, ports.inputs)), outputs=tuple(map(swift_port, ports.outputs))
    )
    return {
        "python": module_source(release, targets, places),
        "c++": header_source(release, targets, places, "doorbell"),
        "typescript": declarations(release, made),
        "readme": readme(release, made, "onnxruntime-web"),
        "swift": model_source("main", "Main", swift, None),
        "java": " ".join(named(ports.outputs, "output", fixed_shapes=True)[0].doc),
        "ort": str(_component(targets[0], model())),
    }


def swift_port(port: Port) -> SwiftPort:
    return SwiftPort(port=port, called=port.name, dtype=port.dtype, kind="array")


@pytest.mark.parametrize(
    "language", ["python", "c++", "typescript", "readme", "swift", "java", "ort"]
)
def test_every_language_tells_it(language: str) -> None:
    text = flat(sources()[language])
    assert "Take the best class of each step." in text
    assert "Drop class 0, the blank" in text


def test_a_manifest_that_decodes_what_is_not_there_is_refused() -> None:
    decode = Decode(name="ctc", output="w", answer="text", parameters={}, steps=())
    release = described_release(replace(model(), decode=decode))
    with pytest.raises(ValueError, match="there is no output 'w'"):
        check_release(release, frozenset())
    check_release(described_release(model()), frozenset())
