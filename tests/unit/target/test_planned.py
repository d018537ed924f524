"""The schemes of runtimes that cannot be built for yet."""

import json
import subprocess
import sys

import pytest

from edgedeploy.errors import ProfileError
from edgedeploy.target.library import TargetLibrary
from edgedeploy.target.planned import planned_targets

NAMES = ["tensorrt-10", "tensorrt-11", "tensorrt-rtx"]


def test_every_planned_runtime_has_its_table():
    found = planned_targets()
    assert sorted(found) == NAMES
    for target in found.values():
        assert "w8a8" in target.get("runtime.quantize")
        assert target.sources["runtime.scheme"]
    assert len({target.digest for target in found.values()}) == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_no_target_can_be_made_of_one(name):
    for target in (name, f"linux-x86-64/{name}"):
        with pytest.raises(ProfileError) as caught:
            TargetLibrary().load(target)
        assert caught.value.diagnostics[0].code == "E139"


def show(*words: str) -> str:
    line = [sys.executable, "-m", "edgedeploy", "targets", "show", *words]
    return subprocess.run(line, capture_output=True, text=True, check=True).stdout


def test_targets_show_prints_the_table_and_says_that_nothing_is_built():
    text = show("tensorrt-rtx")
    assert text.startswith("tensorrt-rtx (not built yet)\n")
    assert "runtime.quantize = ['none', 'fp16', 'w8a8', 'w4']" in text
    assert json.loads(show("tensorrt-rtx", "--json"))["built"] is False
    assert json.loads(show("rpi5/ort", "--json"))["built"] is True
