"""Wheels: installed by pip, and their models run in the runtimes."""

import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import packed
import pytest

from edgedeploy.errors import UsageError
from edgedeploy.release.bundle import Tensor
from edgedeploy.release.formats import wheel_loading
from edgedeploy.release.formats.wheel_loading import UnsuitableMachineError, Variant
from edgedeploy.release.packages import write_packages
from tests.packages.wheels import install, run, written_key

USE = """
import json, sys
import numpy as np
import doorbell

image = np.arange(3 * 5 * 8, dtype=np.float32).reshape(1, 3, 5, 8)
found = {}
for target in ("linux-x86-64/ort", "intel-cpu/openvino", None):
    model = doorbell.Main(target=target, threads=1)
    found[str(target)] = [model.target, model.run(image=image).class_.tolist()]
    odd = doorbell.OddOne(target=target, threads=1)
    assert np.array_equal(odd.run(in_put_0=image).class_, model.run(image=image).class_)
for wrong in (image.astype(np.float64), image[:, :, :3], "text"):
    try:
        model.run(image=wrong)
    except (TypeError, ValueError) as error:
        found.setdefault("wrong", []).append(str(error))
found["verified"] = doorbell.verify(sys.argv[1])
print(json.dumps(found))
"""


def wheel_of(bundle: Path, folder: Path) -> Path:
    """Write a wheel of a bundle and return it."""
    (package,) = write_packages(bundle, packed.TRUSTED, ["wheel"], folder)
    return package.paths[0]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel with all targets that suit."""
    folder = tmp_path_factory.mktemp("wheel")
    return wheel_of(packed.write(folder), folder)


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that pip installed the wheel into."""
    return install(tmp_path_factory.mktemp("installed"), wheel)


@pytest.fixture(scope="module")
def public_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The public key of the release, in a file."""
    return written_key(packed.KEY.public, tmp_path_factory.mktemp("key") / "key.pub")


@pytest.mark.skipif(wheel_loading.machine() != ("linux", "x86-64"), reason="needs Linux on x86-64")
def test_an_installed_wheel_runs_its_models_in_both_runtimes(
    installed: Path, public_key: Path
) -> None:
    """Whichever target: the outputs are those that NumPy computes; wrong inputs are named."""
    image = np.arange(3 * 5 * 8, dtype=np.float32).reshape(1, 3, 5, 8)
    found = run(installed, USE, str(public_key))
    assert [found["linux-x86-64/ort"][0], found["None"][0]] == [
        "linux-x86-64/ort",
        "intel-cpu/openvino",  # the first of the release whose runtime is there
    ]
    for target in ("linux-x86-64/ort", "intel-cpu/openvino", "None"):
        np.testing.assert_allclose(found[target][1], packed.expected(image), rtol=1e-5)
    assert found["wrong"] == [
        "the input image is an array of float32, not of float64",
        "the input image has shape [1, 3, 3, 8], not [1, 3, 4..16, 8]",
        "the input image is an array of float32, not of str",
    ]
    assert found["verified"]["signers"] == [packed.KEY.id]


def test_a_changed_file_is_found_by_the_installed_package(
    installed: Path, public_key: Path
) -> None:
    """The embedded manifest vouches for every file of it."""
    source = """
import json, sys, pathlib, doorbell
path = pathlib.Path(doorbell.__file__).parent / "release/labels.txt"
kept = path.read_bytes()
path.write_bytes(b"dog\\ncat\\n")
try:
    doorbell.verify(sys.argv[1])
    print(json.dumps("taken"))
except Exception as error:
    print(json.dumps([type(error).__name__, str(error)]))
finally:
    path.write_bytes(kept)
"""
    assert run(installed, source, str(public_key)) == [
        "VerifyError",
        "'labels.txt': its content is another",
    ]


def test_what_the_installed_package_says_of_itself(installed: Path) -> None:
    """Metadata as the tools of the ecosystem read it: name, version, extras, licences."""
    source = """
import importlib.metadata as metadata, json
about = metadata.metadata("doorbell")
print(json.dumps([about["Version"], about["License-Expression"], about.get_all("Requires-Dist"),
    [path.read_text() for path in metadata.files("doorbell") if "licenses" in str(path)]]))
"""
    assert run(installed, source) == [
        "1.2.0",
        "Apache-2.0 AND (MIT OR CC0-1.0)",
        ["numpy", 'openvino>=2025.0; extra == "openvino"', 'onnxruntime>=1.17; extra == "ort"'],
        ["a licence\n"],
    ]


def test_types_hold(installed: Path) -> None:
    """What an editor or a type checker reads off the classes."""
    source = """
import inspect, json, typing, doorbell
hints = typing.get_type_hints(doorbell.Main.run, doorbell.__dict__)
outputs = typing.get_type_hints(doorbell.Main.Outputs)
print(json.dumps([str(hints["image"]), hints["return"] is doorbell.Main.Outputs, str(outputs),
    inspect.getdoc(doorbell.OddOne.run), doorbell.__all__]))
"""
    image, returns, outputs, doc, names = run(installed, source)
    assert "numpy.float32" in image and returns is True
    assert outputs.startswith("{'class_': numpy.ndarray") and "numpy.float32" in outputs
    assert "in_put_0: float32 [1, 3, 4..16, 8]." in doc and "Multiply every value by" in doc
    assert names == ["Main", "OddOne", "RELEASE", "UnsuitableMachineError", "verify"]
    assert (installed / "doorbell/py.typed").exists()


def test_boards_with_the_same_files_share_them(wheel: Path) -> None:
    """Two boards, one copy; nothing for other systems; golden samples stay away."""
    with zipfile.ZipFile(wheel) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
    held = {name.partition("release/")[2] for name in names if "/release/" in name}
    assert held == {
        "LICENSES/Apache-2.0.txt",
        "files/config.json",
        "intel-cpu/openvino/main/model.bin",
        "intel-cpu/openvino/main/model.xml",
        "intel-cpu/openvino/odd-one/model.bin",
        "intel-cpu/openvino/odd-one/model.xml",
        "labels.txt",
        "linux-x86-64/ort/main/model.ort",
        "linux-x86-64/ort/odd-one/model.ort",
        "manifest.dsse.json",
        "manifest.json",
    }


def test_the_same_bundle_gives_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    """To the last byte, in another folder."""
    assert wheel_of(packed.write(tmp_path), tmp_path / "else").read_bytes() == wheel.read_bytes()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"version": "monday"}, "'monday' is no version of a Python package"),
        ({"name": "a~b"}, "'a~b' is no name of a Python package"),
    ],
)
def test_what_cannot_be_a_wheel_is_refused(
    tmp_path: Path, change: dict[str, str], why: str
) -> None:
    """With the name or version that is wrong; nothing is left behind."""
    bundle = packed.write(tmp_path, **change)
    with pytest.raises(UsageError, match=why) as caught:
        wheel_of(bundle, tmp_path / "packages")
    assert caught.value.diagnostics[0].code == "E760"
    assert list((tmp_path / "packages").iterdir()) == []


def test_targets_that_disagree_are_refused(tmp_path: Path) -> None:
    """One class cannot have two signatures; NumPy has no bfloat16."""
    for dtype in ("float16", "bfloat16"):
        target = packed.TARGETS["rpi4/ort"]
        other = replace(target.models[0], outputs=(Tensor(name="class", dtype=dtype, shape=(2,)),))
        targets = {**packed.TARGETS, "rpi4/ort": replace(target, models=(other,))}
        with pytest.raises(UsageError, match="other inputs or outputs"):
            wheel_of(packed.write(tmp_path, targets), tmp_path / dtype)
        with pytest.raises(UsageError, match="bfloat16") if dtype == "bfloat16" else no_error():
            alone = {"rpi4/ort": targets["rpi4/ort"]}
            wheel_of(packed.write(tmp_path, alone), tmp_path / f"alone-{dtype}")


def no_error() -> Any:
    """Return a context in which nothing need be raised."""
    from contextlib import nullcontext

    return nullcontext()


def variant(target: str, entry: str, **fields: str) -> Variant:
    """Return a variant for this machine."""
    system, arch = wheel_loading.machine()
    known = {
        "os": system,
        "arch": arch,
        "runtime": "ort",
        "versions": ">=1.17",
        **fields,
    }
    return Variant(target=target, entries={"main": entry}, devices={}, **known)


def test_choosing_asks_where_boards_differ() -> None:
    """Two boards with artifacts of their own: the caller says which; equal ones need no word."""
    pair = (variant("rpi4/ort", "a"), variant("rpi5/ort", "b"))
    with pytest.raises(UnsuitableMachineError, match="one of 'rpi4/ort', 'rpi5/ort'"):
        wheel_loading.choose(pair, "main")
    assert wheel_loading.choose(pair, "main", "rpi5/ort") == pair[1]
    same = (variant("rpi4/ort", "a"), variant("rpi5/ort", "a"))
    assert wheel_loading.choose(same, "main") == same[0]


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (variant("x/ort", "a", arch="riscv64"), "no artifact of main for .*x/ort .* riscv64"),
        (variant("x/ort", "a", versions=">=99"), "onnxruntime 1.* is installed, .* needs >=99"),
        (variant("x/ort", "a", versions=">=1.17,<1.18"), "needs >=1.17,<1.18"),
    ],
)
def test_a_machine_that_does_not_fit_is_told_why(found: Variant, why: str) -> None:
    """What is there, and what would be needed."""
    with pytest.raises(UnsuitableMachineError, match=why):
        wheel_loading.choose([found], "main")


def test_without_a_runtime_its_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that it can be installed; another runtime that is there is taken instead."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UnsuitableMachineError, match="install onnxruntime>=1\\.17"):
        wheel_loading.choose([variant("x/ort", "a")], "main")
    other = variant("x/openvino", "b", runtime="openvino", versions=">=2025.0")
    assert wheel_loading.choose([variant("x/ort", "a"), other], "main") == other


def test_the_source_compiles_as_python_of_three_minors_ago(wheel: Path) -> None:
    """What Requires-Python promises, as far as syntax goes."""
    import ast

    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.endswith(".py"):
                ast.parse(archive.read(name), name, feature_version=(3, 9))
