"""Reading saved packages: what coremltools writes, and damage."""

import json
import shutil

import numpy as np
import pytest

from edgedeploy.errors import EdgedeployError
from edgedeploy.mil import blobs
from edgedeploy.mil.interpreter import Interpreter
from edgedeploy.mil.read import read_package
from edgedeploy.mil.rules import findings

WEIGHT = np.arange(64 * 64, dtype=np.float32).reshape(64, 64) / 4096


@pytest.fixture(scope="module")
def api():
    from edgedeploy.backends.apple import mil_api

    return mil_api


def saved(api, program, folder, **options):
    """Save a program of coremltools' builder; return the package."""
    options.setdefault("compute_precision", api.ct.precision.FLOAT32)
    path = folder / "m.mlpackage"
    with api.quiet():
        made = api.ct.convert(
            program,
            source="milinternal",
            minimum_deployment_target=options.pop("target", api.ct.target.iOS17),
            skip_model_load=True,
            **options,
        )
        made.save(str(path))
    return path


@pytest.fixture(scope="module")
def package(api, tmp_path_factory):
    mb = api.mb

    @mb.program(input_specs=[mb.TensorSpec((2, 64))], opset_version=api.ct.target.iOS17)
    def product(x):
        return mb.matmul(x=x, y=WEIGHT, name="y")

    return saved(api, product, tmp_path_factory.mktemp("product"))


@pytest.fixture
def copy(package, tmp_path):
    return shutil.copytree(package, tmp_path / "copy.mlpackage")


@pytest.mark.slow
def test_large_constants_come_from_the_weight_file(package):
    program = read_package(package)
    assert program.opset == "CoreML7"
    assert program.outputs == ("y",)
    x = np.ones((2, 64), np.float32)
    np.testing.assert_allclose(Interpreter(program).run({"x": x})["y"], x @ WEIGHT, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("Manifest.json", None),
        ("Manifest.json", lambda data: data[:-20]),
        ("Data/com.apple.CoreML/model.mlmodel", lambda data: data[:-7]),
        ("Data/com.apple.CoreML/weights/weight.bin", None),
        ("Data/com.apple.CoreML/weights/weight.bin", lambda data: data[:-64]),
        ("Data/com.apple.CoreML/weights/weight.bin", lambda data: bytes(len(data))),
    ],
)
def test_damage_is_told(copy, file, change):
    data = (copy / file).read_bytes()
    (copy / file).unlink()
    if change:
        (copy / file).write_bytes(change(data))
    with pytest.raises(EdgedeployError) as error:
        read_package(copy)
    assert [item.code for item in error.value.diagnostics] == ["E360"]


@pytest.mark.slow
def test_a_package_names_no_file_outside_itself(copy, tmp_path):
    manifest = json.loads((copy / "Manifest.json").read_text())
    item = manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]
    shutil.copy(copy / "Data" / item["path"], tmp_path / "other.mlmodel")
    item["path"] = "../../other.mlmodel"
    (copy / "Manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(EdgedeployError, match="lies outside"):
        read_package(copy)


@pytest.mark.slow
def test_loops_branches_and_lists_survive_the_trip(api, tmp_path):
    mb = api.mb

    @mb.program(
        input_specs=[mb.TensorSpec((3,)), mb.TensorSpec((1,))], opset_version=api.ct.target.iOS17
    )
    def control(x, sign):
        chosen = mb.cond(
            pred=mb.squeeze(x=mb.greater(x=sign, y=0.0)),
            _true_fn=lambda: mb.add(x=x, y=1.0),
            _false_fn=lambda: mb.mul(x=x, y=-2.0),
        )
        made = mb.make_list(init_length=1, dynamic_length=True, elem_shape=(3,))
        count, made = mb.while_loop(
            _cond=lambda i, ls: mb.less(x=i, y=4),
            _body=lambda i, ls: (
                mb.add(x=i, y=1),
                mb.list_write(ls=ls, index=i, value=mb.mul(x=chosen, y=mb.cast(x=i, dtype="fp32"))),
            ),
            loop_vars=(np.int32(0), made),
        )
        return mb.list_gather(ls=made, indices=[3, 1], name="rows"), mb.identity(x=count, name="n")

    machine = Interpreter(read_package(saved(api, control, tmp_path)))
    x = np.array([1, 2, 3], np.float32)
    for sign, base in ((1, x + 1), (-1, -2 * x)):
        found = machine.run({"x": x, "sign": np.array([sign], np.float32)})
        np.testing.assert_array_equal(found["rows"], [3 * base, base])
        assert found["n"] == 4


@pytest.mark.slow
def test_updates_of_states_survive_the_trip(api, tmp_path):
    mb, half = api.mb, api.types.fp16

    @mb.program(
        input_specs=[mb.TensorSpec((1, 2), dtype=half), mb.StateTensorSpec((3, 2), dtype=half)],
        opset_version=api.ct.target.iOS18,
    )
    def cache(x, rows):
        old = mb.read_state(input=rows)
        kept = mb.slice_by_index(x=old, begin=[1, 0], end=[3, 2])
        new = mb.concat(values=(kept, x), axis=0)
        return mb.identity(x=mb.coreml_update_state(state=rows, value=new), name="all")

    path = saved(api, cache, tmp_path, target=api.ct.target.iOS18, compute_precision=None)
    machine = Interpreter(read_package(path))
    for number in range(1, 5):
        found = machine.run({"x": np.full((1, 2), number, np.float16)})["all"]
    assert found.tolist() == [[2, 2], [3, 3], [4, 4]]


@pytest.mark.slow
def test_a_select_that_broadcasts_is_found_in_the_saved_package(api, tmp_path):
    mb = api.mb

    @mb.program(input_specs=[mb.TensorSpec((3, 4))], opset_version=api.ct.target.iOS17)
    def chooses(x):
        return mb.select(cond=mb.greater(x=x, y=1.0), a=x, b=2.0, name="y")

    program = read_package(saved(api, chooses, tmp_path))
    assert [(item.rule, item.subject) for item in findings(program)] == [("select-shapes", "y")]


@pytest.mark.slow
def test_open_sizes_without_a_range_are_found(api, tmp_path):
    """coremltools makes the range 1 to 2 of them, whatever the program was meant for."""
    mb = api.mb
    sizes = (1, api.get_new_symbol())

    @mb.program(input_specs=[mb.TensorSpec(sizes)], opset_version=api.ct.target.iOS17)
    def plain(x):
        return mb.relu(x=x, name="y")

    program = read_package(saved(api, plain, tmp_path))
    assert [(item.rule, item.subject) for item in findings(program)] == [("interface", "x")]


@pytest.mark.slow
def test_a_0_that_a_pass_left_with_another_input_is_found(api, tmp_path):
    """coremltools 9.0 joins the two reshapes and keeps the 0, which now refers to x.

    Counted from the last axis, as iOS17 does, it stands for 1 here either way; that is luck.
    """
    mb = api.mb

    @mb.program(input_specs=[mb.TensorSpec((40, 360))], opset_version=api.ct.target.iOS17)
    def twice(x):
        wide = mb.reshape(x=x, shape=[1, 40, 360])
        return mb.reshape(x=wide, shape=[0, 40, 3, 8, 15], name="y")

    program = read_package(saved(api, twice, tmp_path))
    assert [(item.rule, item.subject) for item in findings(program)] == [("zero-size", "y")]


@pytest.mark.parametrize("bits", range(1, 8))
@pytest.mark.parametrize("signed", [False, True])
def test_packed_integers_come_back(bits, signed):
    """Each integer takes the next bits of the stream, the lowest of a byte first."""
    low = -(1 << (bits - 1)) if signed else 0
    values = np.random.default_rng(bits).integers(low, low + (1 << bits), 37)
    stream = "".join(format(int(value) % (1 << bits), f"0{bits}b")[::-1] for value in values)
    stream += "0" * (-len(stream) % 8)
    data = bytes(int(stream[at : at + 8][::-1], 2) for at in range(0, len(stream), 8))
    found = blobs.unpack(data, bits, 37, signed=signed)
    assert found.tolist() == values.tolist()
    assert found.dtype == (np.int8 if signed else np.uint8)


def test_too_few_packed_integers_are_an_error():
    with pytest.raises(ValueError, match="1 bytes for 3 values of 4 bits"):
        blobs.unpack(b"\x12", 4, 3, signed=False)
