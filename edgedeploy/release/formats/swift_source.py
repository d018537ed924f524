"""Swift code of a package: a class per model, and the table of artifacts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from textwrap import wrap

from edgedeploy.release.bundle import Release, ReleaseModel, ReleaseTarget
from edgedeploy.release.formats.swift_ports import TYPES, SwiftModel, SwiftPort
from edgedeploy.release.identifiers import identifiers

_WIDTH = 92
_LOAD = """\
    /// The target whose artifact was loaded.
    public let target: String
    /// Digest of that artifact, 64 hexadecimal digits.
    public let artifact: String
    /// Version of ONNX Runtime; nil where the system's Core ML runs the model.
    public var runtimeVersion: String? {{ session.runtimeVersion }}
    private let session: any Session

    private init(target: String, artifact: String, session: any Session) {{
        self.target = target
        self.artifact = artifact
        self.session = session
    }}

    /// Loads the model for this system; Core ML compiles it at the first use of the app.
    /// - Parameters:
    ///   - target: Take the artifact of this target, such as `"ios17/coreml"`; else that for the
    ///     newest system which this one is.
    ///   - units: That Core ML may use.
    ///   - threads: That ONNX Runtime may use; 0: as many as it likes.
    /// - Throws: ``ModelError/unsuitable(_:)``: the package holds nothing for this system.
    public static func load(
        target: String? = nil, units: MLComputeUnits = .all, threads: Int = 0
    ) async throws -> {name} {{
        let found = try await openModel(
            {model}, target: target, units: units, threads: threads)
        return {name}(
            target: found.target, artifact: found.entry.artifact, session: found.session)
    }}
"""


def literal(text: str) -> str:
    """Return text as a string literal of Swift, of one line."""
    escaped = (
        f"\\{letter}"
        if letter in '"\\'
        else letter
        if letter.isprintable()
        else f"\\u{{{ord(letter):x}}}"
        for letter in text
    )
    return '"' + "".join(escaped) + '"'


def comment(text: str, indent: str = "") -> Iterator[str]:
    """Yield the lines of a documentation comment."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in text)
    yield from (f"{indent}/// {line}" for line in wrap(shown, _WIDTH - len(indent)))


def class_names(models: Mapping[str, SwiftModel]) -> dict[str, str]:
    """Return the name of the class of each model; all end in ``Model``, as no other type does."""
    wanted = {name: f"{name} model" for name in models}
    names = identifiers(wanted.values(), "pascal", "swift", kind="model")
    return {name: names[text] for name, text in wanted.items()}


def release_source(
    release: Release,
    targets: Sequence[ReleaseTarget],
    places: Mapping[str, str],
    models: Mapping[str, Mapping[str, SwiftModel]],
) -> str:
    """Return the file that says what the package was made from, and holds.

    Args:
        release: What is packaged.
        targets: That the package holds.
        places: For each the target under whose folder its files lie.
        models: Inputs and outputs by target and model.
    """
    lines = [
        *comment(f"The release that this package was made from, by {release.made_by}."),
        "public enum Release {",
        f"    public static let name = {literal(release.name)}",
        f"    public static let version = {literal(release.version)}",
        "    /// Digest of the manifest, 64 hexadecimal digits.",
        "    public static let digest =",
        f"        {literal(release.digest)}",
        "}",
        "",
        "let variants: [Variant] = [",
    ]
    for target in targets:
        runtime = "coreML" if target.runtime == "coreml" else "ort"
        lines += [
            "    Variant(",
            f"        target: {literal(target.target)},",
            f"        system: {literal(target.os)},",
            f"        oldest: {target.os_version or 0},",
            f"        runtime: .{runtime},",
            "        entries: [",
        ]
        for model in target.models:
            lines += _entry(target, model, places[target.target], models[target.target][model.name])
        lines += ["        ]),"]
    return "\n".join([*lines, "]", ""])


def _entry(
    target: ReleaseTarget, model: ReleaseModel, place: str, ports: SwiftModel
) -> Iterator[str]:
    yield f"            {literal(model.name)}: Entry("
    yield f"                artifact: {literal(model.artifact)},"
    yield f"                path: {literal(place + model.entry.removeprefix(target.target))},"
    yield "                inputs: ["
    yield from map(_port, ports.inputs)
    yield "                ],"
    yield "                outputs: ["
    yield from map(_port, ports.outputs)
    yield "                ]),"


def _port(item: SwiftPort) -> str:
    axes = ", ".join(map(_axis, item.port.shape))
    classes = ", ".join(map(literal, item.classes))
    return (
        f"                    Port(name: {literal(item.port.name)}, "
        f"called: {literal(item.called)}, dtype: {literal(item.dtype)}, kind: .{item.kind}, "
        f"axes: [{axes}], classes: [{classes}]),"
    )


def _axis(size: int | str) -> str:
    if isinstance(size, int):
        return f".fixed({size})"
    low, _, high = size.partition("..")
    if low.isdecimal() and high.isdecimal():
        return f".range({low}, {high})"
    return f".open({literal(size)})"


def model_source(name: str, cls: str, ports: SwiftModel, labels: str | None) -> str:
    """Return the file with the class of one model.

    Args:
        name: Of the model in the release.
        cls: Of the class.
        ports: What an app feeds and gets; the same for all targets.
        labels: File of the release with the classes; None without.
    """
    inputs, outputs = names_of(ports.inputs, "input"), names_of(ports.outputs, "output")
    fed = [item for item in ports.inputs if item.seen]
    given = [item for item in ports.outputs if item.seen]
    lines = ["import CoreML", "import CoreVideo", "import Foundation", ""]
    lines += [*comment(f"The model {name}."), f"public final class {cls} {{"]
    lines += ["    /// What one run gives.", "    public struct Outputs: Equatable, Sendable {"]
    for item in given:
        for text in (f"{item.port.in_words}.", *item.port.steps):
            lines += comment(text, "        ")
        lines += [f"        public let {outputs[item.port.name]}: {item.type}"]
    lines += ["    }", "", _LOAD.format(name=cls, model=literal(name))]
    lines += _classes(labels)
    lines += _run(fed, given, inputs, outputs)
    for item in fed:
        lines += _prepare(item, inputs[item.port.name])
    if len(fed) < len(ports.inputs):
        lines += [
            "",
            "    /// Begins a new sequence: Core ML keeps the states of this model between runs.",
            "    public func reset() {",
            "        session.reset()",
            "    }",
        ]
    return "\n".join([*lines, "}", ""])


def names_of(ports: Sequence[SwiftPort], kind: str) -> dict[str, str]:
    """Return what inputs or outputs are called in Swift; ``kind``: ``input`` or ``output``."""
    return identifiers((item.port.name for item in ports), "camel", "swift", kind=kind)


def _classes(labels: str | None) -> Iterator[str]:
    if labels is None:
        return
    yield "    /// Returns the names of the classes, in the order of the first output."
    yield "    public static func classes() throws -> [String] {"
    yield f"        let file = releaseFolder.appendingPathComponent({literal(labels)})"
    yield "        let text = try String(contentsOf: file, encoding: .utf8)"
    # Not isNewline, which is true of characters that a recogniser may know.
    yield '        return text.split { $0 == "\\n" || $0 == "\\r\\n" }.map(String.init)'
    yield "    }"
    yield ""


def _run(
    fed: Sequence[SwiftPort],
    given: Sequence[SwiftPort],
    inputs: Mapping[str, str],
    outputs: Mapping[str, str],
) -> Iterator[str]:
    yield "    /// Runs the model once."
    if fed:
        yield "    /// - Parameters:"
    for item in fed:
        yield from comment(f"  - {inputs[item.port.name]}: {_told(item)}", "    ")
        if item.kind == "array":
            for step in item.port.steps:
                yield from (f"    ///     {line[4:]}" for line in comment(step))
    arguments = ", ".join(f"{inputs[item.port.name]}: {item.type}" for item in fed)
    feeds = ", ".join(
        f".pixels({inputs[item.port.name]})"
        if item.kind == "image"
        else f".of({inputs[item.port.name]})"
        for item in fed
    )
    yield f"    public func run({arguments}) throws -> Outputs {{"
    # No input is called so: identifiers begin with a letter.
    yield f"        let _found = try self.session.run([{feeds}])"
    yield "        return try Outputs("
    for at, item in enumerate(given):
        end = "," if at + 1 < len(given) else ")"
        kind = TYPES[item.port.dtype]
        yield f"            {outputs[item.port.name]}: _found[{at}].tensor({kind}.self){end}"
    yield "    }"


def _prepare(item: SwiftPort, name: str) -> Iterator[str]:
    """Yield the function that makes an array of the pixels of a picture, where there is one."""
    picture = item.port.picture
    if picture is None or item.kind != "array":
        return
    yield ""
    yield f"    /// Returns `{name}` of the pixels of a decoded picture."
    plain = name.strip("`")
    called = f"prepare{plain[:1].upper()}{plain[1:]}"
    yield f"    public static func {called}(_ pixels: Pixels) throws -> {item.type} {{"
    yield "        let words = Picture("
    yield f"            height: {picture.height}, width: {_maybe(picture.width)},"
    yield f"            fixedWidth: {_maybe(picture.fixed_width)}, fit: .{picture.fit},"
    yield f"            padValue: {picture.pad_value}, resample: .{picture.resample},"
    yield f"            colour: .{picture.colour}, layout: .{picture.layout},"
    yield f"            scale: {_float(picture.scale)}, mean: {_floats(picture.mean)},"
    yield f"            std: {_floats(picture.std)})"
    yield "        return try words.tensor(pixels)"
    yield "    }"


def _maybe(value: int | None) -> str:
    return "nil" if value is None else str(value)


def _float(value: float) -> str:
    """Return a number that Swift rounds to Float once, from all digits of the double."""
    return f"Float({value!r} as Double)"


def _floats(values: Sequence[float]) -> str:
    return "[" + ", ".join(map(_float, values)) + "]"


def _told(item: SwiftPort) -> str:
    if item.kind != "image":
        return f"{item.port.in_words}."
    size = f"{item.size[0]} high, {item.size[1]} wide" if item.size else "of a size it takes"
    form = "one component of 8 bits" if item.colour == "gray" else "32BGRA"
    return f"A picture {size}, as {form}; its arithmetic is inside the model."
