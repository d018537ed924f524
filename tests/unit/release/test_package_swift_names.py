"""Names in Swift packages: what no compiler checks here, is defined there or by the system."""

import re
from collections.abc import Iterator
from pathlib import Path

import apple
import packed
import pytest
from swiftparse import named, nodes, parse, text
from tree_sitter import Node

from edgedeploy.release.packages import write_packages

pytestmark = pytest.mark.slow

# What the systems and ONNX Runtime define, looked up by hand: developer.apple.com/documentation of
# each framework, and objectivec/include of ONNX Runtime's repository as Swift imports it.
SWIFT = """
AnyHashable AnyObject Array Decodable Dictionary Encodable Equatable Error FixedWidthInteger Float16
Int Self Sendable Sequence Set String Type Void autoreleasepool discardableResult min zip unknown
defer allSatisfy append contains filter first flatMap hasPrefix init insert joined lastIndex map max
prefix reduce rounded sorted split squareRoot suffix withUnsafeBytes
"""
FOUNDATION = """
Data FileAttributeType FileHandle JSONDecoder JSONEncoder LocalizedError NSMutableData NSNumber
OperatingSystemVersion URL appendingPathComponent close copyBytes createDirectory decode encode
enumerator fileAttributes fileExists isOperatingSystemAtLeast memset moveItem nextObject read
removeItem replacingOccurrences setenv subdata uname utsname
"""
CRYPTO_KIT = "PublicKey SHA256 finalize hash isValidSignature update"
CORE_ML = """
CVPixelBuffer CVPixelBufferCreate CVPixelBufferGetBaseAddress CVPixelBufferGetDataSize
CVPixelBufferLockBaseAddress CVPixelBufferUnlockBaseAddress
MLComputeUnits MLDictionaryFeatureProvider MLFeatureProvider MLFeatureValue MLModel
MLModelConfiguration MLShapedArray MLState compileModel dictionaryValue featureValue makeState
prediction
"""
ONNX_RUNTIME = """
ORTEnv ORTSession ORTSessionOptions ORTTensorElementDataType ORTValue setIntraOpNumThreads
tensorData tensorTypeAndShapeInfo
"""
TESTS = "XCTAssertTrue XCTAttachment XCTestCase add"
KNOWN = frozenset(" ".join((SWIFT, FOUNDATION, CRYPTO_KIT, CORE_ML, ONNX_RUNTIME, TESTS)).split())

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
