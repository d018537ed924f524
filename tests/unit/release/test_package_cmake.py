"""CMake packages: configured by CMake, compiled by the C++ compiler, run in the real runtime.

The wheel of ONNX Runtime has the library and not the header: the header is tests/stubs/onnxruntime.
"""

import json
import subprocess
from pathlib import Path

import numpy as np
import packed
import pytest

from edgedeploy.errors import UsageError
from edgedeploy.release.packages import write_packages
from tests.packages.cpp import LIBRARY, STUBS, build, configure, needs_cmake

pytestmark = needs_cmake

LISTS = """
cmake_minimum_required(VERSION 3.16)
project(app CXX)
find_package(doorbell 1.1 CONFIG REQUIRED)
add_executable(app app.cpp)
target_link_libraries(app PRIVATE doorbell::doorbell)
target_compile_options(app PRIVATE -O0 -Wall -Wextra -Wpedantic -Wconversion -Werror)
target_compile_definitions(app PRIVATE RELEASE_DIR="${doorbell_RELEASE_DIR}")
"""

# Without a language, which would cost a second of looking for its compiler.
ASKING = f"""
cmake_minimum_required(VERSION 3.16)
project(app NONE)
set(OnnxRuntime_LIBRARY "{LIBRARY}")
find_package(doorbell @ASKED@ CONFIG REQUIRED)
"""

APP = r"""
#include <doorbell/doorbell.hpp>

#include <cstdio>

template <class Call>
void refused(Call call) {
  try {
    call();
    std::puts("taken");
  } catch (const doorbell::Error& error) {
    std::puts(error.what());
  }
}

int main() {
  doorbell::Tensor<float> image;
  image.shape = {1, 3, 5, 8};
  for (int at = 0; at < 120; ++at) image.values.push_back(static_cast<float>(at));
  const doorbell::Main model(RELEASE_DIR, doorbell::Target::linux_x_86_64_ort, 1);
  const doorbell::OddOne odd(RELEASE_DIR, doorbell::Target::rpi_5_ort, 1);
  for (const auto& found : {model.run(image).class_, odd.run(image).class_}) {
    std::printf("[%.9g, %.9g]\n", static_cast<double>(found.values.at(0)),
                static_cast<double>(found.values.at(1)));
  }
  doorbell::Tensor<float> wrong = image;
  wrong.shape = {1, 3, 3, 8};
  refused([&] { model.run(wrong); });
  wrong.shape = {1, 3, 4, 8};
  refused([&] { model.run(wrong); });
  refused([&] { doorbell::Main(RELEASE_DIR "/none", doorbell::Target::rpi_4_ort); });
}
"""


def package_of(bundle: Path, folder: Path) -> Path:
    """Write the package of a bundle and return it."""
    (package,) = write_packages(bundle, packed.TRUSTED, ["cmake"], folder)
    return package.paths[0]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of a release."""
    folder = tmp_path_factory.mktemp("cmake")
    return package_of(packed.write(folder), folder)


def test_an_application_builds_and_runs_its_models(package: Path, tmp_path: Path) -> None:
    """Every warning is an error; the outputs are those that NumPy computes; faults are named."""
    app = build([package], tmp_path / "app", LISTS, APP)
    found = subprocess.run([app], capture_output=True, text=True, timeout=60)
    assert found.returncode == 0, found.stderr
    lines = found.stdout.splitlines()
    image = np.arange(120, dtype=np.float32).reshape(1, 3, 5, 8)
    for line in lines[:2]:
        np.testing.assert_allclose([json.loads(line)], packed.expected(image), rtol=1e-5)
    assert lines[2:4] == [
        "the input image has another shape than the model",
        "the input image has 120 elements, and its shape 96",
    ]
    assert "none/android-arm64/ort/main/model.ort" in lines[4]  # all share one file


@pytest.mark.parametrize(("asked", "found"), [("1.2.0", True), ("1.3", False), ("0.9", False)])
def test_versions_that_do_not_stand_in_are_refused(
    package: Path, tmp_path: Path, asked: str, found: bool
) -> None:
    """Older ones of the same first number do; newer ones and another first number do not."""
    ran = configure([package], tmp_path / "app", ASKING.replace("@ASKED@", asked))
    assert (ran.returncode == 0) is found, ran.stdout + ran.stderr
    assert found or "version: 1.2.0" in ran.stderr


def test_the_header_is_c_plus_plus_for_every_name(tmp_path: Path) -> None:
    """Reserved words, names without letters, and two that differ by a sign alone."""
    from dataclasses import replace

    target = packed.TARGETS["linux-x86-64/ort"]
    port = target.models[0].inputs[0]
    names = ("image", "class", "a.b", "a:b", "é", "valueOf0", "1", "\\", "*/", "new line\n")
    odd = replace(
        target.models[0],
        inputs=tuple(replace(port, name=name) for name in names),
        outputs=tuple(replace(port, name=name, image=None) for name in names),
    )
    models = (odd, replace(odd, name="Tensor"), replace(odd, name="error"))
    fitted = replace(
        target,
        models=tuple(replace(item, entry=target.models[0].entry) for item in models),
    )
    package = package_of(packed.write(tmp_path, {target.target: fitted}), tmp_path / "p")
    unit = tmp_path / "unit.cpp"
    unit.write_text("#include <doorbell/doorbell.hpp>\n")
    command = ["c++", "-std=c++17", "-fsyntax-only", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    ran = subprocess.run(
        [*command, f"-I{package}/include", f"-I{STUBS}", unit], capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr


def test_the_same_bundle_gives_the_same_package(package: Path, tmp_path: Path) -> None:
    """To the last byte."""
    again = package_of(packed.write(tmp_path), tmp_path / "else")
    files = {path.relative_to(package) for path in package.rglob("*") if path.is_file()}
    assert files == {path.relative_to(again) for path in again.rglob("*") if path.is_file()}
    assert all((package / path).read_bytes() == (again / path).read_bytes() for path in files)
    assert {path.name for path in files} >= {"manifest.json", "manifest.dsse.json"}


def test_a_version_that_cmake_cannot_compare_is_refused(tmp_path: Path) -> None:
    """Rather than a package that no find_package with a version finds."""
    with pytest.raises(UsageError, match="no version that CMake compares") as caught:
        package_of(packed.write(tmp_path, version="1.0rc1"), tmp_path / "p")
    assert caught.value.diagnostics[0].code == "E760"
