"""Swift packages before a real compiler, and their bench run by it.

Needs `swiftc` (Debian 13 has it in `swiftlang`: 444 MB to fetch, 2.1 GB on disk). It is for Linux:
what packages use of Apple's systems stands in ``tests/swift``, composed after their documentation.
"""

import base64
import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest

from edgedeploy.bench.app_bench import app_record, read_app_bench
from edgedeploy.release.packages import write_packages

TESTS = Path(__file__).parents[1]
sys.path.append(str(TESTS / "unit/release"))  # as pytest does for the tests that lie there

import apple  # noqa: E402
import made  # noqa: E402
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
    (written,) = write_packages(apple.full(folder), packed.TRUSTED, ["swift"], folder / "out")
    return written.paths[0]


def sources(tree, part):
    return sorted((tree / part).rglob("*.swift"))


def compiled(folder, version, name, files):
    """Compile a module; what the compiler has to say, warnings too."""
    words = ("-emit-module", "-parse-as-library", "-swift-version", version, "-I", folder)
    goal = folder / f"{name}.swiftmodule"
    found = frontend(*words, "-module-name", name, "-o", goal, *files, cwd=folder)
    assert goal.is_file() == (found.returncode == 0)
    return found.stderr


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
    found = frontend(*words, tree / "Package.swift", cwd=tmp_path)
    assert (found.returncode, found.stderr) == (0, "")


def interpreted(tree, folder, left, last, **environment):
    """Run a package and a script after it as one program, on a phone that is pretended."""
    parts = [HERE / f"{name}.swift" for name in ("CoreVideo", "CoreML", "CryptoKit", "Phone")]
    parts += [
        path
        for part in (MODULE, f"{MODULE}Bench")
        for path in sources(tree, f"Sources/{part}")
        if path.stem not in ("OrtSession", "OddOneModelBench", *left)
    ]
    text = "\n".join(path.read_text() for path in [*parts, HERE / last])
    text = re.sub(rf"^import (Core\w+|CryptoKit|{MODULE})$", "", text, flags=re.MULTILINE)
    (folder / "main.swift").write_text(text.replace("#if os(iOS)", "#if true"))
    about = json.loads(frontend("-print-target-info", cwd=folder).stdout)
    (libraries,) = about["paths"]["runtimeLibraryPaths"]
    words = ("-interpret", "main.swift", "-O", "-lFoundation", "-L", libraries)
    home = {"HOME": str(folder), "TMPDIR": str(folder), "APP": str(folder / "app")}
    python = {"PYTHON": sys.executable, "PYTHONPATH": str(TESTS.parent)}
    found = frontend(*words, cwd=folder, env={**home, **python, **environment})
    assert found.returncode == 0, found.stderr
    return found.stdout.splitlines()


def test_what_the_bench_writes_is_what_is_read(tree, tmp_path):
    """With a model that answers rightly."""
    app = tmp_path / "app"
    shutil.copytree(tree / f"Sources/{MODULE}/release", app / "release")
    shutil.copytree(tree / f"Sources/{MODULE}Bench/golden", app / "golden")
    name, agrees, document = interpreted(tree, tmp_path, ("OddOneModel",), "Run.swift")
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


def changed(folder, random):
    """Change one thing in the folder of a release, and say what."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    path = random.choice(files)
    other = random.choice([item for item in files if item.read_bytes() != path.read_bytes()])
    content = path.read_bytes()
    kind = random.choice(("flipped", "cut", "grown", "removed", "renamed", "swapped", "added"))
    if kind == "flipped":
        at = random.randrange(len(content))
        path.write_bytes(
            content[:at] + bytes([content[at] ^ 1 << random.randrange(8)]) + content[at + 1 :]
        )
    elif kind == "cut":
        path.write_bytes(content[: random.randrange(len(content))])
    elif kind == "grown":
        path.write_bytes(content + b"\n")
    elif kind == "removed":
        path.unlink()
    elif kind == "renamed":
        path.rename(path.with_name(f"{path.name}.1"))
    elif kind == "swapped":
        path.write_bytes(other.read_bytes())
        other.write_bytes(content)
    else:
        (path.parent / "more.txt").write_text("more")
    return f"{kind} {path.relative_to(folder).as_posix()}"


def test_the_check_in_the_app_refuses_every_change(tree, tmp_path):
    """200 seeded ones, and a foreign key; what is whole is right."""
    release = tree / f"Sources/{MODULE}/release"
    told = {}
    for number in range(200):
        folder = tmp_path / f"app/{number:03}/release"
        shutil.copytree(release, folder)
        told[f"{number:03}"] = changed(folder, Random(number))
    shutil.copytree(release, tmp_path / "app/whole/release")
    keys = {"KEY": packed.KEY.public, "FOREIGN": made.OTHER.public}
    given = {name: base64.b64encode(key).decode() for name, key in keys.items()}
    *lines, foreign = interpreted(tree, tmp_path, (), "Verify.swift", **given)
    found = dict(line.split(" ", 1) for line in lines)
    digest = hashlib.sha256((release / "manifest.json").read_bytes()).hexdigest()
    assert found.pop("whole") == f"right {digest}"
    taken = {told[name]: text for name, text in found.items() if text.startswith("right")}
    assert len(found) == 200 and not taken
    assert foreign == "whole untrusted no trusted key vouches for the release"
    print(Counter(text.split()[0] for text in found.values()))
