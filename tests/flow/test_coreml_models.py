"""Real models as Core ML packages: float parity, float16, and the quantization engine's forms.

What ONNX Runtime says without optimisation is the reference. Quantized models are compared with it
piece by piece (:mod:`tests.coreml.teacher`): from end to end, where a value lies at the boundary of
two integers the order of additions decides, and the next layers carry it on. ``python -m
tests.coreml.models`` prints the figures of all models.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from edgedeploy.backends.apple.runner import CoreMlRunner
from tests.coreml import pairs
from tests.coreml.models import (
    Difference,
    Package,
    Reference,
    difference,
    fed,
    normal_form,
    quantized_form,
    refined,
    size_of,
)
from tests.coreml.teacher import NEAR, NEAR_IN, examined, taught

pytestmark = pytest.mark.slow

SAMPLE = ("silero", "magika", "pnet", "rnet")
"""What `make test` builds; tests/soak builds the others."""

LOSS_DB = 6
"""How much more a quantized package may lose from end to end than ONNX Runtime.

Twice the amplitude, over six samples: in a recogniser of text one character that flips is most of
the noise (4.3 dB measured; 0.2 dB in the other models).
"""


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
    assert pairs.of_package(package.program) == pairs.of_model(integers)
    refined(integers, tmp_path / "shipped", fed(name, 2))
    if source.stat().st_size > 100_000:  # else names are the larger part
        assert size_of(tmp_path / "shipped") < 0.4 * source.stat().st_size


def agrees_with_onnx(
    name: str, source: Path, integers: Path, package: Package, place: Path
) -> None:
    """A quantized package computes what ONNX Runtime does, piece by piece, and loses as little.

    From end to end single roundings go different ways, so that there only the loss is compared.
    """
    given = fed(name)
    for lesson in (
        taught(integers, place / "taught", given[:1]),
        examined(integers, package, place / "examined", given[:2]),
    ):
        print(f"\n{name}: {lesson}")
        assert not lesson.wrong(NEAR_IN.get(name, NEAR)), str(lesson)
    exact = [Reference(source).run(item) for item in given]
    other = difference(exact, [Reference(integers).run(item) for item in given])
    made = difference(exact, [package.run(item) for item in given])
    print(f"{name}: {other.sqnr_db:.1f} dB from float in ONNX Runtime, {made.sqnr_db:.1f} dB here")
    assert made.sqnr_db > other.sqnr_db - LOSS_DB


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
