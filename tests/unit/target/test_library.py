"""Boards, runtimes and targets: the bundled facts, the search order, inheritance."""

import json
import shutil
from pathlib import Path

import pytest
from onnx.helper import VERSION_TABLE

from edgedeploy.config.bundled import bundled_folder
from edgedeploy.config.search import SearchFolder
from edgedeploy.errors import ProfileError
from edgedeploy.target.library import TargetLibrary

JETSONS = ("jetson-agx-orin", "jetson-orin-nano", "jetson-orin-nx", "jetson-thor")
SERVERS = tuple(f"nvidia-{name}" for name in ("a10", "a100", "b200", "h100", "l4", "t4"))
CARDS = ("rtx", "rtx-30", "rtx-40", "rtx-50")
BOARDS = [
    "android-arm64",
    "armv7",
    "intel-cpu",
    "intel-igpu",
    "intel-npu",
    "ios16",
    "ios17",
    "ios18",
    *JETSONS,
    "linux-arm64",
    "linux-x86-64",
    "macos13",
    "macos14",
    "macos15",
    *SERVERS,
    "rpi4",
    "rpi5",
    *CARDS,
    "web",
]

MACS = ("macos13", "macos14", "macos15")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("EDGEDEPLOY_TARGET_PATH", raising=False)


def write(folder, kind, name, text):
    path = Path(folder) / kind / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def code(library, target):
    with pytest.raises(ProfileError) as caught:
        library.load(target)
    return caught.value.diagnostics[0].code


def test_what_is_bundled():
    library = TargetLibrary()
    assert library.boards() == BOARDS
    assert library.runtimes() == ["coreml", "openvino", "ort", "tensorrt", "tensorrt-rtx"]
    targets = library.targets()
    assert {item.split("/")[0] for item in targets if item.endswith("/ort")} == set(BOARDS) - {
        "intel-igpu",
        "intel-npu",
        *MACS,
        *JETSONS,
        *SERVERS,
        *CARDS,
    }
    assert {item.split("/")[0] for item in targets if item.endswith("/tensorrt")} == {
        *JETSONS,
        *SERVERS,
        *CARDS,
    } - {"rtx"}
    assert {item.split("/")[0] for item in targets if item.endswith("/tensorrt-rtx")} == {
        *CARDS,
        "nvidia-a10",
        "nvidia-l4",
    }
    assert {item.split("/")[0] for item in targets if item.endswith("/coreml")} == {
        "ios16",
        "ios17",
        "ios18",
        *MACS,
    }
    assert {item.split("/")[0] for item in targets if item.endswith("/openvino")} == {
        "intel-cpu",
        "intel-igpu",
        "intel-npu",
        "linux-arm64",
        "linux-x86-64",
        "rpi4",
        "rpi5",
    }
    for target in targets:
        found = library.load(target)
        assert found.id == target
        assert found.origins == ("bundled", "bundled")
        json.dumps(found.fields, allow_nan=False)


def test_what_core_ml_takes_depends_on_the_system_version(tmp_path):
    """macOS 13, 14 and 15 take what iOS 16, 17 and 18 take; older systems are not served."""
    found = {}
    for system, version in (*(("ios", n) for n in range(15, 20)), ("macos", 13), ("macos", 15)):
        text = f"id: b\ntitle: B\nos: {system}\nos_version: {version}\n"
        write(tmp_path, "boards", "b", text + "arch: arm64\nprocessor: cpu\n")
        library = TargetLibrary(option=(tmp_path,))
        served = "b/coreml" in library.targets()
        modes = library.load("b/coreml").get("runtime.quantize") if served else []
        found[system, version] = set(modes)
    assert found["ios", 15] == set()
    assert found["ios", 16] == found["macos", 13] == {"none", "fp16", "w8"}
    assert found["ios", 17] == {"none", "fp16", "w8", "w8a8"}
    assert found["ios", 18] == found["ios", 19] == found["macos", 15]
    assert found["ios", 18] == {"none", "fp16", "w8", "w8a8", "w4"}


def test_every_number_of_every_target_has_a_source():
    library = TargetLibrary()

    def numbers(value, path):
        if isinstance(value, dict):
            for key, item in value.items():
                yield from numbers(item, f"{path}.{key}")
        elif isinstance(value, list):
            for place, item in enumerate(value):
                yield from numbers(item, f"{path}.{place}")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield path

    for target in library.targets():
        found = library.load(target)
        for side in ("board", "runtime"):
            # `os_version` is what the board is, no fact about it; nor is what an option may be.
            for path in set(numbers(found.fields[side], side)) - {"board.os_version"}:
                if path.startswith("runtime.options."):
                    continue
                fact = found.sources.get(path) or found.sources[path.rpartition(".")[0]]
                assert fact, (target, path)
        assert found.sources["runtime.scheme"]


def test_the_opset_and_ir_of_the_oldest_onnxruntime():
    # ONNX Runtime 1.17 implements ONNX 1.15; the onnx package tells what that means.
    target = TargetLibrary().load("rpi5/ort")
    release = next(row for row in VERSION_TABLE if row[0] == "1.15.0")
    assert target.get("runtime.versions") == ">=1.17"
    assert (target.get("runtime.ir_version"), target.get("runtime.opset")) == release[1:3]


def test_facts_are_converted_and_named_with_their_unit():
    board = TargetLibrary().load("rpi5/ort").fields["board"]
    assert (board["clock_hz"], board["cores"], board["ram_bytes"]) == (2_400_000_000, 4, 4 << 30)
    assert board["arch"] == "arm64"  # from linux-arm64
    assert board["host"] is False


def test_what_holds_for_the_board_alone():
    library = TargetLibrary()
    assert library.load("intel-npu/openvino").get("runtime.shapes") == ["fixed", "buckets"]
    assert library.load("intel-cpu/openvino").get("runtime.shapes") == ["fixed", "range", "buckets"]
    for board, device in (("intel-igpu", "GPU"), ("intel-npu", "NPU"), ("rpi5", "CPU")):
        found = library.load(f"{board}/openvino")
        assert found.get("runtime.options.device.default") == device
    assert library.load("rpi5/ort").get("runtime.options.target_platform.default") == "arm"
    assert library.load("intel-cpu/ort").get("runtime.options.target_platform.default") == "amd64"
    assert library.load("rpi5/ort").get("runtime.options.optimization_style.default") == "fixed"


def test_loading_one_target_does_not_change_another():
    one, two = TargetLibrary(), TargetLibrary()
    one.load("intel-npu/openvino")
    assert one.load("intel-cpu/openvino") == two.load("intel-cpu/openvino")


def test_the_digest_is_that_of_the_content(tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(bundled_folder() / "targets", copy)
    first = TargetLibrary().load("rpi5/ort")
    second = TargetLibrary(option=[copy]).load("rpi5/ort")
    assert second.origins == ("option", "option")
    assert second.digest == first.digest
    path = copy / "boards" / "rpi5.yaml"
    path.write_text("# a comment\n" + path.read_text())
    assert TargetLibrary(option=[copy]).load("rpi5/ort").digest == first.digest
    path.write_text(path.read_text().replace("2.4 GHz", "2.5 GHz"))
    assert TargetLibrary(option=[copy]).load("rpi5/ort").digest != first.digest


def test_the_nearest_file_wins_and_may_extend_the_one_it_hides(tmp_path):
    write(tmp_path / "targets", "boards", "rpi5", "id: rpi5\nextends: rpi5\ntitle: Mine\n")
    found = TargetLibrary().load("rpi5/ort")
    assert found.get("board.title") == "Mine"
    assert found.get("board.clock_hz") == 2_400_000_000
    assert found.origins == ("project", "bundled")
    assert [path.name for path in found.files] == [
        "rpi5.yaml",
        "rpi5.yaml",
        "linux-arm64.yaml",
        "ort.yaml",
    ]


def test_a_runtime_may_extend_another(tmp_path):
    write(
        tmp_path / "targets",
        "runtimes",
        "ort-new",
        'id: ort-new\nextends: ort\nversions: ">=1.24"\n'
        "options: {extra: {type: bool, help: more}}\n",
    )
    found = TargetLibrary().load("rpi5/ort-new")
    assert found.get("runtime.versions") == ">=1.24"
    assert set(found.get("runtime.options")) == {"extra", "optimization_style", "target_platform"}


def test_a_folder_that_was_asked_for_must_exist(tmp_path, monkeypatch):
    with pytest.raises(ProfileError) as caught:
        TargetLibrary(option=[tmp_path / "nowhere"])
    assert caught.value.diagnostics[0].code == "E101"
    monkeypatch.setenv("EDGEDEPLOY_TARGET_PATH", str(tmp_path / "nowhere"))
    with pytest.raises(ProfileError):
        TargetLibrary()


def test_a_refused_file_does_not_hide_the_hint_for_another(tmp_path):
    write(tmp_path / "targets", "boards", "broken", "id: other\n")
    library = TargetLibrary()
    assert code(library, "rpi5") == "E139"
    assert code(library, "armv7/openvino") == "E140"
    assert code(library, "broken/ort") == "E150"
    with pytest.raises(ProfileError):
        library.targets()


def test_a_long_chain_of_parents_ends(tmp_path):
    for number in range(40):
        write(
            tmp_path / "targets", "boards", f"b{number}", f"id: b{number}\nextends: b{number + 1}\n"
        )
    assert code(TargetLibrary(), "b0/ort") == "E153"


@pytest.mark.parametrize(
    "target", ["", "/", "rpi5/", "/ort", "a/b/c", "../boards/rpi5/ort", "rpi5/..", "./ort", "*/ort"]
)
def test_an_id_is_never_a_path(target):
    assert code(TargetLibrary(), target) == "E139"


def test_a_file_outside_the_folder_is_not_reached(tmp_path):
    outside = "id: evil\ntitle: x\nos: linux\narch: arm64\nprocessor: cpu\n"
    (tmp_path / "evil.yaml").write_text(outside)
    folder = SearchFolder(origin="option", name="option", path=tmp_path / "targets")
    (tmp_path / "targets" / "boards").mkdir(parents=True)
    library = TargetLibrary(folders=[folder])
    assert code(library, "..\\evil/ort") == "E139"
    write(tmp_path / "targets", "boards", "b", "id: b\nextends: ../../evil\n")
    with pytest.raises(ProfileError) as caught:
        TargetLibrary(option=[tmp_path / "targets"]).load("b/ort")
    assert caught.value.diagnostics[0].code == "E107"
