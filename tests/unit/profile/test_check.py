"""Profile x targets, the location of private data, and the table of what is not built."""

from pathlib import Path

import pytest

from edgedeploy.config.bundled import bundled_folder
from edgedeploy.errors import ProfileError
from edgedeploy.profile import unbuilt
from edgedeploy.profile.check import cross_check
from edgedeploy.profile.load import load_profile
from edgedeploy.profile.private import locate
from edgedeploy.target import host
from edgedeploy.target.library import TargetLibrary

SMALL = "edgedeploy: 1\nname: p\nmodel: {source: m.onnx}\n"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def load(text):
    Path("p.yaml").write_text(text)
    return load_profile(Path("p.yaml"))


def check(text):
    profile = load(text)
    library = TargetLibrary()
    targets = {use.target: library.load(use.target) for use in profile.targets}
    return [(item.code, item.subject, item.severity) for item in cross_check(profile, targets)]


def test_a_fitting_profile_has_no_findings():
    assert (
        check(
            SMALL
            + "data: {calibrate: a, evaluate: b}\nmetric: cer\nquantize: w8a8\n"
            + "gates: {metric: +1 pt, size: 4 MB}\n"
            + "targets:\n  intel-cpu/openvino: {options: {device: CPU, blob: true}}\n  rpi5/ort:\n"
        )
        == []
    )


def test_ranges_are_told_where_only_fixed_shapes_go():
    text = "edgedeploy: 1\nname: p\nmodel: {source: m.onnx, dims: {W: %s}}\n"
    targets = "targets: [intel-cpu/openvino, intel-npu/openvino]\n"
    refused = [("E160", "intel-npu/openvino", "error")]
    assert check(text % "320..960/32" + targets) == refused
    assert check(text % "[320, 640]" + targets) == []
    assert check(text % "320" + targets) == []


@pytest.mark.parametrize(
    ("machine", "judged"),
    [
        ("x86_64", {"linux-x86-64/ort", "intel-cpu/ort"}),
        ("aarch64", {"linux-arm64/ort"}),
        ("riscv64", set()),
    ],
)
def test_which_gates_this_machine_may_judge(machine, judged, monkeypatch):
    monkeypatch.setattr(host.platform, "system", lambda: "Linux")
    monkeypatch.setattr(host.platform, "machine", lambda: machine)
    monkeypatch.setattr(host, "_cpu_vendor", lambda cpuinfo: "GenuineIntel")
    targets = ["linux-x86-64/ort", "intel-cpu/ort", "linux-arm64/ort", "rpi5/ort", "armv7/ort"]
    found = check(SMALL + f"gates: {{latency: {{p50: 20 ms}}}}\ntargets: [{', '.join(targets)}]\n")
    assert {subject for _, subject, _ in found} == set(targets) - judged
    assert {(code, severity) for code, _, severity in found} == {("E164", "note")}


def test_phones_are_not_said_to_be_measured_over_the_device_path():
    profile = load(
        SMALL + "gates: {latency: {p50: 20 ms}}\ntargets: [ios17/coreml, macos14/coreml]\n"
    )
    library = TargetLibrary()
    found = cross_check(profile, {use.target: library.load(use.target) for use in profile.targets})
    hints = {item.subject: str(item.hint) for item in found}
    assert "Xcode" in hints["ios17/coreml"]
    assert "edgedeploy bench -d" in hints["macos14/coreml"]


@pytest.mark.parametrize(
    ("target", "words", "legal"),
    [
        ("intel-cpu/openvino", "dynamic", "`auto`, `none`, `fp16`, `w8a8`, `w8`"),
        ("intel-cpu/openvino", "w8a16", "`auto`, `none`, `fp16`, `w8a8`, `w8`"),
        ("intel-npu/openvino", "w8", "`auto`, `none`, `fp16`, `w8a8`"),
    ],
)
def test_an_illegal_scheme_is_refused_with_the_legal_ones(target, words, legal):
    profile = load(SMALL + f"data: {{calibrate: a}}\nquantize: {words}\ntargets: [{target}]\n")
    (found,) = cross_check(profile, {target: TargetLibrary().load(target)})
    assert (found.code, found.subject) == ("E161", target)
    assert legal in str(found.hint)


@pytest.mark.parametrize("mode", ["w8a16", "w8", "dynamic", "fp16"])
def test_only_calibrated_schemes_need_data(mode):
    found = check(SMALL + f"quantize: {mode}\ntargets: [rpi5/ort]\n")
    assert found == ([("E147", "rpi5/ort", "error")] if mode == "w8a16" else [])


def test_what_a_target_fixes_no_profile_changes(tmp_path):
    runtime = tmp_path / "targets/runtimes/ort.yaml"
    runtime.parent.mkdir(parents=True)
    text = (bundled_folder() / "targets/runtimes/ort.yaml").read_text()
    fixed = "per_channel: true\n      fixed: [per_channel]"
    runtime.write_text(text.replace("per_channel: true", fixed))
    text = SMALL + "data: {calibrate: a}\ntargets: [rpi5/ort]\n"
    assert check(text + "quantize: {mode: w8a8, per_channel: true}\n") == []
    refused = [("E161", "rpi5/ort", "error")]
    assert check(text + "quantize: {mode: w8a8, per_channel: false}\n") == refused


def test_private_data_is_looked_up_by_model_and_role():
    profile = load(SMALL + "data: {calibrate: {}, evaluate: e}\ntargets: [rpi5/ort]\n")
    data = profile.models["main"].data
    Path("data.yaml").write_text("calibrate: /srv/all\nmain.calibrate: /srv/main\nevaluate: x\n")
    assert locate(profile, "main", data["calibrate"]) == "/srv/main"
    assert locate(profile, "other", data["calibrate"]) == "/srv/all"
    assert locate(profile, "main", data["evaluate"]) == "e"
    Path("data.yaml").write_text("- a\n")
    with pytest.raises(ProfileError):
        locate(profile, "main", data["calibrate"])


def test_each_unbuilt_part_is_refused_by_name():
    cases = {n: f"targets: [rpi5/ort]\nquantize: {n}\n" for n in unbuilt.QUANTIZE_MODES}
    for name, text in cases.items():
        with pytest.raises(ProfileError) as caught:
            load(SMALL + text)
        (found,) = caught.value.diagnostics
        assert found.code == "E137"
        assert name in found.message


@pytest.mark.parametrize(
    ("option", "sound"),
    [
        ("workspace: 1 GiB", True),
        ("workspace: 1 byte", False),
        ("workspace: 3", False),
        ("optimisation_level: 5", True),
        ("optimisation_level: 6", False),
        ("optimisation_level: true", False),
    ],
)
def test_sizes_and_levels_are_checked_before_anything_runs(option: str, sound: bool) -> None:
    found = check(SMALL + f"targets:\n  nvidia-l4/tensorrt: {{options: {{{option}}}}}\n")
    assert found == ([] if sound else [("E163", "nvidia-l4/tensorrt", "error")])
