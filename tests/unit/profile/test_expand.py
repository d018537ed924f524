"""The expanded form is exact, and light to read back."""

import json
import subprocess
import sys
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from edgedeploy.profile.expand import expand, profile_from_expanded, targets_from_expanded
from edgedeploy.profile.load import load_profile
from edgedeploy.profile.types import (
    AudioPreprocess,
    BenchSpec,
    DataRole,
    DecodeSpec,
    Delta,
    DimSpec,
    GateSpec,
    ImagePreprocess,
    InputSpec,
    MetricSpec,
    ModelSource,
    ModelSpec,
    PipelineSpec,
    Profile,
    QuantizeSpec,
    StatePair,
    TargetUse,
    TaskSpec,
)
from edgedeploy.target.library import TargetLibrary

NAMES = st.text("abcxyz019._-", min_size=1, max_size=6)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
# A shape entry that holds ".." is a range by the profile's own rule, never a name.
AXIS_NAMES = TEXTS.filter(lambda text: ".." not in text)
SIZES = st.integers(1, 4096)
REALS = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | REALS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
PARAMETERS = st.dictionaries(NAMES, JSON, max_size=2)
DIMS = st.one_of(
    st.builds(DimSpec, fixed=SIZES),
    st.builds(
        lambda low, steps, step: DimSpec(low=low, high=low + steps * step, step=step),
        SIZES,
        st.integers(1, 9),
        st.integers(1, 64),
    ),
    st.builds(
        lambda sizes: DimSpec(buckets=tuple(sorted(sizes))), st.sets(SIZES, min_size=2, max_size=4)
    ),
)
OPEN_DIMS = DIMS.filter(lambda dim: dim.fixed is None)
REAL_TUPLES = st.lists(REALS, max_size=3).map(tuple)
TEXT_TUPLES = st.lists(TEXTS, max_size=3).map(tuple)
IMAGES = st.builds(
    ImagePreprocess,
    height=SIZES,
    width=st.none() | SIZES,
    fit=st.sampled_from(["stretch", "letterbox", "pad", "crop"]),
    pad_value=st.integers(0, 255),
    resample=st.sampled_from(["bilinear", "nearest", "bicubic", "area"]),
    colour=st.sampled_from(["rgb", "bgr", "gray"]),
    layout=st.sampled_from(["nchw", "nhwc"]),
    scale=REALS,
    mean=REAL_TUPLES,
    std=REAL_TUPLES,
    bake=st.sampled_from([(), ("scale", "uint8")]),
)
AUDIO = st.builds(
    AudioPreprocess,
    rate_hz=SIZES,
    frame_samples=st.none() | SIZES,
    hop_samples=st.none() | SIZES,
)
SHAPES = st.lists(SIZES | AXIS_NAMES | OPEN_DIMS, max_size=4).map(tuple)


def inputs(name):
    return st.builds(
        InputSpec,
        name=st.just(name),
        shape=st.none() | SHAPES,
        image=st.none() | IMAGES,
        audio=st.none() | AUDIO,
        value=JSON,
    )


def roles(name):
    return st.builds(
        DataRole,
        name=st.just(name),
        source=st.none() | TEXTS,
        reader=st.sampled_from(["auto", "numpy", "images", "audio", "function"]),
        labels=st.none() | TEXTS,
        samples=st.none() | SIZES,
        parameters=PARAMETERS,
    )


def named(keys, build):
    """Return maps whose values carry their key as name."""
    return st.lists(keys, max_size=2, unique=True).flatmap(
        lambda names: st.fixed_dictionaries({name: build(name) for name in names})
    )


def models(name):
    return st.builds(
        ModelSpec,
        name=st.just(name),
        source=st.builds(
            ModelSource,
            path=TEXTS,
            distribution=st.none() | NAMES,
            version=st.none() | NAMES,
            sha256=st.none() | NAMES,
        ),
        licence=st.none() | TEXTS,
        inputs=named(TEXTS, inputs),
        outputs=TEXT_TUPLES,
        dims=st.dictionaries(TEXTS, DIMS, max_size=2),
        state=st.lists(st.builds(StatePair, input=TEXTS, output=TEXTS), max_size=2).map(tuple),
        data=named(st.sampled_from(["calibrate", "evaluate"]), roles),
        metric=st.none()
        | st.builds(MetricSpec, name=NAMES, output=st.none() | TEXTS, parameters=PARAMETERS),
        task=st.none() | st.builds(TaskSpec, name=NAMES, parameters=PARAMETERS),
        decode=st.none()
        | st.builds(DecodeSpec, name=NAMES, output=st.none() | TEXTS, parameters=PARAMETERS),
        allow_nonfinite=st.booleans(),
    )


USES = st.builds(
    TargetUse,
    target=st.sampled_from(["rpi5/ort", "intel-npu/openvino"]),
    quantize=st.builds(
        QuantizeSpec,
        mode=st.sampled_from(["auto", "none", "fp16", "w8a8"]),
        symmetric_activations=st.none() | st.booleans(),
        activation_dtype=st.sampled_from([None, "uint8", "int8"]),
        per_channel=st.none() | st.booleans(),
        keep_float=TEXT_TUPLES,
        keep_float_ops=TEXT_TUPLES,
    ),
    gates=st.builds(
        GateSpec,
        metric=st.none() | st.builds(Delta, amount=REALS, unit=st.sampled_from(["pt", "%", "abs"])),
        size_bytes=st.none() | SIZES,
        latency_ms=st.dictionaries(st.sampled_from(["p50", "p90", "p99"]), REALS),
        memory_bytes=st.none() | SIZES,
        energy_j=st.none() | st.floats(1e-6, 10),
        not_slower_than_float=st.booleans(),
        cosine=st.none() | REALS,
        worst_class=st.none() | st.builds(Delta, amount=REALS, unit=st.sampled_from(["pt", "abs"])),
    ),
    bench=st.builds(
        BenchSpec,
        mode=st.sampled_from(["off", "quick", "full"]),
        threads=SIZES,
        cpus=st.lists(st.integers(0, 7), max_size=3).map(tuple),
    ),
    options=PARAMETERS,
)
PROFILES = st.builds(
    Profile,
    name=NAMES,
    folder=st.just(Path("project")),
    file=st.just(Path("project/p.yaml")),
    models=named(NAMES, models),
    targets=st.lists(USES, max_size=2).map(tuple),
    version=st.none() | TEXTS,
    files=TEXT_TUPLES,
    pipeline=st.none()
    | st.builds(
        PipelineSpec,
        function=TEXTS,
        data=named(NAMES, roles),
        metric=st.builds(MetricSpec, name=TEXTS, output=st.none() | TEXTS, parameters=PARAMETERS),
    ),
)
TARGETS = {name: TargetLibrary().load(name) for name in ("rpi5/ort", "intel-npu/openvino")}


@given(PROFILES)
def test_reading_back_is_exact(profile):
    text = json.dumps(expand(profile, TARGETS), allow_nan=False)
    found = profile_from_expanded(json.loads(text), profile.folder, profile.file)
    assert found == profile


def test_targets_read_back():
    text = "edgedeploy: 1\nname: p\nmodel: {source: m.onnx}\ntargets: [rpi5/ort]\n"
    profile = load_text(text)
    data = json.loads(json.dumps(expand(profile, TARGETS)))
    assert targets_from_expanded(data) == {"rpi5/ort": TARGETS["rpi5/ort"]}
    assert targets_from_expanded(data)["rpi5/ort"].get("runtime.opset") == 20


def load_text(text, folder=None):
    import tempfile

    with tempfile.TemporaryDirectory() as made:
        path = Path(folder or made) / "p.yaml"
        path.write_text(text)
        return load_profile(path)


def test_no_path_of_this_machine_and_the_same_in_every_folder(tmp_path):
    text = (
        "edgedeploy: 1\nname: p\nmodel: {source: models/m.onnx}\ndata: {calibrate: d}\n"
        "files: [labels.txt]\ntargets: [rpi5/ort, intel-npu/openvino]\n"
    )
    first = json.dumps(expand(load_text(text), TARGETS))
    second = json.dumps(expand(load_text(text, tmp_path), TARGETS))
    assert first == second
    assert str(Path.cwd()) not in first
    assert str(tmp_path) not in first


def test_reading_back_needs_neither_yaml_nor_pydantic(tmp_path):
    text = "edgedeploy: 1\nname: p\nmodel: {source: m.onnx}\ntargets: [rpi5/ort]\n"
    path = tmp_path / "e.json"
    path.write_text(json.dumps(expand(load_text(text), TARGETS)))
    code = (
        "import json, sys, pathlib; from edgedeploy.profile.expand import *;"
        "data = json.loads(pathlib.Path(sys.argv[1]).read_text());"
        "p = profile_from_expanded(data, pathlib.Path('.'), pathlib.Path('p.yaml'));"
        "targets_from_expanded(data); assert p.name == 'p';"
        "found = {'yaml', 'pydantic', 'numpy', 'onnx', 'importlib.metadata'} & set(sys.modules);"
        "assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
