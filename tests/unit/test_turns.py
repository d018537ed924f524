"""Running a pipeline in turns: the same answers as alone, in fewer runs of the models."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedeploy.data.pack import PackReader, PackWriter
from edgedeploy.errors import DataError, DeviceError
from edgedeploy.pipeline import Loaded, Model, Models, Pipeline, Runs
from edgedeploy.signature import Signature, TensorSpec
from edgedeploy.turns import run_in_turns

FUNCTION = """\
def read(inputs, models):
    value = inputs["x"]
    for number in range(int(inputs["calls"])):
        value = (models.first if number % 2 == 0 else models.second)(x=value)["y"]
    return {"value": value}
"""
INPUT = TensorSpec(name="x", dtype="float64", dims=(1,))
STATE = TensorSpec(name="s", dtype="float64", dims=(1,))
SIGNATURE = Signature(
    inputs=(INPUT, STATE), outputs=(INPUT.__class__(name="y", dtype="float64", dims=(1,)),)
)

Inputs = Mapping[str, np.ndarray]


def compute(name: str, inputs: Inputs) -> dict[str, np.ndarray]:
    """Return what a model computes: the state goes in, so order within a sequence tells."""
    grown = inputs["x"] * (2 if name == "first" else 3) + inputs["s"]
    return {"y": grown, "t": inputs["s"] + 1}


def make(load: Callable[[str], Runs]) -> Models:
    """Return two models with a state each."""
    zeros = {"s": np.zeros(1)}
    return Models(
        {
            name: Model(
                name,
                [
                    Loaded(
                        name=name,
                        runs=load(name),
                        signature=SIGNATURE,
                        state=[("s", "t")],
                        zeros=zeros,
                    )
                ],
            )
            for name in ("first", "second")
        }
    )


class Alone:
    """Computes a model at once."""

    def __init__(self, name: str) -> None:
        self._name = name

    def run(self, inputs: Inputs) -> dict[str, np.ndarray]:
        return compute(self._name, inputs)


@pytest.fixture(scope="module")
def function(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    folder = tmp_path_factory.mktemp("turns")
    (folder / "reading.py").write_text(FUNCTION)
    return Pipeline("reading.py:read", folder)


def pack(folder: Path, samples: Sequence[tuple[int, str | None]]) -> PackReader:
    """Write samples of so many calls and a sequence each."""
    folder.mkdir()
    with PackWriter(folder) as writer:
        for number, (calls, sequence) in enumerate(samples):
            inputs = {"x": np.full(1, number + 1.0), "calls": np.asarray(calls)}
            writer.add(str(number), inputs, sequence=sequence)
    return PackReader(folder)


@given(
    st.lists(st.tuples(st.integers(0, 5), st.none() | st.just("s")), min_size=1, max_size=80).map(
        # Samples of a sequence stand in a row.
        lambda items: sorted(items, key=lambda item: item[1] or "")
    )
)
def test_in_turns_as_alone(
    function: Pipeline,
    tmp_path_factory: pytest.TempPathFactory,
    samples: list[tuple[int, str | None]],
) -> None:
    """Every sample has the answers that it has alone; one run answers all calls of a turn."""
    reader = pack(tmp_path_factory.mktemp("pack") / "samples", samples)
    runs: list[tuple[str, int]] = []
    threads = threading.active_count()

    def answer(name: str, calls: Sequence[Inputs]) -> list[dict[str, np.ndarray]]:
        runs.append((name, len(calls)))
        return [compute(name, inputs) for inputs in calls]

    found = list(run_in_turns(function, reader, make, answer))
    alone = make(Alone)
    wanted = [
        function.run(sample.tensors(), alone, sample.sequence or sample.id) for sample in reader
    ]
    assert [sample.id for sample, _ in found] == [sample.id for sample in reader]
    assert [out["value"] for _, out in found] == [out["value"] for out in wanted]
    assert sum(count for _, count in runs) == sum(calls for calls, _ in samples)
    lone = [calls for calls, sequence in samples if sequence is None]
    if len(lone) == len(samples) <= 64:
        assert len(runs) == max(lone)
    assert threading.active_count() == threads


def test_what_answers_may_fail(function: Pipeline, tmp_path: Path) -> None:
    """All samples that wait are ended."""
    threads = threading.active_count()

    def answer(name: str, calls: Sequence[Inputs]) -> list[dict[str, np.ndarray]]:
        raise DeviceError("gone", code="E404")

    with pytest.raises(DeviceError):
        list(run_in_turns(function, pack(tmp_path / "p", [(2, None)] * 5), make, answer))
    assert threading.active_count() == threads


def test_the_function_may_fail_while_others_wait(tmp_path: Path) -> None:
    threads = threading.active_count()
    (tmp_path / "reading.py").write_text(
        FUNCTION.replace("    return", "    assert inputs['x'] != 3, 'three'\n    return")
    )
    function = Pipeline("reading.py:read", tmp_path)

    def answer(name: str, calls: Sequence[Inputs]) -> list[dict[str, np.ndarray]]:
        return [compute(name, inputs) for inputs in calls]

    with pytest.raises(DataError) as error:
        list(run_in_turns(function, pack(tmp_path / "p", [(2, None)] * 5), make, answer))
    assert error.value.diagnostics[0].code == "E881" and "three" in str(error.value)
    assert threading.active_count() == threads
