"""npm packages: read by npm, checked by the TypeScript compiler, run by a browser."""

import base64
import hashlib
import json
import os
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import onnx
import packed
import pytest
from onnx import TensorProto, helper

from edgedeploy.errors import UsageError
from edgedeploy.release.bundle import ReleaseTarget, Tensor
from edgedeploy.release.formats.npm import FORMAT, _range
from edgedeploy.release.opening import open_bundle
from tests.packages.npm import unpacked
from tests.web import browser

ODD_WORDS = ('a*/b "\\', "a\u2028b\n`${c}`", "constructor", "1", "été", "class", "then")


def web_target(**change) -> ReleaseTarget:
    return replace(packed.WEB, **change)


def write(folder: Path, *targets: ReleaseTarget, **change) -> Path:
    """Return the package of a release with these targets, written into an own folder."""
    folder.mkdir(exist_ok=True)
    bundle = packed.write(folder, {target.target: target for target in targets}, **change)
    goal = folder / "npm"
    goal.mkdir()
    with open_bundle(bundle, packed.TRUSTED) as opened:
        (path,) = FORMAT.write(opened, goal)
    return path


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    return write(tmp_path_factory.mktemp("release"), web_target())


def members(package: Path) -> dict[str, bytes]:
    with tarfile.open(package) as archive:
        return {item.name: archive.extractfile(item).read() for item in archive if item.isfile()}


def test_a_package_holds_the_models_of_browsers_and_what_vouches_for_them(package):
    held = members(package)
    about = json.loads(held["package/package.json"])
    assert about["license"] == "Apache-2.0 AND (MIT OR CC0-1.0)"
    assert about["peerDependencies"] == {"onnxruntime-web": ">=1.17"}
    manifest = json.loads(held["package/release/manifest.json"])
    for file in manifest["files"]:
        content = held.get(f"package/release/{file['path']}")
        assert (content is None) == (file["role"] == "golden"), file["path"]
        if content is not None:
            assert hashlib.sha256(content).hexdigest() == file["sha256"]
    assert "package/release/manifest.dsse.json" in held


def test_the_same_bundle_gives_the_same_bytes_anywhere(package, tmp_path, monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    monkeypatch.chdir("/")
    before = os.umask(0o077)
    try:
        again = write(tmp_path / "elsewhere", web_target())
    finally:
        os.umask(before)
    assert again.name == package.name
    assert again.read_bytes() == package.read_bytes()


def test_npm_takes_from_the_package_what_it_would_have_packed_itself(package, tmp_path):
    folder = unpacked(package, tmp_path / "own")
    told = json.loads(browser.npm("pack", "--json", folder=folder))[0]
    assert (told["name"], told["version"]) == ("doorbell", "1.2.0")
    assert members(folder / told["filename"]) == members(package)

    app = tmp_path / "app"
    app.mkdir()
    (app / "package.json").write_text('{"name": "app", "private": true}')
    browser.npm(
        "install",
        "--offline",
        "--legacy-peer-deps",
        "--no-audit",
        "--no-fund",
        str(package),
        folder=app,
    )
    there = app / "node_modules" / "doorbell"
    found = {
        f"package/{path.relative_to(there).as_posix()}": path.read_bytes()
        for path in there.rglob("*")
        if path.is_file()
    }
    assert found == members(package)


APP = """\
import { MainModel, OddOneModel, release, env, type Value } from "doorbell";

env.wasm.numThreads = 1;
const labels: readonly string[] = MainModel.labels;
const image: Value<Float32Array> = { data: new Float32Array(96), dims: [1, 3, 4, 8] };

export async function ask(): Promise<number> {
  const model: MainModel = await MainModel.create({ model: new Uint8Array(8) });
  const { class_ } = await model.run({ image });
  const pixels = new ImageData(4, 4);
  await model.run({ image: MainModel.prepare.image(pixels) });
  // @ts-expect-error: pixels have a size
  MainModel.prepare.image({ data: pixels.data });
  // @ts-expect-error: its size is open, so that an array alone does not say what it is
  await model.run({ image: new Float32Array(96) });
  // @ts-expect-error: of another type
  await model.run({ image: { data: new Float64Array(96), dims: [1, 3, 4, 8] } });
  // @ts-expect-error: an input is missing
  await model.run({});
  // @ts-expect-error: no such input
  await model.run({ image, other: image });
  // @ts-expect-error: it has no state
  model.sequence();
  // @ts-expect-error: only create() makes one
  new OddOneModel();
  await model.release();
  return class_.data[0] + release.counter + labels.length;
}
"""

STATE = """\
import { MainModel } from "speech";

export async function hear(sound: Float32Array): Promise<Float32Array> {
  const model = await MainModel.create();
  const sequence = model.sequence();
  await sequence.run({ sound });
  // @ts-expect-error: the state is carried
  await sequence.run({ sound, memory: sound });
  sequence.reset();
  const half: Uint16Array | Float16Array = (await model.run({ sound, memory: sound })).half.data;
  return (await model.run({ sound, memory: { data: sound, dims: [1, 4] } })).next.data;
}
"""


def spoken() -> ReleaseTarget:
    """Return a target whose model has a state, and outputs of other types."""
    model = replace(
        web_target().models[0],
        inputs=(
            Tensor(name="sound", dtype="float32", shape=(1, 4)),
            Tensor(name="memory", dtype="float32", shape=(1, 4), state="next"),
        ),
        outputs=(
            Tensor(name="next", dtype="float32", shape=(1, 4)),
            Tensor(name="half", dtype="float16", shape=(1, 4)),
        ),
    )
    return web_target(models=(model,))


def odd() -> ReleaseTarget:
    """Return a target with names that try to leave where they stand."""
    ports = tuple(Tensor(name=name, dtype="int64", shape=(name, 3)) for name in ODD_WORDS)
    model = replace(web_target().models[0], inputs=ports, outputs=ports, candidate="*/ float")
    return web_target(models=(model,))


def test_the_compiler_of_typescript_takes_the_types_and_refuses_wrong_uses(package, tmp_path):
    modules = tmp_path / "node_modules"
    modules.mkdir()
    for name in ("onnxruntime-web", "onnxruntime-common"):
        (modules / name).symlink_to(browser.installed() / name)
    unpacked(package, tmp_path).rename(modules / "doorbell")
    speech = write(tmp_path / "speech", spoken(), name="speech")
    unpacked(speech, tmp_path).rename(modules / "speech")
    strange = write(tmp_path / "odd", odd(), name="odd", made_by="x */ y")
    unpacked(strange, tmp_path).rename(modules / "odd")
    (tmp_path / "app.ts").write_text(APP)
    (tmp_path / "state.ts").write_text(STATE)
    (tmp_path / "odd.ts").write_text('export { MainModel } from "odd";\n')
    settings = {
        "strict": True,
        "noEmit": True,
        "module": "esnext",
        "moduleResolution": "bundler",
        "target": "es2022",
        "lib": ["esnext", "dom"],
        "checkJs": True,
        "types": [],
    }
    ours = [f"node_modules/doorbell/{name}.js" for name in ("runtime", "pixels")]
    files = ["app.ts", "state.ts", "odd.ts", *ours]
    (tmp_path / "tsconfig.json").write_text(
        json.dumps({"compilerOptions": settings, "files": files})
    )
    compiler = browser.installed() / "typescript" / "bin" / "tsc"
    node = browser.require("node", "Node.js")
    done = subprocess.run(
        [node, str(compiler), "-p", "."], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")
    subprocess.run([node, "--check", str(modules / "odd" / "index.js")], check=True)


def unheld() -> ReleaseTarget:
    """Return a target with a type that JavaScript does not have."""
    ports = (Tensor(name="x", dtype="bfloat16", shape=(1,)),)
    return web_target(models=(replace(web_target().models[0], inputs=ports),))


@pytest.mark.parametrize(
    ("change", "targets", "words"),
    [
        ({"version": "1.2"}, [web_target()], "no version"),
        ({"version": "1.02.0"}, [web_target()], "no version"),
        ({"name": "Doorbell"}, [web_target()], "no package called"),
        ({"name": "node_modules"}, [web_target()], "no package called"),
        ({}, [unheld()], "bfloat16"),
        ({}, [web_target(), web_target(target="web2/ort")], "several"),
    ],
)
def test_what_npm_cannot_hold_is_refused(change, targets, words, tmp_path):
    with pytest.raises(UsageError, match=words) as caught:
        write(tmp_path / "release", *targets, **change)
    assert caught.value.diagnostics[0].code == "E760"


def test_only_targets_of_browsers_suit(tmp_path):
    bundle = packed.write(tmp_path)
    with open_bundle(bundle, packed.TRUSTED) as opened:
        assert FORMAT.suits(opened.release) == ()
    assert _range(">=1.17,<2") == ">=1.17 <2"


@pytest.fixture(scope="module")
def page(package, tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    unpacked(package, folder)
    with browser.browser(folder) as found:
        found.folder = folder
        yield found


ASK = """\
const { MainModel, OddOneModel } = await import("/served/package/index.js");
const kind = given.odd ? OddOneModel : MainModel;
const model = await kind.create({ session: { logSeverityLevel: 3 } });
const image = { data: new Float32Array(given.image), dims: given.dims };
const outputs = await model.run({ [given.odd ? "inPut0" : "image"]: image });
await model.release();
const { data, dims } = outputs.class_;
return { data: [...data], dims };
"""


@pytest.mark.parametrize("odd", [False, True])
@pytest.mark.parametrize("rows", [4, 16])
def test_the_browser_gives_what_the_model_gives(page, rows, odd):
    image = np.random.Generator(np.random.PCG64(rows)).normal(size=(1, 3, rows, 8))
    image = image.astype(np.float32)
    given = {"image": image.ravel().tolist(), "dims": list(image.shape), "odd": odd}
    answer = page.run(ASK, given)
    assert answer["dims"] == [1, 2]
    np.testing.assert_allclose(answer["data"], packed.expected(image).ravel(), rtol=0, atol=1e-6)


def test_wrong_inputs_are_refused_by_name(page):
    wrong = {
        "{}": "TypeError: the input image is missing",
        "{image: new Float32Array(96)}": "TypeError: the input image has no fixed shape: give "
        "{ data, dims } with [1, 3, 4..16, 8]",
        "{image: {data: new Float32Array(72), dims: [1, 3, 3, 8]}}": "RangeError: the input image "
        "has the dims [1, 3, 3, 8], not [1, 3, 4..16, 8]: axis 2",
        "{image: {data: new Float32Array(96), dims: [1, 3, 5, 8]}}": "RangeError: the input image "
        "has 96 elements; [1, 3, 5, 8] has 120",
        "{image: {data: new Float32Array(96), dims: 96}}": "RangeError: the input image has the "
        "dims 96, not [1, 3, 4..16, 8]",
        "{image: {data: [1], dims: [1]}}": "TypeError: the input image must be a Float32Array or "
        "hold one as data",
        "{toString: 1}": "TypeError: there is no input toString; there are: image",
    }
    for inputs, words in wrong.items():
        with pytest.raises(browser.PageError) as caught:
            page.run(
                'const { MainModel } = await import("/served/package/index.js");'
                f"return (await MainModel.create()).run({inputs});"
            )
        assert str(caught.value) == words


def test_a_model_that_is_not_the_released_one_is_not_opened(page):
    model = page.folder / "package" / "release" / "web" / "ort" / "main" / "model.ort"
    content = bytearray(model.read_bytes())
    content[-1] ^= 1
    (page.folder / "other.ort").write_bytes(content)
    create = 'return (await import("/served/package/index.js")).MainModel.create(given)'
    with pytest.raises(browser.PageError, match="not the model that was released: SHA-256"):
        page.run(create, {"model": "/served/other.ort"})
    with pytest.raises(browser.PageError, match="status 404"):
        page.run(create, {"model": "/served/absent.ort"})


REFUSE = """\
const { MainModel } = await import("/served/package/index.js");
const told = [];
for (const text of given) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  told.push(await MainModel.create({ model: bytes }).then(() => "taken", (error) => error.message));
}
return told;
"""


def test_two_hundred_changes_of_the_model_are_refused(page):
    """Turned bits, cuts, insertions, another model of the package: all before it is opened."""
    folder = page.folder / "package/release/web/ort"
    good = (folder / "main/model.ort").read_bytes()
    random = Random(11)
    changed = [b"", (folder / "odd-one/model.ort").read_bytes()]
    while len(changed) < 200:
        at = random.randrange(len(good))
        changed += [
            good[:at] + bytes([good[at] ^ 1 << random.randrange(8)]) + good[at + 1 :],
            good[:at],
            good[:at] + random.randbytes(random.randrange(1, 9)) + good[at:],
        ]
    assert good not in changed
    told = page.run(REFUSE, [base64.b64encode(content).decode() for content in [*changed, good]])
    assert told.pop() == "taken"
    assert {text.partition(":")[0] for text in told} == {"this is not the model that was released"}


def ort_of(model: onnx.ModelProto, goal: Path) -> str:
    """Write a model in the ORT format and return its SHA-256."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(goal)
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return hashlib.sha256(goal.read_bytes()).hexdigest()


def model_of(nodes, inputs, outputs) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "g", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def test_a_sequence_carries_the_state_and_begins_again(page):
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 2]) for n in ("x", "h", "n")]
    nodes = [helper.make_node("Add", ["x", "h"], ["n"])]
    digest = ort_of(model_of(nodes, values[:2], values[2:]), page.folder / "sum.ort")
    port = {"type": "float32", "shape": [1, 2]}
    spec = {
        "file": "/served/sum.ort",
        "sha256": digest,
        "config": {},
        "inputs": {"x": {"name": "x", **port}, "h": {"name": "h", "state": "next", **port}},
        "outputs": {"next": {"name": "n", **port}},
    }
    code = """
        const { Model, open } = await import("/served/package/runtime.js");
        const sequence = new Model(await open(given), given).sequence();
        const told = [];
        for (const step of [1, 2, 3]) {
          if (step === 3) sequence.reset();
          told.push([...(await sequence.run({ x: Float32Array.of(step, 10 * step) })).next.data]);
        }
        return told;
    """
    assert page.run(code, spec) == [[1, 10], [3, 30], [3, 30]]


def test_settings_of_the_release_reach_the_session(page):
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    nodes = [helper.make_node("Neg", ["x"], ["y"])]
    digest = ort_of(model_of(nodes, [value], [out]), page.folder / "neg.ort")
    spec = {"file": "/served/neg.ort", "sha256": digest, "inputs": {}, "outputs": {}}
    code = """
        const { open } = await import("/served/package/runtime.js");
        return (await open(given)).inputNames;
    """
    assert page.run(code, {**spec, "config": {}}) == ["x"]
    with pytest.raises(browser.PageError, match="protobuf"):
        page.run(code, {**spec, "config": {"session.load_model_format": "ONNX"}})


TYPES = {
    "float32": (TensorProto.FLOAT, "Float32Array.of(1.5, -2)"),
    "float64": (TensorProto.DOUBLE, "Float64Array.of(1.5, 2e300)"),
    "float16": (TensorProto.FLOAT16, "new (globalThis.Float16Array ?? Uint16Array)([1, 2])"),
    "int8": (TensorProto.INT8, "Int8Array.of(-128, 127)"),
    "uint8": (TensorProto.UINT8, "Uint8Array.of(0, 255)"),
    "int16": (TensorProto.INT16, "Int16Array.of(-32768, 1)"),
    "uint16": (TensorProto.UINT16, "Uint16Array.of(65535, 1)"),
    "int32": (TensorProto.INT32, "Int32Array.of(-2147483648, 1)"),
    "uint32": (TensorProto.UINT32, "Uint32Array.of(4294967295, 1)"),
    "int64": (TensorProto.INT64, "BigInt64Array.of(-9007199254740993n, 1n)"),
    "uint64": (TensorProto.UINT64, "BigUint64Array.of(18446744073709551615n, 1n)"),
    "bool": (TensorProto.BOOL, "Uint8Array.of(0, 1)"),
    "string": (TensorProto.STRING, '["cat", "dög"]'),
}


def test_every_type_goes_in_and_comes_out(page):
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name in TYPES]
    inputs, outputs = (
        [helper.make_tensor_value_info(name + end, kind[0], [2]) for name, kind in TYPES.items()]
        for end in ("", "_out")
    )
    digest = ort_of(model_of(nodes, inputs, outputs), page.folder / "types.ort")
    spec = {
        "file": "/served/types.ort",
        "sha256": digest,
        "config": {},
        "inputs": {n: {"name": n, "type": n, "shape": ["n"]} for n in TYPES},
        "outputs": {n: {"name": f"{n}_out", "type": n, "shape": [2]} for n in TYPES},
    }
    values = ", ".join(f"{name}: {kind[1]}" for name, kind in TYPES.items())
    code = f"""
        const {{ Model, open }} = await import("/served/package/runtime.js");
        const model = new Model(await open(given), given);
        const values = {{ {values} }};
        const inputs = {{}};
        for (const name in values) inputs[name] = {{ data: values[name], dims: [2] }};
        const outputs = await model.run(inputs);
        const wrong = [];
        for (const name in values) {{
          const {{ data }} = outputs[name];
          const same = data.constructor === values[name].constructor && data.length === 2
            && values[name].every((value, at) => value === data[at]);
          if (!same) wrong.push(name);
        }}
        // A dim of one name has one size.
        inputs.bool = {{ data: Uint8Array.of(1), dims: [1] }};
        return [wrong, await model.run(inputs).catch((error) => error.message)];
    """
    wrong, refusal = page.run(code, spec)
    assert wrong == []
    assert "bool has the dims [1], not [n]" in refusal


def test_nothing_is_sent_anywhere(page):
    image = {"image": [0.0] * 96, "dims": [1, 3, 4, 8], "odd": False}
    page.run(ASK, image)
    assert page.run("return refused") == []
    own = ("/served/", "/node_modules/onnxruntime-web/dist/ort")
    others = {path for path in page.asked_for if not path.startswith(own)}
    assert others <= {"/", "/next", "/favicon.ico"}
    # And what is sent would be seen.
    told = page.run(
        'await fetch("https://collector.invalid/").catch(() => null);'
        "await new Promise((done) => setTimeout(done, 50)); return refused.splice(0)"
    )
    assert told == ["https://collector.invalid/"]
