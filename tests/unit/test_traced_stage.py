"""What a pipeline fed a model, as that model's samples."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edgedeploy.data.pack import PackReader, PackWriter
from edgedeploy.errors import DataError
from edgedeploy.steps import traced


def work(folder: Path, sequences: list[str], **params: object) -> SimpleNamespace:
    """Return a piece of work over the traces of one model, one call per sequence's name."""
    (folder / "traces/ears").mkdir(parents=True)
    (folder / "samples").mkdir()
    with PackWriter(folder / "traces/ears") as writer:
        for number, name in enumerate(sequences):
            writer.add(f"{name}/{number}", {"x": np.float32([number])}, sequence=name)
    known = {"model": "ears", "role": "calibrate", "packs": ["ears"], "state": ["h"]}
    return SimpleNamespace(
        params={**known, **params},
        inputs={"traces": folder / "traces"},
        outputs={"samples": folder / "samples"},
    )


def test_a_state_wants_calls_that_follow_each_other(tmp_path: Path) -> None:
    """One call for each sample of the pipeline leaves it at zero; without a state all is well."""
    single = work(tmp_path / "single", ["a", "b", "c"])
    with pytest.raises(DataError) as caught:
        traced.run(single)
    (found,) = caught.value.diagnostics
    assert (found.code, found.subject) == ("E865", "ears")
    assert "`calibrate`" in found.message and "'h'" in found.message and found.hint
    single.params["state"] = []
    assert traced.run(single).summary == {"samples": 3}


def test_calls_of_one_sequence_are_kept_so(tmp_path: Path) -> None:
    given = work(tmp_path, ["a", "b", "b"])
    assert traced.run(given).summary == {"samples": 3}
    found = PackReader(tmp_path / "samples")
    assert [sample.sequence for sample in found] == ["a", "b", "b"]


@pytest.mark.parametrize(("calls", "said"), [([], "never"), (["a"], "only once")])
def test_too_few_calls_come_first(calls: list[str], said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said) as caught:
        traced.run(work(tmp_path, calls))
    assert caught.value.diagnostics[0].code == "E885"
