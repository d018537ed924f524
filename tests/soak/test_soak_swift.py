"""Swift packages before a real compiler, and their bench run by it.

Needs `swiftc` (Debian 13 has it in `swiftlang`: 444 MB to fetch, 2.1 GB on disk). It is for Linux:
what packages use of Apple's systems stands in ``tests/swift``, composed after their documentation.
"""

import json
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from edgedeploy.bench.app_bench import app_record, read_app_bench
from edgedeploy.release.packages import write_packages

TESTS = Path(__file__).parents[1]
sys.path.append(str(TESTS / "unit/release"))  # as pytest does for the tests that lie there

import apple  # noqa: E402
import packed  # noqa: E402

HERE = TESTS / "swift"
STUBS = ("CoreVideo", "CoreML", "CryptoKit", "OnnxRuntimeBindings", "XCTest")
MODULE = "DoorBellModels"
SWIFTC = shutil.which("swiftc")

pytestmark = pytest.mark.skipif(SWIFTC is None, reason="needs swiftc")


def frontend(*words, cwd, **options):
    return subprocess.run(
        [SWIFTC, "-frontend", *map(str, words), "-module-cache-path", cwd / "cache"],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
        **options,
    )


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tree")
    (made,) = write_packages(apple.full(folder), packed.TRUSTED, ["swift"], folder / "out")
    return made.paths[0]


def sources(tree, part):
    return sorted((tree / part).rglob("*.swift"))


def compiled(folder, version, name, files):
    """Compile a module; what the compiler has to say, warnings too."""
    words = ("-emit-module", "-parse-as-library", "-swift-version", version, "-I", folder)
    goal = folder / f"{name}.swiftmodule"
    made = frontend(*words, "-module-name", name, "-o", goal, *files, cwd=folder)
    assert goal.is_file() == (made.returncode == 0)
    return made.stderr


@pytest.mark.parametrize("version", ["5", "6"])
def test_a_compiler_takes_every_file(tree, tmp_path, version):
    for name in STUBS:
        assert compiled(tmp_path, version, name, [HERE / f"{name}.swift"]) == ""
    module = HERE / "Module.swift"
    files = [*sources(tree, f"Sources/{MODULE}"), module]
    assert compiled(tmp_path, version, MODULE, files) == ""
    files = [*sources(tree, f"Sources/{MODULE}Bench"), module]
    assert compiled(tmp_path, version, f"{MODULE}Bench", files) == ""
    assert compiled(tmp_path, version, f"{MODULE}Tests", sources(tree, "Tests")) == ""
    wrong = tmp_path / "Wrong.swift"
    wrong.write_text("import CoreML\nlet found = MLModel.loaded()\n")
    assert "has no member 'loaded'" in compiled(tmp_path, version, "Wrong", [wrong])


def test_the_manifest_is_one_of_swiftpm(tree, tmp_path):
    about = json.loads(frontend("-print-target-info", cwd=tmp_path).stdout)
    api = Path(about["paths"]["runtimeResourcePath"], "pm", "ManifestAPI")
    words = ("-typecheck", "-package-description-version", "5.9", "-I", api)
    made = frontend(*words, tree / "Package.swift", cwd=tmp_path)
    assert (made.returncode, made.stderr) == (0, "")


def test_what_the_bench_writes_is_what_is_read(tree, tmp_path):
    """All of it in one script, on a phone that is pretended, with a model that answers rightly."""
    left = ("Verification", "OrtSession", "OddOneModel", "OddOneModelBench")
    parts = [HERE / f"{name}.swift" for name in ("CoreVideo", "CoreML", "Phone")]
    parts += [
        path
        for part in (MODULE, f"{MODULE}Bench")
        for path in sources(tree, f"Sources/{part}")
        if path.stem not in left
    ]
    text = "\n".join(path.read_text() for path in [*parts, HERE / "Run.swift"])
    text = re.sub(rf"^import (CoreML|CoreVideo|{MODULE})$", "", text, flags=re.MULTILINE)
    (tmp_path / "main.swift").write_text(text.replace("#if os(iOS)", "#if true"))
    app = tmp_path / "app"
    shutil.copytree(tree / f"Sources/{MODULE}/release", app / "release")
    shutil.copytree(tree / f"Sources/{MODULE}Bench/golden", app / "golden")
    about = json.loads(frontend("-print-target-info", cwd=tmp_path).stdout)
    (libraries,) = about["paths"]["runtimeLibraryPaths"]
    words = ("-interpret", "main.swift", "-O", "-lFoundation", "-L", libraries)
    home = {"HOME": str(tmp_path), "TMPDIR": str(tmp_path), "APP": str(app)}
    made = frontend(*words, cwd=tmp_path, env=home)
    assert made.returncode == 0, made.stderr
    name, agrees, document = made.stdout.splitlines()
    assert (name, agrees) == ("bench-main-ios17-coreml.json", "true")
    now = datetime.now(UTC)
    found = read_app_bench(document.encode(), now)
    assert now - timedelta(minutes=5) < datetime.fromisoformat(found.created) <= now
    assert found.artifact == apple.model_of("ios17/coreml", "main").artifact
    assert (found.system, found.os_version, found.units) == ("ios", "17.5.1", "ALL")
    assert found.inputs == "golden" and found.cosines == pytest.approx({"class": 1, "kept_next": 1})
    assert list(found.own_reasons()) == [] and found.ended == "complete"
    record = app_record(found, "w8a8", "coreml", {}, tmp_path)
    told = [reason for reason in record["validity"]["reasons"] if "too short" in reason]
    assert record["latency"]["n"] > 1000 and not told
    print(f"p50 {record['latency']['p50_ms']}, {record['validity']}")
    assert len(list(tmp_path.rglob("edgedeploy/*/model.mlmodelc"))) == 1
