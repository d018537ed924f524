"""Names in Swift packages: what no compiler checks here, is defined there or by the system."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import apple
import packed
import pytest
from swiftparse import named, nodes, parse, text
from tree_sitter import Node

from edgedeploy.bench.app_bench import read_app_bench
from edgedeploy.release.formats.shared import BESIDE
from edgedeploy.release.packages import write_packages
from tests.phone import document

pytestmark = pytest.mark.slow

# What the systems and ONNX Runtime define, looked up by hand: developer.apple.com/documentation of
# each framework, and objectivec/include of ONNX Runtime's repository as Swift imports it.
SWIFT = """
abs reserveCapacity stride
AnyHashable AnyObject Array Decodable Dictionary Encodable Equatable Error FixedWidthInteger Float16
Int Self Sendable Sequence Set String Type Void autoreleasepool discardableResult min zip unknown
defer allSatisfy append contains filter first flatMap hasPrefix init insert joined lastIndex map max
prefix reduce rounded sorted split squareRoot string suffix withUnsafeBytes
"""
FOUNDATION = """
Bundle Data Date DispatchTime FileAttributeType FileHandle FileManager ISO8601DateFormatter
JSONDecoder JSONEncoder LocalizedError NSMutableData NSNumber OperatingSystemVersion ProcessInfo
URL appendingPathComponent base64EncodedString close copyBytes createDirectory decode encode
enumerator fileAttributes fileExists isOperatingSystemAtLeast memset moveItem nextObject read
removeItem replacingOccurrences setenv subdata uname utsname
"""
CRYPTO_KIT = "Curve25519 PublicKey SHA256 finalize hash isValidSignature update"
CORE_ML = """
CVPixelBuffer CVPixelBufferCreate CVPixelBufferGetBaseAddress CVPixelBufferGetDataSize
CVPixelBufferLockBaseAddress CVPixelBufferUnlockBaseAddress
MLComputeUnits MLDictionaryFeatureProvider MLFeatureProvider MLFeatureValue MLModel
MLModelConfiguration MLShapedArray MLState compileModel dictionaryValue featureValue makeState
prediction
"""
ONNX_RUNTIME = """
ORTEnv ORTSession ORTSessionOptions ORTTensorElementDataType ORTValue ORTVersion
setIntraOpNumThreads tensorData tensorTypeAndShapeInfo
"""
TESTS = "XCTAssertTrue XCTAttachment XCTestCase add"
VALUES = """
_ $0 $1 UTF8 MemoryLayout error self kCVPixelFormatType_32BGRA kCVPixelFormatType_OneComponent8
kCVReturnSuccess
"""
KNOWN = frozenset(
    " ".join((SWIFT, FOUNDATION, CRYPTO_KIT, CORE_ML, ONNX_RUNTIME, TESTS, VALUES)).split()
)
MODULES = {
    "CoreML": re.compile(r"ML[A-Z]\w+"),
    "CoreVideo": re.compile(r"k?CV[A-Z]\w+"),
    "CryptoKit": re.compile(r"SHA256|Curve25519"),
    "Foundation": re.compile(
        r"Data|Date|FileManager|FileHandle|JSON(?:En|De)coder|Bundle|URL|NSNumber|NSMutableData"
        r"|ProcessInfo|ISO8601DateFormatter|DispatchTime|LocalizedError|OperatingSystemVersion"
        r"|memset|setenv|uname|utsname|autoreleasepool"
    ),
    "OnnxRuntimeBindings": re.compile(r"ORT[A-Z]\w+"),
    "XCTest": re.compile(r"XCT[A-Z]\w+"),
}
"""What names of a module look like; Foundation stands for what it lets through of the system."""

# Where an identifier is none of a value: it names a member, a label or a parameter, or binds.
NO_VALUE = """
navigation_suffix value_argument_label pattern parameter function_declaration identifier
prefix_expression enum_entry lambda_parameter tuple_type_item enum_type_parameters directive
protocol_function_declaration
"""

DEFINING = (
    "function_declaration",
    "class_declaration",
    "protocol_declaration",
    "enum_entry",
    "property_declaration",
)
PARAMETERS = re.compile(r"\b(?:func \w+|init)\s*(?:<(\w+)[^>]*>)?\s*\(([^{]*)")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package with both runtimes and all kinds of inputs."""
    folder = tmp_path_factory.mktemp("swift")
    (made,) = write_packages(apple.full(folder), packed.TRUSTED, ["swift"], folder / "out")
    return made.paths[0]


def used(root: Node) -> Iterator[str]:
    """Yield the names of all that is called, and of all types."""
    for node in nodes(root, "call_expression"):
        callee = node.children[0]
        if callee.type in ("simple_identifier", "navigation_expression", "prefix_expression"):
            yield re.findall(r"\w+", text(callee))[-1]
    for node in nodes(root, "user_type"):
        yield from re.findall(r"\w+", text(node).partition("<")[0])


def defined(root: Node) -> Iterator[str]:
    """Yield the names that a file defines: of declarations, parameters and generic types."""
    for node in nodes(root, *DEFINING):
        if node.child_by_field_name("name") is not None:
            yield named(node, "name")
    for generic, parameters in PARAMETERS.findall(text(root)):
        yield generic
        yield from re.findall(r"(\w+):", parameters)
    for node in nodes(root, "type_parameter"):
        yield text(node).partition(":")[0].strip()


def test_every_name_is_defined_by_someone(tree: Path) -> None:
    """A function that was renamed in one file alone, or a slip of the pen, is found."""
    files = [path for path in tree.rglob("*.swift") if path.name != "Package.swift"]
    roots = {path.name: parse(path.read_bytes()) for path in files}
    there = {name for root in roots.values() for name in defined(root)} | KNOWN
    strange = {
        f"{file}: {name}"
        for file, root in roots.items()
        for name in used(root)
        if name not in there
    }
    assert not strange


def test_a_name_that_nobody_defines_is_found() -> None:
    """Else the test above would say nothing."""
    root = parse(b"func f(a: Int) -> Strin { g(a).h() }")
    assert set(used(root)) - set(defined(root)) - KNOWN == {"Strin", "g", "h"}


def bound(root: Node) -> Iterator[str]:
    """Yield the names of values that a file binds, wherever that is."""
    for node in nodes(root, "pattern", "parameter", "lambda_parameter"):
        yield from (text(name) for name in nodes(node, "simple_identifier"))
    for node in nodes(root, "value_binding_pattern"):
        name = node.next_named_sibling
        if name is not None:
            yield text(name)


def values(root: Node) -> Iterator[str]:
    """Yield the names of values that a file uses."""
    for node in nodes(root, "simple_identifier"):
        before = node.prev_sibling
        member = before is not None and before.type == "."
        if node.parent is not None and node.parent.type not in NO_VALUE.split() and not member:
            yield text(node)


def top_level(root: Node) -> Iterator[str]:
    """Yield the names that a file defines for the others of its module."""
    for node in root.children:
        if node.type in DEFINING and node.child_by_field_name("name") is not None:
            yield named(node, "name")


def test_every_value_is_bound_in_its_file(tree: Path) -> None:
    """Or is of the module, or the system's: a misspelt variable is found."""
    files = [path for path in tree.rglob("*.swift") if path.name != "Package.swift"]
    roots = {path.name: parse(path.read_bytes()) for path in files}
    there = {name for root in roots.values() for name in top_level(root)} | KNOWN
    strange = {
        f"{file}: {name}"
        for file, root in roots.items()
        for own in [{*bound(root), *defined(root)}]
        for name in values(root)
        if name not in own | there
    }
    assert not strange


def test_a_value_that_nobody_binds_is_found() -> None:
    """Else the test above would say nothing."""
    root = parse(b"func f(a: Int) { if let b = g { let c = a + b; h(c, label: d.e, .f, cc) } }")
    assert set(values(root)) - set(bound(root)) - set(defined(root)) == {"g", "h", "d", "cc"}


def test_every_file_imports_what_it_names(tree: Path) -> None:
    """One that compiles only because another file imports the module breaks when that changes."""
    lacking = []
    for path in tree.rglob("*.swift"):
        root = parse(path.read_bytes())
        there = {text(node).split()[-1] for node in nodes(root, "import_declaration")}
        names = {text(node) for node in nodes(root, "simple_identifier", "type_identifier")}
        for module, like in MODULES.items():
            if module not in there and any(map(like.fullmatch, names)):
                lacking.append(f"{path.name}: {module}")
    assert not lacking


def test_the_check_wants_all_that_every_package_holds(tree: Path) -> None:
    """The roles of files that are packaged whatever the target are those that may not lack."""
    source = next(tree.rglob("Verification.swift")).read_text()
    (listed,) = re.findall(r"beside: Set<String> = \[(.*?)\]", source, re.DOTALL)
    assert set(re.findall(r'"(\w+)"', listed)) == BESIDE


def test_the_reader_knows_what_the_bench_writes(tree: Path) -> None:
    """Each stored property of the document, and no other; `stable` and the like lie deeper."""
    source = next(tree.rglob("BenchReport.swift")).read_text()
    body = source.partition("    private var schema = 1")[2].partition("    init(\n")[0]
    stored = set(re.findall(r"private (?:let|var) (\w+)", body)) | {"schema"}
    assert stored == set(document()) | {"runtime_version"}
    data = {**document(), "runtime_version": "1.19.0"}
    assert read_app_bench(json.dumps(data).encode(), datetime.now(UTC)).runtime_version == "1.19.0"


def test_the_page_says_what_the_report_holds(tree: Path) -> None:
    """Each stored property of the document, and of its windows and device, stands in the table."""
    page = Path(__file__).parents[3].joinpath("docs/packages-apple.md").read_text()
    table = page.partition("| key | means |")[2].partition("\n\n")[0]
    source = next(tree.rglob("BenchReport.swift")).read_bytes().decode()
    body = source.partition("init(\n")[0]
    stored = set(re.findall(r"(?:let|var) (\w+)(?::| =)", body))
    assert len(stored) > 20
    assert not {name for name in stored if f"`{name}`" not in table and name != "stable"}
    assert "became `stable`" in table
