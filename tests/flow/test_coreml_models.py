"""Real models as Core ML packages: float parity, float16, and the quantization engine's forms.

What ONNX Runtime says without optimisation is the reference. Quantized models are compared with it
by signal to noise: where a value lies at the boundary of two integers the order of additions
decides, so that a last bit of a scale changes its own outputs as much. ``python -m
tests.coreml.models`` prints the figures of all models.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgedeploy.backends.apple.runner import CoreMlRunner
from edgedeploy.mil.interpreter import operations
from edgedeploy.mil.program import Operation, Ref
from tests.coreml.models import (
    Difference,
    Package,
    Reference,
    difference,
    fed,
    normal_form,
    nudged,
    quantized_form,
    refined,
    size_of,
)

pytestmark = pytest.mark.slow

SAMPLE = ("silero", "magika", "pnet", "rnet")
"""What `make test` builds; tests/soak builds the others."""


def compared(name: str, model: Path, package: Path | Package) -> Difference:
    """Return how far a package is from its ONNX model."""
    given = fed(name, 3)
    runner = CoreMlRunner(package) if isinstance(package, Path) else package
    wanted = [Reference(model).run(item) for item in given]
    return difference(wanted, [runner.run(item) for item in given])


@pytest.mark.parametrize("name", SAMPLE)
def test_a_model_and_its_quantized_form(name: str, tmp_path: Path) -> None:
    """The float package, the float16 one, and the int8 one that comes from our own quantizer."""
    source = normal_form(name, tmp_path)
    assert compared(name, source, Package(source, tmp_path / "full")).largest <= 1e-4
    refined(source, tmp_path / "half", fed(name, 2))
    assert compared(name, source, tmp_path / "half").sqnr_db > 40
    integers = quantized_form(name, source, tmp_path)
    package = Package(integers, tmp_path / "integers")
    agrees_with_onnx(name, source, integers, package, tmp_path)
    maps_one_to_one(integers, package)
    refined(integers, tmp_path / "shipped", fed(name, 2))
    if source.stat().st_size > 100_000:  # else names are the larger part
        assert size_of(tmp_path / "shipped") < 0.4 * source.stat().st_size


def agrees_with_onnx(
    name: str, source: Path, integers: Path, package: Package, place: Path
) -> None:
    """A quantized package differs from ONNX Runtime by what last bits decide, and no more.

    That is a hundredth of what quantization costs (20 dB), or what the runtime differs from itself
    with other last bits.
    """
    near = compared(name, integers, package).sqnr_db
    given = fed(name, 3)
    rounded = [Reference(integers).run(item) for item in given]
    other = Reference(nudged(integers, place / "nudged"))
    itself = difference(rounded, [other.run(item) for item in given]).sqnr_db
    exact = [Reference(source).run(item) for item in given]
    cost = difference(exact, rounded).sqnr_db
    assert near > min(itself - 6, cost + 20)
    # Few samples: where an early character flips, the cost of either differs by some dB.
    assert difference(exact, [package.run(item) for item in given]).sqnr_db > cost - 6


def maps_one_to_one(integers: Path, package: Package) -> None:
    """Every pair of the model is one of the package, with its scale; weights are all integers."""
    model = onnx.load(integers)
    constants = {item.name: onnx.numpy_helper.to_array(item) for item in model.graph.initializer}
    scales = Counter(
        float(constants[node.input[1]])
        for node in model.graph.node
        if node.op_type == "QuantizeLinear"
    )
    body = list(operations(package.program.body))
    known = {item.outputs[0].name: item.attributes["val"] for item in body if item.kind == "const"}

    def scale(item: Operation) -> float:
        (given,) = item.inputs["scale"]
        return float(known[given.name] if isinstance(given, Ref) else given)

    assert Counter(scale(item) for item in body if item.kind == "quantize") == scales
    pairs = [item for item in body if item.kind == "dequantize" and not item.inputs.get("axis")]
    assert Counter(map(scale, pairs)) == scales
    weights = sum(
        array.ndim > 1 and array.dtype == np.int8 and name in _weights(model)
        for name, array in constants.items()
    )
    assert sum(item.kind.startswith("constexpr_") for item in body) >= weights > 0


def _weights(model: onnx.ModelProto) -> set[str]:
    return {node.input[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}


@pytest.mark.parametrize("name", ["magika"])
@pytest.mark.parametrize("mode", ["w8", "w4"])
def test_weight_only_forms_shrink_the_package(name: str, mode: str, tmp_path: Path) -> None:
    source = normal_form(name, tmp_path)
    integers = quantized_form(name, source, tmp_path, mode=mode)
    package = Package(integers, tmp_path / "package", ios=18)
    assert compared(name, integers, package).largest < (1e-4 if mode == "w8" else 1e-3)
    assert package.size < {"w8": 0.35, "w4": 0.35}[mode] * source.stat().st_size


@pytest.mark.parametrize("name", ["cls", "rec"])
def test_one_package_takes_a_range_of_widths(name: str, tmp_path: Path) -> None:
    from tests.coreml.models import flow_samples

    source = normal_form(name, tmp_path, dims={"x": (1, 3, 48, "W")})
    package = Package(source, tmp_path / "range", ranges={"W": (32, 320)})
    exact = Reference(source)
    for width in (96, 192, 320):
        ((given, *_),) = flow_samples.images("x", 48, width, 5, count=1)
        found = difference([exact.run(given)], [package.run(given)])
        assert found.largest <= 1e-4, width
