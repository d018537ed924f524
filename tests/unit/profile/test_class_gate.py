"""The gate on the class that loses most, as a profile may say it."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgedeploy.errors import ProfileError
from edgedeploy.profile.check import cross_check
from edgedeploy.profile.load import load_profile
from edgedeploy.profile.types import Delta, Profile
from edgedeploy.target.library import TargetLibrary

PROFILE = """\
edgedeploy: 1
name: p
model: {{source: m.onnx}}
{more}
gates: {{worst_class: {gate}}}
targets: [linux-x86-64/ort]
"""
JUDGED = "metric: top1\ndata: {evaluate: photos}"


def load(folder: Path, gate: str, more: str = JUDGED) -> Profile:
    """Return the profile with a gate."""
    file = folder / "p.yaml"
    file.write_text(PROFILE.format(gate=gate, more=more), encoding="utf-8")
    return load_profile(file)


@pytest.mark.parametrize(
    ("gate", "delta"),
    [("-5 pt", Delta(amount=-5.0, unit="pt")), ("-0.1 abs", Delta(amount=-0.1, unit="abs"))],
)
def test_it_is_a_signed_change(tmp_path: Path, gate: str, delta: Delta) -> None:
    (use,) = load(tmp_path, gate).targets
    assert use.gates.worst_class == delta


def test_a_relative_change_of_a_class_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProfileError) as caught:
        load(tmp_path, "-5 %")
    (fault,) = caught.value.diagnostics
    assert fault.code == "E107"
    assert fault.place is not None
    assert fault.place.line == 6
    assert "-5 pt" in fault.hint


@pytest.mark.parametrize("more", ["", "metric: top1", "data: {evaluate: photos}"])
def test_a_gate_on_classes_needs_a_metric(tmp_path: Path, more: str) -> None:
    profile = load(tmp_path, "-5 pt", more)
    targets = {use.target: TargetLibrary().load(use.target) for use in profile.targets}
    found = cross_check(profile, targets)
    assert [(item.code, "worst_class" in item.message) for item in found] == [("E148", True)]
