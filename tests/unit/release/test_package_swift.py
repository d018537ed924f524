"""Swift packages: read by a grammar of Swift, and compared with the Core ML packages in them."""

import hashlib
import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import apple
import packed
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from swiftparse import named, nodes, parse, signatures, text

from edgedeploy.errors import UsageError
from edgedeploy.release.bundle import Tensor
from edgedeploy.release.formats.swift_bench import bench_source
from edgedeploy.release.formats.swift_ports import SwiftModel, SwiftPort
from edgedeploy.release.formats.swift_source import class_names, literal, model_source
from edgedeploy.release.interface import Port
from edgedeploy.release.packages import write_packages
from edgedeploy.release.verify_file import signed
from tests.packages.swift import features, variants

pytestmark = pytest.mark.slow

MODULE = "DoorBellModels"


def tree_of(bundle: Path, folder: Path) -> Path:
    """Write the Swift package of a bundle and return its folder."""
    (package,) = write_packages(bundle, packed.TRUSTED, ["swift"], folder)
    (root,) = package.paths
    return root


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of a release with both runtimes and all kinds of inputs."""
    folder = tmp_path_factory.mktemp("swift")
    return tree_of(apple.full(folder), folder / "out")


def source(tree: Path, path: str) -> Any:
    return parse((tree / path).read_bytes())


def test_every_file_is_swift(tree: Path) -> None:
    """All that is generated and all that is copied, the manifest of the package too."""
    files = sorted(tree.rglob("*.swift"))
    for file in files:
        parse(file.read_bytes())
    names = {file.relative_to(tree).as_posix() for file in files}
    assert names >= {
        "Package.swift",
        f"Sources/{MODULE}/Models/MainModel.swift",
        f"Sources/{MODULE}/Models/OddOneModel.swift",
        f"Sources/{MODULE}/Release.swift",
        f"Sources/{MODULE}Bench/MainModelBench.swift",
        f"Sources/{MODULE}Bench/OddOneModelBench.swift",
        f"Tests/{MODULE}Tests/{MODULE}Tests.swift",
    }


@pytest.mark.parametrize(
    "wrong",
    [b"let a = ", b"func f( {}", b'let s = "a', b"struct S { let a: Int", b"func f() -> { }"],
)
def test_what_is_no_swift_is_found(wrong: bytes) -> None:
    """The grammar refuses; else the test above would say nothing."""
    with pytest.raises(ValueError, match=r"1:\d+"):
        parse(wrong)


def test_an_app_sees_typed_models(tree: Path) -> None:
    """Arrays as tensors, images as pixels; a state that Core ML keeps is not seen."""
    main = source(tree, f"Sources/{MODULE}/Models/MainModel.swift")
    run = ["image: Tensor<Float>", "count: Tensor<Int64>", "kept: Tensor<Float>"]
    assert signatures(main) == {
        "load": ["target: String?", "units: MLComputeUnits", "threads: Int"],
        "classes": [],
        "run": run,
        "prepareImage": ["_ pixels: Pixels"],
    }
    odd = source(tree, f"Sources/{MODULE}/Models/OddOneModel.swift")
    assert signatures(odd)["run"] == ["inPut0X: CVPixelBuffer", "count: Tensor<Int64>"]
    assert "reset" in signatures(odd)
    outputs = [text(node) for node in nodes(odd, "property_declaration") if "Tensor" in text(node)]
    assert outputs == ["public let class_: Tensor<Float>"]


def test_the_table_names_what_the_artifacts_have(tree: Path) -> None:
    """Names and kinds against the packages themselves; one copy of what two boards share."""
    release = source(tree, f"Sources/{MODULE}/Release.swift")
    found = {item.target: item.path for item in variants(release)}
    assert found == {
        "ios17/coreml": "ios17/coreml/main/model.mlpackage",
        "ios17/ort": "ios17/ort/main/model.ort",
        "ios18/coreml": "ios18/coreml/odd-one/model.mlpackage",
        "macos14/coreml": "ios17/coreml/main/model.mlpackage",
    }
    ports = [
        re.findall(r'called: "(.*?)", dtype: "(\w+)", kind: \.(\w+)', text(node))[0]
        for node in nodes(release, "call_expression")
        if text(node).startswith("Port(")
    ]
    main = [
        ("image", "float32", "array"),
        ("count", "int32", "array"),
        ("kept", "float32", "array"),
        ("class", "float32", "array"),
        ("kept_next", "float32", "array"),
    ]
    assert ports[:5] == main == ports[15:]
    place = tree / f"Sources/{MODULE}/release"
    inputs, _ = features(place / found["ios17/coreml"])
    assert {name for name, _, _ in main[:3]} == inputs.keys()
    assert [kind for _, _, kind in ports[10:15]] == ["image", "array", "state", "classes", "state"]
    inputs, outputs = features(place / found["ios18/coreml"])
    assert {name for name, _, _ in ports[10:13]} == inputs.keys()
    assert ports[13][0] in outputs
    assert [dtype for _, dtype, _ in ports[5:10]] == ["float32", "int64", *["float32"] * 3]


def test_names_that_look_like_code_stay_text(tree: Path) -> None:
    """Quotes, backslashes and interpolation of tensors and classes, in strings and comments."""
    release = (tree / f"Sources/{MODULE}/Release.swift").read_bytes()
    root = parse(release)
    assert not list(nodes(root, "interpolated_expression"))
    assert literal(apple.ODD) in release.decode()
    assert literal('a "dog" \\(1)') in release.decode()
    assert literal("a\nb\u202e") == r'"a\u{a}b\u{202e}"'


def test_what_the_package_asks_for(tree: Path) -> None:
    """The oldest systems of its targets, ONNX Runtime in the range of the target, for iOS alone."""
    told = (tree / "Package.swift").read_text()
    assert told.startswith("// swift-tools-version: 5.9\n")
    assert 'platforms: [.iOS("17.0"), .macOS("14.0")]' in told
    assert '"1.17.0"..<"2.0.0"' in told and ".when(platforms: [.iOS])" in told
    assert (tree / f"Sources/{MODULE}/release").is_dir()
    assert (tree / f"Sources/{MODULE}Bench/golden").is_dir()
    assert "`MainModel`, `OddOneModel`, each" in (tree / "README.md").read_text()
    assert [text(node) for node in nodes(parse(told.encode()), "import_declaration")] == [
        "import PackageDescription"
    ]


def test_the_files_are_those_that_were_signed(tree: Path) -> None:
    """To the last byte, and with the signature; golden samples lie with the tests, not the app."""
    place = tree / f"Sources/{MODULE}/release"
    manifest = (place / "manifest.json").read_bytes()
    found = signed(manifest, (place / "manifest.dsse.json").read_bytes(), [packed.KEY.public])
    known = {item["path"]: item["sha256"] for item in found["release"]["files"]}
    names = {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()}
    assert not any(name.startswith(("rpi5/", "macos14/")) or "golden" in name for name in names)
    for name in names - {"manifest.json", "manifest.dsse.json"}:
        assert hashlib.sha256((place / name).read_bytes()).hexdigest() == known[name]
    golden = tree / f"Sources/{MODULE}Bench/golden/ios17/coreml/golden/main/inputs/index.json"
    assert json.loads(golden.read_bytes())["samples"]


def test_git_keeps_the_bytes(tree: Path, tmp_path: Path) -> None:
    """Where git is told to convert the ends of lines, as on many Windows machines, it does not."""

    def git(*words: str) -> None:
        command = ["git", "-c", "core.autocrlf=true", "-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run([*command, *words], check=True, capture_output=True, timeout=60)

    there, again = tmp_path / "repository", tmp_path / "again"
    git("init", "-q", str(there))
    git("--git-dir", str(there / ".git"), "--work-tree", str(tree), "add", "-A", "-f")
    git("-C", str(there), "commit", "-qm", "1.2.0")
    git("clone", "-q", str(there), str(again))
    files = [path.relative_to(tree) for path in tree.rglob("*") if path.is_file()]
    for path in files:
        assert (again / path).read_bytes() == (tree / path).read_bytes()


def test_the_same_bundle_gives_the_same_tree(tree: Path, tmp_path: Path) -> None:
    """To the last byte, in another folder."""
    again = tree_of(apple.full(tmp_path), tmp_path / "else")
    paths = {path.relative_to(tree) for path in tree.rglob("*")}
    assert paths == {path.relative_to(again) for path in again.rglob("*")}
    for path in paths:
        if (tree / path).is_file():
            assert (tree / path).read_bytes() == (again / path).read_bytes()


def test_the_package_measures_and_compares(tree: Path) -> None:
    """Golden samples and the profile's limit where a model takes numbers; pixels are measured."""
    main = source(tree, f"Sources/{MODULE}Bench/MainModelBench.swift")
    assert set(signatures(main)) == {"run", "_samples"}
    told = text(main)
    assert told.count("least: 0.99)") == told.count('case "') == 2
    assert 'try _sample?.input("count", Int64.self) ?? Tensor<Int64>.zeros([1, 3])' in told
    assert "try _report.compare(" in told
    odd = source(tree, f"Sources/{MODULE}Bench/OddOneModelBench.swift")
    assert set(signatures(odd)) == {"run"}
    assert "BenchReport.blankPixels(width: 8, height: 8, gray: false)" in text(odd)
    tests = source(tree, f"Tests/{MODULE}Tests/{MODULE}Tests.swift")
    assert set(signatures(tests)) == {"testMainModel", "testOddOneModel", "keep"}
    (cls,) = nodes(tests, "class_declaration")
    assert named(cls, "name") == f"{MODULE}Tests"


def refused(tmp_path: Path, bundle: Path) -> str:
    with pytest.raises(UsageError) as caught:
        tree_of(bundle, tmp_path / "p")
    (found,) = caught.value.diagnostics
    assert found.code == "E760"
    assert not list((tmp_path / "p").glob("swift"))
    return found.message


def ort_only(tmp_path: Path, *, versions: str = ">=1.17", **change: Any) -> Path:
    """Write a release for ONNX Runtime on iOS alone."""
    entry = "ios16/ort/main/model.ort"
    model = apple.model_of("ios16/ort", "main", entry=entry, **change)
    target = replace(apple.target_of("ios16/ort", [model], version=16), runtime_versions=versions)
    return apple.write(tmp_path, [target], {entry: (b"ort", "model")})


def test_ranges_of_the_runtime(tmp_path: Path) -> None:
    """An upper bound stays; without golden samples there is no folder for them."""
    tree = tree_of(ort_only(tmp_path, versions=">=1.17,<1.20"), tmp_path / "out")
    told = (tree / "Package.swift").read_text()
    assert '"1.17.0"..<"1.20.0"' in told and "golden" not in told
    assert 'platforms: [.iOS("16.0"), .macOS("13.0")]' in told
    folder = (tree / f"Sources/{MODULE}Bench/GoldenFolder.swift").read_text()
    assert "goldenFolder: URL? { nil }" in folder


def test_open_sizes_without_golden_samples_are_not_guessed(tmp_path: Path) -> None:
    """The lowest size of a range is fed; an open one is skipped, and says so."""
    image = Tensor(name="image", dtype="float32", shape=(1, "4..16"))
    text_in = Tensor(name="now", dtype="float32", shape=(1, "length"))
    tree = tree_of(ort_only(tmp_path, inputs=(image, text_in)), tmp_path / "out")
    told = (tree / f"Sources/{MODULE}Bench/MainModelBench.swift").read_text()
    assert "?? Tensor<Float>.zeros([1, 4])" in told
    assert "?? Golden.unfed() as Tensor<Float>" in told
    parse(told.encode())
    table = (tree / f"Sources/{MODULE}/Release.swift").read_text()
    assert ".range(4, 16)" in table and '.open("length")' in table


@pytest.mark.parametrize("versions", ["==1.17", "!=1.18,>=1.17", "<2"])
def test_ranges_that_swift_cannot_ask_for_are_refused(tmp_path: Path, versions: str) -> None:
    """A package that took other versions than the target would break a promise."""
    assert f"cannot ask for ONNX Runtime {versions.split(',')[0][:2]}" in refused(
        tmp_path, ort_only(tmp_path, versions=versions)
    )


@pytest.mark.parametrize("dtype", ["float16", "bool", "string", "float64"])
def test_types_that_the_runtime_has_not_are_refused(tmp_path: Path, dtype: str) -> None:
    """With the name of the tensor."""
    tensor = Tensor(name="image", dtype=dtype, shape=(1, 3))
    message = refused(tmp_path, ort_only(tmp_path, inputs=(tensor,)))
    assert f"image of main is {dtype}" in message


def test_targets_that_an_app_would_feed_otherwise_are_refused(tmp_path: Path) -> None:
    """Pixels on one board and numbers on the other: no one class has both."""
    contents: apple.Contents = {}
    targets = []
    for name, ios, options in (("ios17/coreml", 17, ()), ("ios18/coreml", 18, ("images",))):
        for path, kept in apple.compiled("image", ios, *options).items():
            contents[f"{name}/main/{path}"] = kept
        targets.append(apple.target_of(name, [apple.model_of(name, "main")], version=ios))
    message = refused(tmp_path, apple.write(tmp_path, targets, contents))
    assert "feed main otherwise for ios18/coreml than for ios17/coreml" in message


@pytest.mark.parametrize("told", [None, b"{}", b"no JSON", b'{"inputs": [], "outputs": []}'])
def test_a_release_without_names_of_core_ml_is_refused(tmp_path: Path, told: bytes | None) -> None:
    """The names of ONNX are not always those of the package: nothing is guessed."""
    name = "ios17/coreml"
    target = apple.target_of(name, [apple.model_of(name, "main")], version=17)
    contents: apple.Contents = {f"{name}/main/model.mlpackage/x": (b"x", "model")}
    if told is not None:
        contents[f"{name}/main/interface.json"] = told, "interface"
    message = refused(tmp_path, apple.write(tmp_path, [target], contents))
    assert "does not say what main takes" in message


@pytest.mark.parametrize("version", ["1.2", "v1.2.0", "01.2.0"])
def test_versions_that_swift_has_not_are_refused(tmp_path: Path, version: str) -> None:
    """Swift packages are found by tags of three numbers."""
    assert f"{version!r} is no version" in refused(tmp_path, apple.full(tmp_path, version=version))


names = st.text(min_size=1, max_size=12)


@settings(max_examples=60)
@given(
    release=names,
    model=names,
    inputs=st.lists(names, min_size=1, max_size=4, unique=True),
    outputs=st.lists(names, min_size=1, max_size=4, unique=True),
)
def test_whatever_things_are_called_the_code_is_swift(
    release: str, model: str, inputs: list[str], outputs: list[str]
) -> None:
    """Any text: the code is read without error, parameters differ, and are no reserved words."""

    def port(name: str) -> SwiftPort:
        found = Port(
            name=name,
            dtype="float32",
            shape=(1, name),
            fixed=None,
            element_bytes=4,
            steps=(f"Do {name}.",),
            state=None,
        )
        return SwiftPort(port=found, called=name, dtype="float32", kind="array")

    ports = SwiftModel(inputs=tuple(map(port, inputs)), outputs=tuple(map(port, outputs)))
    (cls,) = class_names({model: ports}).values()
    root = parse(model_source(model, cls, ports, release).encode())
    parameters = [item.partition(":")[0] for item in signatures(root)["run"]]
    assert len(parameters) == len({item.lower() for item in parameters}) == len(inputs)
    assert not {"in", "class", "self", "func", "let"} & set(parameters)
    parse(bench_source("AModels", model, cls, ports, {}).encode())
    assert re.fullmatch(r"([A-Z][A-Za-z0-9]*)?Model", cls)
