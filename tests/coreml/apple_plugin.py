"""A pytest plugin under which coremltools' own tests are judged with our interpreter.

Those tests compare a converted model's predictions with expected values, on a Mac only: elsewhere
the comparison is left out. Here the comparison and the prediction come from us: the model is saved
as a package, read back by ``edgedeploy.mil.read`` and run by the interpreter. Nothing else of the
tests changes. Loaded with ``-p tests.coreml.apple_plugin`` by :mod:`tests.coreml.apple_tests`.
"""

from __future__ import annotations

import collections
import functools
import gc
import inspect
import json
import os
import platform
import random
import re
import sys
import tempfile
import types
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgedeploy.errors import BuildError
from edgedeploy.mil.interpreter import Interpreter, operations
from edgedeploy.mil.read import read_package

FP16_RTOL, FP16_ATOL = 1e-2, 2e-3
"""Tolerances for float16 programs: a hundred roundings, not the 5e-1 that Apple allows itself."""

CLASSES = 100
"""How many classes of tests the sample takes, of some 160."""

_records: list[dict[str, Any]] = []
_current: dict[str, Any] = {}


KNOWN = {
    # Apple's tests contradict one another on windows of an even number of channels.
    r"LocalResponseNorm.*(backend_smoke|size=2)": "even windows of channels are refused",
    # Core ML's result is not defined and must differ from the right one; ours is an error.
    r"invalid_indices.*validate_indices=False": "undefined in Core ML, an error here",
    r"TestCropResize::test_builder_to_backend_smoke": "a box outside of the documented interval",
    r"TestCropResize::test_builder_to_backend_ios1[67].*fp32": "expects 7.899 for 7.9",
    r"TestResample::test_builder_to_backend_smoke.*fp32": "counts the casts of float16 programs",
    r"test_random\.py": "random numbers are not computed",
    r"test_efficient_type_inference": "asserts how long something takes",
}
"""Tests that cannot pass, by a pattern of their ids, with the reason: they are not run."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--records", help="folder that gets a file of JSON lines per process")
    parser.addoption("--share", type=int, default=0, help="parametrizations per test; 0: all")
    parser.addoption("--sample", action="store_true", help="one test each of some classes")
    parser.addoption("--operation", action="append", default=[], help="only tests that name it")


def pytest_configure(config: pytest.Config) -> None:
    _stub_torch()
    # Some tests expect known failures of Core ML on Intel or Apple processors.
    platform.machine = lambda: "none"  # type: ignore[assignment]
    from coremltools import _deps
    from coremltools.converters.mil import testing_utils
    from coremltools.models import model, utils

    testing_utils.compare_backend = compare_backend
    if _deps._HAS_TORCH:
        from coremltools.converters.mil.frontend.torch.test import testing_utils as torch_utils

        torch_utils._IS_MACOS = True
    model.MLModel.predict = predict
    model.MLModel.make_state = lambda self: _machine(self)
    utils._macos_version = lambda: (99, 0)
    from tests.coreml import value_oracle

    value_oracle.install()


class _Missing(types.ModuleType):
    """Stands for torch where it is not installed: using it skips the test."""

    Tensor = type("Tensor", (), {})

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name == "manual_seed":
            return lambda seed: None
        pytest.skip("needs torch", allow_module_level=True)


def _stub_torch() -> None:
    import coremltools._deps as found

    if not found._HAS_TORCH:
        import builtins

        sys.modules["torch"] = builtins.torch = _Missing("torch")  # type: ignore[attr-defined]


def pytest_collection_modifyitems(items: list[pytest.Item], config: pytest.Config) -> None:
    """Keep the tests of some operations, and some parametrizations of each, drawn with a seed."""
    for item in items:
        for pattern, reason in KNOWN.items():
            if re.search(pattern, item.nodeid):
                item.add_marker(pytest.mark.skip(reason=f"known: {reason}"))
    wanted_names = config.getoption("--operation")
    if wanted_names:
        pattern = re.compile(rf"\b({'|'.join(map(re.escape, wanted_names))})\b")
        items[:] = [item for item in items if pattern.search(_source(item))]
    share = config.getoption("--share")
    if config.getoption("--sample"):
        kept = _one_per_class(items)
    elif share:
        kept = _drawn(items, share)
    else:
        return
    wanted = set(map(id, kept))
    config.hook.pytest_deselected(items=[item for item in items if id(item) not in wanted])
    items[:] = kept


def pytest_collection_finish() -> None:
    """Hide the thousands of tests from the collections of garbage after each conversion."""
    gc.freeze()


def _drawn(items: list[pytest.Item], share: int) -> list[pytest.Item]:
    groups: dict[str, list[pytest.Item]] = collections.defaultdict(list)
    for item in items:
        groups[item.nodeid.partition("[")[0]].append(item)
    kept: list[pytest.Item] = []
    for name, group in groups.items():
        # Drawn, not every n-th: parametrizations are a grid, whose period n may be.
        places = random.Random(name).sample(range(len(group)), min(share, len(group)))
        kept += [group[place] for place in sorted(places)]
    return kept


def _one_per_class(items: list[pytest.Item]) -> list[pytest.Item]:
    groups: dict[str, list[pytest.Item]] = collections.defaultdict(list)
    for item in items:
        taken = getattr(getattr(item, "callspec", None), "params", {})
        skipped = any(
            mark.args[0] if mark.name == "skipif" else True
            for mark in item.iter_markers()
            if mark.name in ("skip", "skipif")
        )
        if "backend" in taken and "compute_unit" in taken and not skipped:
            groups[item.nodeid.partition("[")[0].rpartition("::")[0]].append(item)
    chosen = random.Random(CLASSES).sample(sorted(groups), min(CLASSES, len(groups)))
    return [random.Random(name).choice(groups[name]) for name in chosen]


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Count a module that cannot be imported as one skipped test."""
    if report.outcome != "passed":
        said = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
        lines = [line for line in said.splitlines() if "Error" in line or "kipped" in line]
        reason = f"{Path(report.nodeid).name} not collected: {lines[-1] if lines else said}"
        _records.append(
            {"test": report.nodeid, "result": "skipped", "predicted": [], "reason": reason}
        )


@functools.cache
def _text(thing: Any) -> str:
    return inspect.getsource(thing)


def _source(item: Any) -> str:
    """Return the source of a test's class, or of the test, and its parameters."""
    return f"{_text(item.cls or item.function)} {item.name}"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Any:
    _current.clear()
    _current.update(test=item.nodeid.partition("ops/tests/")[2] or item.nodeid, predicted=[])
    # They draw from one generator; so that a test does not depend on those before it:
    np.random.seed(zlib.crc32(item.nodeid.encode()))
    yield


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    outcome = yield
    report = outcome.get_result()
    if call.when == "call" or (call.when == "setup" and report.outcome != "passed"):
        reason = "" if call.excinfo is None else str(call.excinfo.value)
        _records.append(
            {
                "test": _current["test"],
                "result": report.outcome,
                "predicted": _current["predicted"],
                "reason": reason[:2000],
            }
        )


def pytest_sessionfinish(session: pytest.Session) -> None:
    from tests.coreml import value_oracle

    folder = session.config.getoption("--records")
    if folder:
        with Path(folder, f"{os.getpid()}.jsonl").open("w", encoding="utf-8") as file:
            for record in (*_records, *value_oracle.records()):
                file.write(json.dumps(record) + "\n")


def _machine(model: Any) -> Any:
    if model.get_spec().WhichOneof("Type") != "mlProgram":
        pytest.skip("not an ML Program")
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder, "model.mlpackage")
        model.save(str(package))
        return Interpreter(read_package(package))


def predict(model: Any, data: Mapping[str, Any], state: Any = None) -> dict[str, np.ndarray]:
    """Stand for ``MLModel.predict``."""
    machine = state if state is not None else _machine(model)
    program = machine.program
    given = {}
    for item in program.inputs:
        if item.name in data:
            given[item.name] = _input(data[item.name], item.type.dtype)
    try:
        made = machine.run(given)
    except BuildError as error:
        # So it reads in Core ML, and some tests want to read it.
        raise RuntimeError(f"Unable to compute the prediction using ML Program: {error}") from error
    kinds = {item.kind for item in operations(program.body)} - {"const"}
    _current["predicted"].append(sorted(kinds))
    return {name: np.atleast_1d(value) for name, value in made.items()}


def _input(value: Any, dtype: str) -> np.ndarray:
    if hasattr(value, "getpixel"):
        array = np.asarray(value)
        array = array[None, None] if array.ndim == 2 else array.transpose(2, 0, 1)[None]
        return array.astype(dtype)
    # As Apple's tests feed it: everything is a float32 on its way in.
    return np.atleast_1d(np.asarray(value).astype(np.float32)).astype(dtype)


def compare_backend(
    mlmodel: Any,
    input_key_values: Mapping[str, Any],
    expected_outputs: Mapping[str, Any] | None,
    dtype: str = "fp32",
    atol: float = 1e-4,
    rtol: float = 1e-5,
    also_compare_shapes: bool = True,
    state: Any = None,
    allow_mismatch_ratio: float = 0.0,
) -> None:
    """Stand for coremltools' function of this name, with its signature."""
    if expected_outputs is None:
        return
    machine = state if state is not None else _machine(mlmodel)
    made = predict(mlmodel, input_key_values, machine)
    # Where the test's own types are float16, so is the "float32" program.
    if "float16" in {
        getattr(kind.type, "dtype", "")
        for item in operations(machine.program.body)
        for kind in item.outputs
    }:
        dtype = "fp16"
    if dtype == "fp16":
        atol, rtol = max(atol, FP16_ATOL), max(rtol, FP16_RTOL)
    for name, value in expected_outputs.items():
        found = made[_name(name, made)]
        wanted = np.atleast_1d(np.asarray(value))
        _compare(name, found, wanted, atol, rtol, dtype, allow_mismatch_ratio)


def _name(name: str, made: Mapping[str, Any]) -> str:
    from coremltools.converters.mil.mil.passes.defs.preprocess import NameSanitizer

    return name if name in made else NameSanitizer._replace_invalid_char_with_underscore(name)


def _compare(
    name: str,
    found: np.ndarray,
    wanted: np.ndarray,
    atol: float,
    rtol: float,
    dtype: str,
    ratio: float,
) -> None:
    assert found.shape == wanted.shape, f"{name}: shape {found.shape}, not {wanted.shape}"
    if wanted.dtype.kind not in "biuf":
        assert (found == wanted).all()
        return
    a, b = found.astype(np.float64), wanted.astype(np.float64)
    finite = b[np.isfinite(b)]
    scale = max(float(np.abs(finite).max(initial=0.0)), 1.0)
    if dtype == "fp16":
        # A sum of terms of this size cannot be more exact in float16.
        atol = max(atol, FP16_ATOL * scale)
        b = np.where((np.abs(b) > 65504) & np.isinf(a), np.copysign(np.inf, b), b)
    close = np.isclose(a, b, rtol=rtol, atol=atol, equal_nan=True)
    with np.errstate(invalid="ignore"):
        gap = np.abs(a - b)
    worst = float(np.max(gap[np.isfinite(gap)], initial=0.0))
    missed = 1 - close.mean() if close.size else 0.0
    assert missed <= ratio, (
        f"{name}: {missed:.1%} differ, by up to {worst:.3g} of {scale:.3g};"
        f" {found.ravel()[:6]} not {wanted.ravel()[:6]}"
    )
