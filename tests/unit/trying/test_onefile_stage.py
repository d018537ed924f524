"""The stage that makes a file the samples of a model: conformed, or of another bucket."""

import json

import numpy as np
import pytest

from edgedeploy.data.pack import PackReader
from edgedeploy.errors import DataError
from edgedeploy.signature import Signature, TensorSpec
from edgedeploy.stage import Work
from edgedeploy.steps.onefile import STAGE


def signature(*dims):
    state = TensorSpec(name="before", dtype="float32", dims=(1, 1))
    given = TensorSpec(name="x", dtype="float32", dims=(1, *dims))
    return Signature(inputs=(given, state), outputs=(given,)).to_json()


@pytest.fixture
def asked(tmp_path):
    """Return what asks a model of 8 columns, one of the buckets 8 and 16, to take an array."""
    for name in ("model", "facts", "samples"):
        (tmp_path / name).mkdir()
    (tmp_path / "model/signature.json").write_text(json.dumps(signature(8)))
    (tmp_path / "facts/facts.json").write_text(json.dumps({"signature": signature("W")}))

    def ask(array):
        np.save(tmp_path / "x.npy", array)
        places = {name: tmp_path / name for name in ("model", "facts")}
        work = Work(
            params={
                "kind": "arrays",
                "inputs": {},
                "dims": {"W": [8, 16]},
                "state": [["before", "after"]],
            },
            inputs={**places, "file": tmp_path / "x.npy"},
            outputs={"samples": tmp_path / "samples"},
            fields={},
            project=tmp_path,
            progress=lambda done, total, what: None,
            observe=lambda: None,
        )
        made = STAGE.run(work)
        return made.summary["samples"], list(PackReader(tmp_path / "samples"))

    return ask


def test_the_array_is_cast_and_gets_its_batch_axis(asked):
    count, (sample,) = asked(np.arange(8))
    assert count == 1 and sample.id == "x.npy"
    found = sample.tensors()["x"]
    assert (found.dtype, found.shape) == (np.float32, (1, 8))
    np.testing.assert_array_equal(found[0], np.arange(8))


def test_another_buckets_size_is_left_to_that_variant(asked):
    assert asked(np.zeros((1, 16), np.float32)) == (0, [])


def test_a_size_of_no_bucket_is_refused(asked):
    with pytest.raises(DataError) as error:
        asked(np.zeros((1, 12), np.float32))
    (found,) = error.value.diagnostics
    assert found.code == "E257" and "another bucket" in found.message
