"""Every package makes of the golden pictures what edgedeploy makes of them, to the bit."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from made import TRUSTED
from swiftparse import parse, signatures

from edgedeploy.release.packages import write_packages
from tests.packages.cpp import STUBS, needs_cmake
from tests.packages.java import QUICK, javac, needs_jdk, run
from tests.packages.npm import unpacked
from tests.packages.pictures import CASES, expected, model_name, pixels_of, written
from tests.packages.wheels import install
from tests.packages.wheels import run as run_python

pytestmark = pytest.mark.slow
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="needs node")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release with a model per golden picture."""
    return written(tmp_path_factory.mktemp("bundle"))


def package(bundle: Path, kind: str, folder: Path) -> Path:
    """Write a package and return what it consists of first."""
    (made,) = write_packages(bundle, TRUSTED, [kind], folder / "packages")
    return made.paths[0]


def pictures(folder: Path) -> Path:
    """Write the pixels of all cases, one file each, and return their folder."""
    place = folder / "pictures"
    place.mkdir()
    for case in CASES:
        (place / f"{model_name(case)}.bin").write_bytes(pixels_of(case))
    return place


PYTHON = """
import hashlib, json, sys
from pathlib import Path
import numpy as np
import doorbell

found = {}
for name, (height, width, channels) in json.loads(sys.argv[2]).items():
    data = Path(sys.argv[1], name + ".bin").read_bytes()
    pixels = np.frombuffer(data, np.uint8).reshape(height, width, channels)
    made = getattr(doorbell, name.capitalize()).prepare_x(pixels)
    found[name] = [list(made.shape), hashlib.sha256(made.tobytes()).hexdigest()]
for wrong in (pixels.astype(np.float32), pixels[None], pixels[:0]):
    try:
        doorbell.Case0.prepare_x(wrong)
        print("taken")
    except (TypeError, ValueError):
        pass
print(json.dumps(found))
"""


def sizes() -> str:
    keys = ("height", "width", "channels")
    return json.dumps({model_name(case): [case["picture"][key] for key in keys] for case in CASES})


def test_python(bundle: Path, tmp_path: Path) -> None:
    installed = install(tmp_path / "installed", package(bundle, "wheel", tmp_path))
    found = run_python(installed, PYTHON, str(pictures(tmp_path)), sizes())
    assert found == expected()


NODE = """
import {{ createHash }} from "node:crypto";
import {{ readFileSync }} from "node:fs";
import * as doorbell from "{module}";

const found = {{}};
for (const [name, [height, width, channels]] of Object.entries({sizes})) {{
  const data = new Uint8Array(readFileSync("{pictures}/" + name + ".bin"));
  const kind = name[0].toUpperCase() + name.slice(1) + "Model";
  const made = doorbell[kind].prepare.x({{ data, width, height }});
  const bytes = new Uint8Array(made.data.buffer);
  found[name] = [made.dims, createHash("sha256").update(bytes).digest("hex")];
}}
let refused = 0;
for (const wrong of [{{ data: new Uint8Array(7), width: 2, height: 3 }},
                     {{ data: new Uint8Array(0), width: 0, height: 0 }}]) {{
  try {{ doorbell.Case0Model.prepare.x(wrong); }} catch (error) {{
    refused += error instanceof RangeError;
  }}
}}
console.log(JSON.stringify({{ found, refused }}));
"""


@needs_node
def test_javascript(bundle: Path, tmp_path: Path) -> None:
    folder = unpacked(package(bundle, "npm", tmp_path), tmp_path / "npm")
    # The runtime is not needed for what happens before it: stand-ins of its names.
    runtime = folder / "node_modules/onnxruntime-web/wasm"
    runtime.mkdir(parents=True)
    (runtime.parent / "package.json").write_text(
        '{"type": "module", "exports": {"./wasm": "./wasm/index.js"}}'
    )
    names = "export const env = {}, InferenceSession = {}, Tensor = {};"
    (runtime / "index.js").write_text(names)
    script = tmp_path / "use.mjs"
    script.write_text(
        NODE.format(module=folder / "index.js", sizes=sizes(), pictures=pictures(tmp_path))
    )
    ran = subprocess.run(["node", str(script)], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == {"found": expected(), "refused": 2}


CPP = """
#include <doorbell/doorbell.hpp>

#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>

template <class T>
void write(const doorbell::Tensor<T>& made, const std::string& file) {
  std::ofstream out(file, std::ios::binary);
  const auto rank = static_cast<std::int64_t>(made.shape.size());
  out.write(reinterpret_cast<const char*>(&rank), sizeof rank);
  out.write(reinterpret_cast<const char*>(made.shape.data()), 8 * rank);
  out.write(reinterpret_cast<const char*>(made.values.data()),
            static_cast<std::streamsize>(made.values.size() * sizeof(T)));
}

int main(int, char** arguments) {
  const std::string place = arguments[1];
  const auto read = [&](const std::string& name) {
    std::ifstream in(place + "/" + name + ".bin", std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(in), {});
  };
@CALLS@
  try {
    doorbell::Case0::prepare_x({nullptr, 0, 1, 3});
    return 1;
  } catch (const doorbell::Error&) {
  }
  return 0;
}
"""


def from_raw(file: Path) -> list[object]:
    """Return the shape that stands before a tensor, and the digest of what follows."""
    data = file.read_bytes()
    (rank,) = struct.unpack_from("<q", data)
    shape = list(struct.unpack_from(f"<{rank}q", data, 8))
    return [shape, hashlib.sha256(data[8 * (rank + 1) :]).hexdigest()]


@needs_cmake
def test_cpp(bundle: Path, tmp_path: Path) -> None:
    root = package(bundle, "cmake", tmp_path)
    calls = []
    for case in CASES:
        name, about = model_name(case), case["picture"]
        sides = f"{about['width']}, {about['height']}, {about['channels']}"
        calls.append(
            f'  {{ const auto data = read("{name}");\n'
            f"    const auto* bytes = reinterpret_cast<const std::uint8_t*>(data.data());\n"
            f"    write(doorbell::{name.capitalize()}::prepare_x({{bytes, {sides}}}), "
            f'place + "/{name}.out"); }}'
        )
    (tmp_path / "app.cpp").write_text(CPP.replace("@CALLS@", "\n".join(calls)))
    warnings = ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror")
    flags = ("-std=c++17", "-O2", "-march=native", *warnings, f"-I{root}/include", f"-I{STUBS}")
    command = ["c++", *flags, "-c", "app.cpp", "-o", "app.o"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    # The runtime's one function is never called: what is tested comes before it.
    entry = '#include <onnxruntime_c_api.h>\nextern "C" const OrtApiBase* OrtGetApiBase() '
    (tmp_path / "entry.cpp").write_text(entry + "{ return nullptr; }\n")
    run("c++", f"-I{STUBS}", "app.o", "entry.cpp", "-o", "app", cwd=tmp_path)
    place = pictures(tmp_path)
    run(tmp_path / "app", place)
    assert {case: from_raw(place / f"{case}.out") for case in expected()} == expected()


def test_swift_is_swift(bundle: Path, tmp_path: Path) -> None:
    """Read by a grammar here; tests/soak runs it where there is a compiler."""
    root = package(bundle, "swift", tmp_path)
    made = {}
    for file in sorted((root / "Sources").rglob("*.swift")):
        tree = parse(file.read_bytes())
        if file.parent.name == "Models":
            made[file.stem] = signatures(tree)["prepareX"]
    assert made == {f"{name.capitalize()}Model": ["_ pixels: Pixels"] for name in expected()}


JAVA = """
import java.io.DataOutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.security.MessageDigest;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Arrays;
import @PACKAGE@.*;

public final class Use {
    static void print(String name, Pixels.Input made) throws Exception {
        ByteBuffer bytes = made.bytes;
        if (bytes == null) {
            bytes = ByteBuffer.allocate(4 * made.floats.remaining()).order(ByteOrder.LITTLE_ENDIAN);
            bytes.asFloatBuffer().put(made.floats.duplicate());
        }
        byte[] digest = MessageDigest.getInstance("SHA-256").digest(bytes.array());
        StringBuilder hex = new StringBuilder();
        for (byte value : digest) hex.append(String.format("%02x", value));
        String shape = Arrays.toString(made.shape);
        System.out.println("[\\"" + name + "\\", " + shape + ", \\"" + hex + "\\"]");
    }

    public static void main(String[] arguments) throws Exception {
@CALLS@
        try {
            new Pixels(new byte[7], 2, 1, 3);
            System.out.println("taken");
        } catch (IllegalArgumentException expected) {
        }
    }
}
"""


@needs_jdk
def test_java(bundle: Path, tmp_path: Path) -> None:
    (made,) = write_packages(bundle, TRUSTED, ["android"], tmp_path / "packages")
    (java,) = (path for path in made.paths if path.name == "java")
    sources = sorted(java.rglob("*.java"))
    (shared,) = (path for path in sources if path.name == "Pixels.java")
    place = pictures(tmp_path)
    calls = []
    for case in CASES:
        name, about = model_name(case), case["picture"]
        sides = f"{about['width']}, {about['height']}, {about['channels']}"
        data = f'Files.readAllBytes(Paths.get("{place}/{name}.bin"))'
        calls.append(
            f'        print("{name}", Doorbell{name.capitalize()}Pixels.prepareX('
            f"new Pixels({data}, {sides})));"
        )
    used = ".".join(shared.relative_to(java).parts[:-1])
    text = JAVA.replace("@PACKAGE@", used).replace("@CALLS@", "\n".join(calls))
    (tmp_path / "Use.java").write_text(text)
    strict = ("--release", "8", "-Xlint:all,-options", "-Werror")
    classes = javac(tmp_path / "classes", str(tmp_path), [*sources, tmp_path / "Use.java"], *strict)
    lines = run("java", *QUICK, "-cp", classes, "Use").splitlines()
    found = {name: [shape, digest] for name, shape, digest in map(json.loads, lines)}
    assert found == expected()
