"""ONNX's node tests through Core ML: a sample of them, and that the count is an honest one."""

from __future__ import annotations

import random

import numpy as np
import pytest

from tests.coreml import nodes
from tests.coreml.harness import Converted
from tests.coreml.nodes import Result, difference, run
from tests.coreml.scope import cases, in_scope, listed, operator, ruled
from tests.coreml.table import not_passed

SAMPLE = 56
ATTEMPTED, SHARE = 900, 0.97
"""What the list in scope must hold at least, and how much of it must pass."""


def sample() -> list[str]:
    """Return one case each of some operators, the same in every run."""
    chance = random.Random(11)
    by_operator: dict[str, list[str]] = {}
    for name in listed():
        by_operator.setdefault(operator(cases()[name]), []).append(name)
    chosen = chance.sample(sorted(by_operator), SAMPLE)
    return sorted(chance.choice(by_operator[op]) for op in chosen)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_sample_does_what_the_page_says(part: int) -> None:
    told = not_passed()
    results = [run(name) for name in sample()[part::4]]
    surprising = [item for item in results if item.outcome != told.get(item.name, "passed")]
    assert surprising == []


def test_page_has_enough_and_nothing_wrong() -> None:
    told, names = not_passed(), listed()
    assert len(names) >= ATTEMPTED
    assert set(told.values()) <= {"refused"}
    assert set(told) <= set(names)
    assert 1 - len(told) / len(names) >= SHARE


def test_list_is_what_the_rule_gives() -> None:
    assert listed() == ruled()


def test_scope_leaves_out_by_operator_and_type() -> None:
    left_out = {name for name, case in cases().items() if not in_scope(case)}
    assert {"test_adam", "test_equal_string", "test_cast_FLOAT_to_BFLOAT16"} <= left_out
    assert not {"test_add", "test_reduce_sum_empty_set", "test_nonzero_example"} & left_out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda y: y + 0.01, "60 of 60 elements differ"),
        (lambda y: y.astype(np.float64), "type float64"),
        (lambda y: y[None], r"shape [1, 3, 4, 5]"),
        (lambda y: np.where(np.arange(y.size).reshape(y.shape), y, np.nan), "1 of 60 elements"),
    ],
)
def test_wrong_result_is_called_wrong(monkeypatch, spoil, said) -> None:
    right = Converted.run

    def wrong(self: Converted, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {
            name: spoil(value).astype(value.dtype if said[0].isdigit() else spoil(value).dtype)
            for name, value in right(self, inputs).items()
        }

    monkeypatch.setattr(nodes.Converted, "run", wrong)
    result = run("test_sin")
    assert result.outcome == "wrong"
    assert said in result.reason


def test_integers_are_compared_exactly() -> None:
    big = np.array([16777217, 1], np.int64)
    assert difference(big, big) == ""
    assert difference(big, big - 1) == "2 elements differ"


def test_other_errors_are_no_refusals(monkeypatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise IndexError("inside")

    monkeypatch.setattr(nodes.Converted, "run", broken)
    assert run("test_sin") == Result("test_sin", "Sin", "failed", "IndexError: inside")
