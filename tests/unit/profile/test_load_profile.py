"""Loading: short forms, defaults, overrides, --set, and what loading does not import."""

import subprocess
import sys
from pathlib import Path

import pytest

from edgedeploy.errors import ExitCode, ProfileError
from edgedeploy.profile.load import load_profile
from edgedeploy.profile.types import (
    AudioPreprocess,
    BenchSpec,
    DataRole,
    Delta,
    DimSpec,
    GateSpec,
    ImagePreprocess,
    MetricSpec,
    ModelSource,
    QuantizeSpec,
    StatePair,
)

HEAD = "edgedeploy: 1\nname: p\n"
SMALL = HEAD + "model: {source: m.onnx}\ntargets: [linux-x86-64/ort]\n"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("EDGEDEPLOY_TARGET_PATH", raising=False)


def load(text, *sets):
    Path("p.yaml").write_text(text)
    return load_profile(Path("p.yaml"), sets=sets)


def codes(text, *sets):
    with pytest.raises(ProfileError) as caught:
        load(text, *sets)
    assert caught.value.exit_code is ExitCode.USAGE
    return [item.code for item in caught.value.diagnostics]


def test_the_smallest_profile_has_all_defaults():
    profile = load(SMALL)
    assert profile.name == "p"
    assert list(profile.models) == ["main"]
    assert profile.models["main"].source == ModelSource(path="m.onnx")
    use = profile.targets[0]
    assert (use.quantize, use.gates, use.bench) == (QuantizeSpec(), GateSpec(), BenchSpec())
    assert use.quantize.mode == "auto"
    assert str(use.place) == "p.yaml:4:11"


def test_a_model_in_full():
    profile = load(
        HEAD
        + """
model:
  source: {package: rapidocr-onnxruntime==1.4.4, file: models/rec.onnx, sha256: "%s"}
  licence: Apache-2.0
  outputs: [y]
  dims: {N: 1, W: 320..960/32, H: [160, 320]}
  allow_nonfinite: true
  inputs:
    x:
      shape: [N, 3, 48, W]
      image:
        size: [48, keep]
        fit: pad
        scale: 1/255
        mean: 0.5
        std: [0.5, 0.25, 1/8]
        colour: bgr
    wav: {audio: {rate: 16000, frame: 512}}
    sr: {value: 16000, shape: []}
    r: {shape: [1..4, [8, 16]]}
  state: [{input: h, output: hn}]
targets: [linux-x86-64/ort]
"""
        % ("ab" * 32)
    )
    model = profile.models["main"]
    assert model.source == ModelSource(
        path="models/rec.onnx",
        distribution="rapidocr-onnxruntime",
        version="1.4.4",
        sha256="ab" * 32,
    )
    assert (model.licence, model.outputs, model.allow_nonfinite) == ("Apache-2.0", ("y",), True)
    assert model.dims == {
        "N": DimSpec(fixed=1),
        "W": DimSpec(low=320, high=960, step=32),
        "H": DimSpec(buckets=(160, 320)),
    }
    assert model.inputs["x"].shape == ("N", 3, 48, "W")
    assert model.inputs["x"].image == ImagePreprocess(
        height=48,
        width=None,
        fit="pad",
        scale=1 / 255,
        mean=(0.5,),
        std=(0.5, 0.25, 0.125),
        colour="bgr",
    )
    assert model.inputs["wav"].audio == AudioPreprocess(
        rate_hz=16000, frame_samples=512, hop_samples=512
    )
    assert (model.inputs["sr"].value, model.inputs["sr"].shape) == (16000, ())
    assert model.inputs["r"].shape == (DimSpec(low=1, high=4), DimSpec(buckets=(8, 16)))
    assert model.state == (StatePair(input="h", output="hn"),)


def test_defaults_reach_models_and_their_own_replace_them():
    profile = load(
        HEAD
        + """
data:
  calibrate: images/a
  evaluate: {source: images/b, labels: b.csv, samples: 100}
metric: {name: topk, parameters: {k: 5}}
models:
  one: {source: one.onnx}
  two:
    source: two.onnx
    data: {evaluate: "d.py:pairs"}
    metric: f1
targets: [linux-x86-64/ort]
"""
    )
    one, two = profile.models["one"], profile.models["two"]
    assert one.data == {
        "calibrate": DataRole(name="calibrate", source="images/a"),
        "evaluate": DataRole(name="evaluate", source="images/b", labels="b.csv", samples=100),
    }
    assert one.metric == MetricSpec(name="topk", parameters={"k": 5})
    assert two.data["calibrate"] == one.data["calibrate"]
    assert two.data["evaluate"] == DataRole(name="evaluate", source="d.py:pairs")
    assert two.metric == MetricSpec(name="f1")


def test_overrides_join_key_by_key():
    profile = load(
        HEAD
        + """
model: {source: m.onnx}
quantize: {mode: w8a8, per_channel: true, keep_float: [a, b]}
gates: {metric: -1 pt, size: 4 MiB, latency: {p50: 20 ms, p90: 30 ms}}
bench: {mode: full, threads: 2}
targets:
  linux-x86-64/ort:
  rpi5/ort:
    quantize: fp16
    gates: {metric: null, latency: {p50: 0.1 s}, not_slower_than_float: false, energy: 5 mJ}
    bench: {mode: quick, cpus: [4, 5]}
    options: {optimization_style: runtime}
  rpi4/ort: {quantize: {keep_float: [c]}}
"""
    )
    plain, fast, kept = profile.targets
    assert plain.gates == GateSpec(
        metric=Delta(amount=-1.0, unit="pt"),
        size_bytes=4 << 20,
        latency_ms={"p50": 20.0, "p90": 30.0},
    )
    assert fast.quantize == QuantizeSpec(mode="fp16", per_channel=True, keep_float=("a", "b"))
    assert fast.gates == GateSpec(
        size_bytes=4 << 20,
        latency_ms={"p50": 100.0, "p90": 30.0},
        not_slower_than_float=False,
        energy_j=0.005,
    )
    assert fast.bench == BenchSpec(mode="quick", threads=2, cpus=(4, 5))
    assert fast.options == {"optimization_style": "runtime"}
    assert kept.quantize == QuantizeSpec(mode="w8a8", per_channel=True, keep_float=("c",))


def test_sets_change_what_is_read():
    profile = load(
        SMALL,
        "bench=quick",
        "gates.size=4 MB",
        "gates.latency={p50: 20 ms}",
        'model.inputs."in.1".shape=[1, 2]',
        "targets.0=rpi5/ort",
        "version='1.10'",
    )
    use = profile.targets[0]
    assert (use.target, use.bench.mode, use.gates.size_bytes) == ("rpi5/ort", "quick", 4_000_000)
    assert use.gates.latency_ms == {"p50": 20.0}
    assert profile.models["main"].inputs["in.1"].shape == (1, 2)
    assert profile.version == "1.10"
    assert load(SMALL, "targets={rpi4/ort: }").targets[0].target == "rpi4/ort"


def test_a_set_replaces_the_marks_of_what_it_replaces():
    text = SMALL + "gates:\n  latency: {p50: 20 ms}\n"
    with pytest.raises(ProfileError) as caught:
        load(text, "gates.latency={p50: 5}")
    found = caught.value.diagnostics[0]
    assert (found.code, str(found.place)) == ("E109", "--set:1:21")
    assert found.snippet == "gates.latency={p50: 5}"


def test_all_kinds_of_fault_at_once_in_the_order_of_the_file():
    with pytest.raises(ProfileError) as caught:
        load(
            "edgedeploy: 1\nname: p\nversion: 1.0\nmodel: {source: /m.onnx, dims: {N: 0}, "
            "inputs: {x: {shape: [M]}}}\nbenhc: quick\ntargets: [rpi9/ort]\n"
        )
    found = caught.value.diagnostics
    assert [item.code for item in found] == ["E108", "E146", "E134", "E135", "E104", "E139"]
    places = [(item.place.line, item.place.column) for item in found]
    assert places == sorted(places)


def test_a_role_without_source_is_left_to_the_data_file():
    profile = load(SMALL + "data: {calibrate: {samples: 8}, evaluate: {}}\n")
    assert profile.models["main"].data["calibrate"].source is None


def test_the_work_is_bounded_for_hostile_but_legal_yaml():
    dims = ", ".join(f"d{n}: 1" for n in range(5000))
    axes = ", ".join(f"e{n}" for n in range(5000))
    many = (
        HEAD + f"model: {{source: m.onnx, dims: {{{dims}}}, inputs: {{x: {{shape: [{axes}]}}}}}}\n"
    )
    assert len(codes(many + "targets: [linux-x86-64/ort]\n")) == 100
    targets = ", ".join(f"b{n}/ort" for n in range(5000))
    assert len(codes(HEAD + f"model: {{source: m.onnx}}\ntargets: [{targets}]\n")) == 100
    keys = "".join(f"k{n}: 1\n" for n in range(5000))
    assert codes(SMALL + keys) == ["E104"] * 100 + ["E122"]


@pytest.mark.parametrize("key", ["$(id)", "a;b", "-rf", "x\\ny", "ключ"])
def test_odd_names_are_refused_or_kept_as_text(key):
    with pytest.raises(ProfileError):
        load(f'edgedeploy: 1\nname: "{key}"\nmodel: {{source: m}}\ntargets: [linux-x86-64/ort]\n')
    profile = load(SMALL, f'model.inputs={{"{key}": {{shape: [1]}}}}')
    assert [name.replace("\n", "\\n") for name in profile.models["main"].inputs] == [key]


def test_loading_imports_nothing_heavy():
    Path("p.yaml").write_text(SMALL)
    code = (
        "import sys, pathlib; from edgedeploy.profile.load import load_profile;"
        "assert 'pydantic' not in sys.modules;"
        "load_profile(pathlib.Path('p.yaml'));"
        "heavy = {'onnx', 'numpy', 'onnxruntime', 'openvino', 'coremltools', 'paramiko'};"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
