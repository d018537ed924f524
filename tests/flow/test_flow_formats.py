"""Two real profiles become a package of every format by one command; each is used by its own tools.

What a package answers to a golden input is held against what its artifact answered in the build.
"""

import hashlib
import json
import subprocess
import zipfile
from pathlib import Path

import apps
import numpy as np
import onnxruntime
import pytest
from apps import App

from edgedeploy.release import verify_file
from edgedeploy.release.formats import FORMATS
from edgedeploy.release.keys import new_key
from tests.packages import cpp, dpkg, java, npm, oci, swift, wheels
from tests.packages.embedded import EMBEDDED
from tests.unit.release import swiftparse
from tests.web import browser

pytestmark = pytest.mark.slow

NAMES = ("direction", "quickstart")
OUTPUTS = {"direction": "saveInferModelScale0Tmp1", "quickstart": "softmax11Tmp0"}
"""The outputs' names in TypeScript; the same as in Java."""
SNAKE = {"direction": "save_infer_model_scale_0_tmp_1", "quickstart": "softmax_11_tmp_0"}
"""The same in Python and C++."""


TARGETS = {
    "direction": ("linux-x86-64/ort",),
    "quickstart": ("linux-x86-64/ort", "linux-x86-64/openvino"),
}
"""Those that a wheel runs on this machine."""


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> dict[str, App]:
    """Both releases, with a package of every format by the command that made them."""
    folder = tmp_path_factory.mktemp("released")
    new_key(folder / "key")
    found = {}
    for make in (apps.direction, apps.quickstart):
        place = folder / make.__name__
        place.mkdir()
        formats = "all" if make is apps.direction else ",".join(FORMATS)
        found[make.__name__] = make(place, folder / "key", formats)
    return found


@pytest.fixture(params=NAMES)
def app(request: pytest.FixtureRequest, released: dict[str, App]) -> App:
    """One release after the other."""
    return released[request.param]


def test_one_command_writes_every_format(app: App) -> None:
    """In the order of their table, beside the bundle, each what a user takes from there."""
    assert list(app.packages) == list(FORMATS)
    for name, paths in app.packages.items():
        assert paths and all(path.parent == app.folder / "packages" / name for path in paths)
    assert verify_file.verify(str(app.release), [verify_file.read_key(str(app.key))])


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=[dpkg.needs_dpkg] * (kind == "debian")) for kind in FORMATS],
)
def test_every_package_holds_what_was_signed_and_nothing_else(
    app: App, kind: str, tmp_path: Path
) -> None:
    """The manifest, its signatures, and files that it names by digest: an app can check them all.

    Golden samples stay in the bundle, but for the image layout, which is all of it.
    """
    held = EMBEDDED[kind](app.packages[kind], app.name, tmp_path / "scratch")
    key = verify_file.read_key(str(app.key))
    found = verify_file.signed(held.pop("manifest.json"), held.pop("manifest.dsse.json"), [key])
    listed = {item["path"]: item for item in found["release"]["files"]}
    if kind == "oci":
        held.pop("SHA256SUMS")
        assert held.keys() == listed.keys()
    for path, content in held.items():
        assert hashlib.sha256(content).hexdigest() == listed[path]["sha256"], path
        assert kind == "oci" or listed[path]["role"] != "golden"
    roles = {listed[path]["role"] for path in held}
    beside = {"sbom", "provenance", *(["labels"] if app.name == "direction" else [])}
    assert roles >= {"model"} | beside


USE = """
import json, sys
import numpy as np
import {name} as module
found = dict(signers=module.verify(sys.argv[1])["signers"])
for target, given in json.loads(sys.argv[2]).items():
    model = module.Main(target=target, threads=1)
    found[target] = model.run(x=np.load(given)).{output}.tolist()
print(json.dumps(found))
"""


def test_the_installed_wheel_answers_as_the_build_did(
    released: dict[str, App], tmp_path: Path
) -> None:
    """Both are installed side by side by pip, run in each runtime, and check themselves."""
    packages = [path for app in released.values() for path in app.packages["wheel"]]
    place = wheels.install(tmp_path / "installed", *packages)
    for app in released.values():
        given = {}
        for target in TARGETS[app.name]:
            given[target] = str(tmp_path / f"{app.name}-{len(given)}.npy")
            np.save(given[target], app.golden(target)[0])
        source = USE.format(name=app.name, output=SNAKE[app.name])
        found = wheels.run(place, source, str(app.key), json.dumps(given))
        assert len(found.pop("signers")) == 1
        assert tuple(found) == TARGETS[app.name]
        for target, value in found.items():
            app.check(target, value)


ASK = """\
const { MainModel, release } = await import(`/served/${given.name}/package/index.js`);
const model = await MainModel.create();
const found = await model.run({ x: Float32Array.from(given.x) });
return { told: [...found[given.output].data], labels: MainModel.labels, name: release.name };
"""


def test_a_browser_answers_as_the_build_did(released: dict[str, App], tmp_path: Path) -> None:
    """Chromium, with the build of onnxruntime-web for WebAssembly; classes are told."""
    for app in released.values():
        (package,) = app.packages["npm"]
        npm.unpacked(package, tmp_path / app.name)
    with browser.browser(tmp_path) as page:
        for app in released.values():
            given = {
                "name": app.name,
                "output": OUTPUTS[app.name],
                "x": app.golden("web/ort")[0].ravel().tolist(),
            }
            answer = page.run(ASK, given)
            assert answer["name"] == app.name
            labels = (app.release / "labels/main.txt").read_text(encoding="utf-8")
            assert answer["labels"] == labels.removesuffix("\n").split("\n")
            app.check("web/ort", answer["told"])


DRIVER = """
import android.content.Context;
import edgedeploy.direction.androidarm64.Direction;
import edgedeploy.quickstart.androidarm64.Quickstart;
import java.io.IOException;
import java.nio.*;
import java.nio.file.*;

public class Driver {
    public static void main(String[] args) throws Exception {
        Context one = new Context(args[0]);
        try (Direction model = Direction.open(one)) {
            write(args[2], model.run(read(args[1])).saveInferModelScale0Tmp1);
        }
        try (Quickstart model = Quickstart.open(new Context(args[3]))) {
            write(args[5], model.run(read(args[4])).softmax11Tmp0);
        }
        System.out.print(String.join(",", Direction.labels(one)));
    }

    static FloatBuffer read(String path) throws IOException {
        ByteBuffer found = ByteBuffer.wrap(Files.readAllBytes(Paths.get(path)));
        return found.order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer();
    }

    static void write(String path, FloatBuffer found) throws IOException {
        ByteBuffer told = ByteBuffer.allocate(4 * found.remaining());
        told.order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer().put(found);
        Files.write(Paths.get(path), told.array());
    }
}
"""


@java.needs_jdk
@java.needs_aapt
def test_java_answers_as_the_build_did(released: dict[str, App], tmp_path: Path) -> None:
    """The AARs' classes, each out of an app that Android's packager made of its assets."""
    classes, arguments = [], []
    for app in released.values():
        place = tmp_path / app.name
        (archive,) = (app.folder / "packages/android").rglob("*.aar")
        for opened, goal in ((archive, "aar"), (place / "aar/classes.jar", "classes")):
            with zipfile.ZipFile(opened) as members:
                members.extractall(place / goal)
        app.golden("android-arm64/ort")[0].tofile(place / "given")
        classes.append(place / "classes")
        arguments += [java.apk_of(place / "aar", "-0", "ort"), place / "given", place / "told"]
    (tmp_path / "Driver.java").write_text(DRIVER)
    sources = [tmp_path / "Driver.java", *java.STANDINS.rglob("*.java")]
    driver = java.javac(tmp_path / "driver", ":".join(map(str, classes)), sources)
    told = java.java_run([driver, *classes], *arguments)
    assert told == ",".join(apps.CLASSES)
    for app in released.values():
        app.check("android-arm64/ort", np.fromfile(tmp_path / app.name / "told", np.float32))


LISTS = """
cmake_minimum_required(VERSION 3.16)
project(app CXX)
find_package(direction 1.0 CONFIG REQUIRED)
find_package(quickstart 1.0 CONFIG REQUIRED)
add_executable(app app.cpp)
target_link_libraries(app PRIVATE direction::direction quickstart::quickstart)
target_compile_options(app PRIVATE -O0 -Wall -Wextra -Wpedantic -Wconversion -Werror)
target_compile_definitions(app PRIVATE
  DIRECTION="${direction_RELEASE_DIR}" QUICKSTART="${quickstart_RELEASE_DIR}")
"""

PROGRAM = r"""
#include <direction/direction.hpp>
#include <quickstart/quickstart.hpp>

#include <fstream>

template <class Tensor>
Tensor read(const char* path, std::int64_t width) {
  Tensor found;
  found.shape = {1, 3, 48, width};
  found.values.resize(static_cast<std::size_t>(3 * 48 * width));
  std::ifstream(path, std::ios::binary)
      .read(reinterpret_cast<char*>(found.values.data()),
            static_cast<std::streamsize>(found.values.size() * sizeof(float)));
  return found;
}

template <class Tensor>
void write(const char* path, const Tensor& found) {
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(found.values.data()),
             static_cast<std::streamsize>(found.values.size() * sizeof(float)));
}

int main(int, char** paths) {
  const direction::Main one(DIRECTION, direction::Target::linux_x_86_64_ort, 1);
  write(paths[2], one.run(read<direction::Tensor<float>>(paths[1], 192)).OUT_DIRECTION);
  const quickstart::Main two(QUICKSTART, quickstart::Target::linux_x_86_64_ort, 1);
  write(paths[4], two.run(read<quickstart::Tensor<float>>(paths[3], 320)).OUT_QUICKSTART);
}
"""


@cpp.needs_cmake
def test_a_program_in_cpp_answers_as_the_build_did(
    released: dict[str, App], tmp_path: Path
) -> None:
    """Both packages in one program, which CMake configures and the compiler takes unwarned."""
    source = PROGRAM
    paths = []
    for name in NAMES:
        source = source.replace(f"OUT_{name.upper()}", SNAKE[name])
        given, told = tmp_path / f"{name}.given", tmp_path / f"{name}.told"
        released[name].golden("linux-x86-64/ort")[0].tofile(given)
        paths += [given, told]
    packages = [path for app in released.values() for path in app.packages["cmake"]]
    program = cpp.build(packages, tmp_path / "app", LISTS, source)
    subprocess.run([program, *paths], check=True, timeout=60)
    for name in NAMES:
        found = np.fromfile(tmp_path / f"{name}.told", np.float32)
        released[name].check("linux-x86-64/ort", found)


@dpkg.needs_dpkg
@dpkg.needs_root
def test_what_dpkg_installs_answers_as_the_build_did(app: App, tmp_path: Path) -> None:
    """Installed, found right by dpkg, run from the path that all boards have, and removed."""
    (deb,) = (path for path in app.packages["debian"] if "linux-x86-64-ort" in path.name)
    root = dpkg.Root(tmp_path / "root", app.name)
    root.dpkg("-i", deb)
    name = dpkg.field(deb, "Package")
    assert root.dpkg("--verify", name) == ""
    run(app, "linux-x86-64/ort", root.app / "current/models/main/model.ort")
    root.dpkg("--purge", name)
    assert not root.app.exists()


def run(app: App, target: str, model: Path) -> None:
    """Run a file by ONNX Runtime itself, and hold the answer against the build's."""
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    app.check(target, session.run([app.output], {"x": app.golden(target)[0]})[0])


def test_onnx_runtime_runs_the_model_package(app: App) -> None:
    """It opens the folder, knows every field, selects the variant and answers as the build did."""
    (place,) = (path for path in app.packages["ortpackage"] if "linux-x86-64" in path.name)
    onnxruntime.ModelPackage.open(str(place), strict_unknown_fields=True).close()
    context = onnxruntime.ModelPackageContext(str(place))
    options = onnxruntime.SessionOptions()
    choice = onnxruntime.ModelPackageOptions(options)
    session = context.select_component("main", choice).create_session(options)
    target = "linux-x86-64/ort"
    app.check(target, session.run([app.output], {"x": app.golden(target)[0]})[0])


@oci.needs_skopeo
def test_a_registrys_tools_take_the_image_layout(app: App, tmp_path: Path) -> None:
    """The specification's rules hold, skopeo copies it, and what is pulled is the release."""
    (layout,) = app.packages["oci"]
    oci.check_layout(layout, "1.0.0")
    oci.copy(layout, "1.0.0", tmp_path / "copy")
    oci.pull(layout, tmp_path / "pulled")
    key = verify_file.read_key(str(app.key))
    found = verify_file.verify(str(tmp_path / "pulled"), [key])
    manifest = (app.release / "manifest.json").read_bytes()
    assert found["digest"] == hashlib.sha256(manifest).hexdigest()


def test_the_swift_package_names_what_its_artifacts_have(app: App) -> None:
    """Every file is Swift to a grammar; names and kinds are those of Core ML or ONNX Runtime."""
    (tree,) = app.packages["swift"]
    for file in tree.rglob("*.swift"):
        swiftparse.parse(file.read_bytes())
    sources = tree / f"Sources/{app.name.title()}Models"
    release = sources / "release"
    (named,) = swift.variants(swiftparse.parse((sources / "Release.swift").read_bytes()))
    if app.name == "direction":
        inputs, outputs = swift.features(release / named.path)
        assert named.target == "ios17/coreml"
        assert (inputs["x"], named.inputs) == ("imageType", {"x": "image"})
        (output,) = named.outputs
        assert (outputs[output], named.outputs[output]) == ("dictionaryType", "classes")
    else:
        assert (named.target, named.inputs) == ("ios17/ort", {"x": "array"})
        assert named.outputs == {app.output: "array"}
        run(app, named.target, release / named.path)
    main = swiftparse.parse((sources / "Models/MainModel.swift").read_bytes())
    taken = {"direction": "x: CVPixelBuffer", "quickstart": "x: Tensor<Float>"}[app.name]
    assert swiftparse.signatures(main)["run"] == [taken]
    given = [verify_file.read_key(str(app.key))]
    manifest, envelope = (
        (release / name).read_bytes() for name in ("manifest.json", "manifest.dsse.json")
    )
    assert verify_file.signed(manifest, envelope, given)["release"] == json.loads(manifest)
