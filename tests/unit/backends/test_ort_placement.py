"""What the providers take: against the runtime's own registry, partitioner and refusals."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from backend_models import SIZES, value
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgedeploy.backends import load
from edgedeploy.backends.ortmobile.graph import read_graph
from edgedeploy.backends.ortmobile.mobile import count_partitions

backend = load("ort")


@pytest.fixture(scope="module")
def fixed_model(real_model, tmp_path_factory):
    """The detector at one size: what NNAPI and Core ML need."""
    from onnxruntime.tools.onnx_model_utils import make_input_shape_fixed

    model = onnx.load(str(real_model("det")))
    make_input_shape_fixed(model.graph, "x", list(SIZES["det"]))
    path = tmp_path_factory.mktemp("fixed") / "model.onnx"
    onnx.save(model, str(path))
    return path


def by_provider(model):
    return {item.provider: item for item in backend.preflight(model, {}).providers}


@pytest.mark.parametrize("name", SIZES)
def test_the_cpu_takes_what_the_runtime_loads(name, real_model):
    """A session with this model exists (other tests run it), so no node may be refused."""
    placement = backend.preflight(real_model(name), {})
    cpu = placement.providers[0]
    assert cpu.provider == "CPUExecutionProvider"
    assert cpu.supported == len(cpu.nodes) > 0
    assert placement.diagnostics == ()


def test_quantized_and_half_models_are_taken_by_the_cpu(quantized_model, half_model):
    for model in (quantized_model, half_model):
        cpu = backend.preflight(model, {}).providers[0]
        assert cpu.supported == len(cpu.nodes)


class _Set:
    """Stands in for the runtime's operator list: supports the nodes in a set."""

    def __init__(self, names):
        self._names = names

    def is_op_supported(self, node):
        return node.name in self._names

    def get_caveats(self):
        return []


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_partitions_are_counted_as_the_runtimes_checker_counts(data, real_model_once):
    from onnxruntime.tools.mobile_helpers import usability_checker
    from onnxruntime.tools.onnx_model_utils import get_producer_consumer_maps

    facts, proto, makers, users = real_model_once(get_producer_consumer_maps)
    names = [node.name for node in facts.nodes]
    share = data.draw(st.floats(0, 1))
    seed = data.draw(st.integers(0, 2**32 - 1))
    chosen = {
        name
        for name, drawn in zip(names, np.random.default_rng(seed).random(len(names)), strict=True)
        if drawn < share
    }
    info = usability_checker._check_partitioning_for_graph(
        proto.graph, makers, users, _Set(chosen), set(), False, {}
    )
    assert info.num_supported_nodes == len(chosen)
    assert count_partitions(facts, chosen) == info.num_partitions


@pytest.fixture(scope="module")
def real_model_once(real_model):
    made = []

    def get(maps):
        if not made:
            proto = onnx.load(str(real_model("squeezenet")))
            made.append((read_graph(real_model("squeezenet")), proto, *maps(proto.graph)))
        return made[0]

    return get


def test_mobile_providers_need_fixed_shapes(real_model, fixed_model):
    dynamic, fixed = by_provider(real_model("det")), by_provider(fixed_model)
    for name in fixed:
        if not name.startswith("CPU"):
            assert dynamic[name].supported < fixed[name].supported, name
    program = dynamic["CoreMLExecutionProvider (MLProgram)"]
    assert any("is not fixed" in str(node.reason) for node in program.nodes)


CHECKERS = {
    "NnapiExecutionProvider": lambda checker, model: checker.check_nnapi_partitions(model, True),
    "CoreMLExecutionProvider (NeuralNetwork)": lambda checker, model: (
        checker.check_coreml_partitions(model, True, "coreml_supported_neuralnetwork_ops.md")
    ),
    "CoreMLExecutionProvider (MLProgram)": lambda checker, model: checker.check_coreml_partitions(
        model, True, "coreml_supported_mlprogram_ops.md"
    ),
}


@pytest.mark.parametrize("provider", CHECKERS)
def test_listed_providers_agree_with_the_shipped_checker(provider, fixed_model):
    """The runtime's checker looks at operators, shapes and ranks; ours at those and at more."""
    from onnxruntime.tools.mobile_helpers import usability_checker

    model = onnx.shape_inference.infer_shapes(onnx.load(str(fixed_model)), data_prop=True)
    info = CHECKERS[provider](usability_checker, model)
    found = by_provider(fixed_model)[provider]
    shared = ("does not have the operator", "is not fixed", "has a rank above")
    refused_by_more = sum(
        not node.supported and not any(reason in str(node.reason) for reason in shared)
        for node in found.nodes
    )
    assert 0 < found.supported < len(found.nodes)
    assert found.supported + refused_by_more == info.num_supported_nodes
    assert "of onnxruntime" in found.source


def conv(save, *, shape=(1, 2, 8, 8), constant=True, act=None, attributes=()):
    weight = numpy_helper.from_array(np.ones((2, 2, 3, 3), np.float32), "w")
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"], name="conv", **dict(attributes))]
    if act:
        nodes.append(helper.make_node(act, ["c"], ["y"], name="act"))
    last = "y" if act else "c"
    inputs = [value("x", shape)] + ([] if constant else [value("w", (2, 2, 3, 3))])
    return save(nodes, inputs, [value(last, None)], initializers=[weight] if constant else [])


@pytest.mark.parametrize(
    ("changes", "taken", "reason"),
    [
        ({}, True, None),
        ({"shape": ("N", 2, 8, 8)}, True, None),
        ({"shape": (1, 2, "H", 8)}, False, "axis 2 of its input has no fixed size"),
        ({"constant": False}, False, "input 1 (w) is not constant"),
    ],
)
def test_xnnpack_takes_a_convolution_under_its_conditions(changes, taken, reason, save):
    found = next(
        item
        for item in backend.preflight(conv(save, **changes), {}).providers
        if item.provider == "XnnpackExecutionProvider"
    )
    assert (found.nodes[0].supported, found.nodes[0].reason) == (taken, reason)


def test_xnnpack_takes_an_activation_with_its_convolution(save):
    for act, taken in (("Relu", True), ("Sigmoid", False)):
        placement = backend.preflight(conv(save, act=act), {})
        found = placement.providers[1]
        assert [node.supported for node in found.nodes] == [True, taken]


def test_nodes_in_bodies_are_named_with_their_place(save):
    body = helper.make_graph(
        [helper.make_node("Abs", ["x"], ["b"], name="inner")], "body", [], [value("b", (2,))]
    )
    model = save(
        [helper.make_node("If", ["c"], ["y"], name="outer", then_branch=body, else_branch=body)],
        [value("x", (2,)), value("c", (), TensorProto.BOOL)],
        [value("y", (2,))],
    )
    cpu, xnnpack = backend.preflight(model, {}).providers[:2]
    assert {node.node for node in cpu.nodes} == {"outer", "outer/inner"}
    assert {node.reason for node in xnnpack.nodes if node.node == "outer/inner"} == {
        "it is in the body of a control-flow node"
    }


def test_the_report_is_plain_data(fixed_model):
    import json

    data = json.loads(json.dumps(backend.preflight(fixed_model, {}).to_json()))
    for provider in data["providers"]:
        assert provider["supported"] + len(provider["unsupported"]) == provider["total"]
        assert all(item["reason"] for item in provider["unsupported"])
        assert provider["source"]
