"""Swift code that measures and checks the models of a package on the device that runs it.

It is a library of its own, because Xcode runs tests on a phone inside an app alone: the app's tests
link it. The package's own tests do the same on a Mac and in the simulator.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from edgedeploy.release.bundle import Golden
from edgedeploy.release.formats.swift_ports import TYPES, SwiftModel, SwiftPort
from edgedeploy.release.formats.swift_source import comment, literal, names_of

_KEEP = """\

    /// Keeps the figures with the results of the run.
    private func keep(_ report: BenchReport) throws {
        let attachment = XCTAttachment(
            data: try report.json(), uniformTypeIdentifier: "public.json")
        attachment.name = report.fileName
        attachment.lifetime = .keepAlways
        add(attachment)
        XCTAssertTrue(report.agrees, "an output is further off than the profile allows")
    }
}
"""


def golden_source(*, there: bool) -> str:
    """Return the file that says where golden samples lie; ``there``: whether there are any."""
    where = 'Bundle.module.resourceURL?.appendingPathComponent("golden")' if there else "nil"
    return (
        "import Foundation\n\n/// Folder with the golden samples; nil where the release has none.\n"
        f"var goldenFolder: URL? {{ {where} }}\n"
    )


def tests_source(module: str, classes: Sequence[str]) -> str:
    """Return the file with the tests: it may be copied into the tests of an app.

    Args:
        module: Name of the package's module.
        classes: Of its models.
    """
    lines = [
        "import XCTest",
        f"import {module}Bench",
        "",
        "/// Measures every model on the device that runs the tests, and compares golden samples.",
        f"final class {module}Tests: XCTestCase {{",
    ]
    for at, name in enumerate(classes):
        lines += [
            *([""] if at else []),
            f"    func test{name}() async throws {{",
            f"        let report = try await {name}Bench.run()",
            "        try keep(report)",
            "    }",
        ]
    return "\n".join(lines) + "\n" + _KEEP


def bench_source(
    module: str,
    name: str,
    cls: str,
    ports: SwiftModel,
    goldens: Mapping[str, Golden],
) -> str:
    """Return the file that measures one model.

    Args:
        module: Name of the package's module.
        name: Of the model in the release.
        cls: Its class.
        ports: What an app feeds and gets.
        goldens: Golden samples by target; none for a target without.
    """
    pixels = any(item.kind == "image" for item in ports.inputs)
    lines = ["import CoreML", "import CoreVideo", "import Foundation", f"import {module}", ""]
    lines += comment(f"Measures the model {name}, and compares golden samples.")
    lines += [f"public enum {cls}Bench {{"]
    lines += _run(name, cls, ports, compared=not pixels)
    if not pixels:
        lines += ["", *_golden(goldens)]
    return "\n".join([*lines, "}", ""])


def _run(name: str, cls: str, ports: SwiftModel, *, compared: bool) -> Iterator[str]:
    inputs = names_of(ports.inputs, "input")
    fed = [item for item in ports.inputs if item.seen]
    yield "    /// Loads the model for this system, and measures it for about fifteen seconds."
    yield "    /// - Parameters:"
    yield "    ///   - units: That Core ML may use."
    yield "    ///   - threads: That ONNX Runtime may use; 0: as many as it likes."
    # Names that begin with `_` are never those of inputs.
    yield "    public static func run("
    yield "        units _units: MLComputeUnits = .all, threads _threads: Int = 1"
    yield "    ) async throws -> BenchReport {"
    yield "        let _began = BenchReport.now()"
    yield f"        let _model = try await {cls}.load(units: _units, threads: _threads)"
    yield "        let _loaded = BenchReport.now() - _began"
    if compared:
        yield "        let _golden = try Self._samples(_model.target)"
        yield "        let _sample = _golden.samples.first"
    else:
        yield "        let _golden = Golden.none"
    source = '_sample == nil ? "zeros" : "golden"' if compared else '"zeros"'
    yield "        var _report = BenchReport("
    yield f"            model: {literal(name)}, target: _model.target, artifact: _model.artifact,"
    yield "            runtimeVersion: _model.runtimeVersion, units: _units, threads: _threads,"
    yield f"            inputs: {source}, loadedIn: _loaded, leastCosine: _golden.least)"
    for item in fed:
        yield f"        let {inputs[item.port.name]} = {_fed(item, compared=compared)}"
    arguments = ", ".join(f"{inputs[item.port.name]}: {inputs[item.port.name]}" for item in fed)
    yield f"        try _report.measure {{ _ = try _model.run({arguments}) }}"
    if compared:
        yield from _compared(ports, inputs)
    yield "        return _report"
    yield "    }"


def _fed(item: SwiftPort, *, compared: bool) -> str:
    if item.kind == "image":
        if not item.size:
            return "try Golden.unfed() as CVPixelBuffer"
        gray = "true" if item.colour == "gray" else "false"
        height, width = item.size
        return f"try BenchReport.blankPixels(width: {width}, height: {height}, gray: {gray})"
    sizes = [_least(size) for size in item.port.shape]
    kind = TYPES[item.port.dtype]
    zeros = (
        f"Golden.unfed() as Tensor<{kind}>"
        if None in sizes
        else f"Tensor<{kind}>.zeros([{', '.join(map(str, sizes))}])"
    )
    if not compared:
        return f"try {zeros}"
    return f"try _sample?.input({literal(item.port.name)}, {kind}.self) ?? {zeros}"


def _least(size: int | str) -> int | None:
    """Return the smallest size of an axis; None where nothing says one."""
    low, _, high = str(size).partition("..")
    return int(low) if isinstance(size, int) or (low.isdecimal() and high.isdecimal()) else None


def _compared(ports: SwiftModel, inputs: Mapping[str, str]) -> Iterator[str]:
    outputs = names_of(ports.outputs, "output")
    fed = [item for item in ports.inputs if item.seen]
    yield "        for _sample in _golden.samples {"
    if len(fed) < len(ports.inputs):
        yield "            _model.reset()"
    given = [
        f"                {inputs[item.port.name]}: "
        f"_sample.input({literal(item.port.name)}, {TYPES[item.port.dtype]}.self)"
        for item in fed
    ]
    yield "            let _found = try _model.run("
    yield ",\n".join(given) + ")"
    for item in ports.outputs:
        if item.seen:
            text, kind = literal(item.port.name), TYPES[item.port.dtype]
            yield f"            try _report.compare({text}, _found.{outputs[item.port.name]},"
            yield f"                _sample.output({text}, {kind}.self))"
    yield "        }"


def _golden(goldens: Mapping[str, Golden]) -> Iterator[str]:
    yield "    private static func _samples(_ target: String) throws -> Golden {"
    yield "        switch target {"
    for target, golden in sorted(goldens.items()):
        least = "nil" if golden.cosine is None else repr(float(golden.cosine))
        yield f"        case {literal(target)}:"
        yield "            return try Golden("
        yield f"                inputs: {literal(golden.inputs)},"
        yield f"                outputs: {literal(golden.outputs)},"
        yield f"                least: {least})"
    yield "        default:"
    yield "            return Golden.none"
    yield "        }"
    yield "    }"
