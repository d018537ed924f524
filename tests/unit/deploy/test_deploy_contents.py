"""Which version belongs on a device, from a real build of a tiny model for two runtimes."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgedeploy import api
from edgedeploy.deploy.contents import Built
from edgedeploy.devices.version import parse_version
from edgedeploy.errors import BuildError, EdgedeployError, ProfileError, RefusedError, UsageError
from edgedeploy.events import EventLog
from edgedeploy.store import Store

pytestmark = pytest.mark.slow

ORT, OPENVINO = "linux-x86-64/ort", "linux-x86-64/openvino"
NOT_THIS = "linux-x86-64" if os.uname().machine == "aarch64" else "rpi5"
PROFILE = """\
edgedeploy: 1
name: tiny
model: {source: tiny.onnx}
quantize: none
gates: {cosine: 0.9}
files: [labels.txt, assets]
targets: [linux-x86-64/ort, linux-x86-64/openvino, rpi5/ort]
"""
DEVICES = """\
devices:
  shelf: {connection: fake, board: linux-x86-64}
  other: {connection: fake, board: rk3588}
  liar: {connection: local, board: rpi5, root: /nonexistent/liar}
  blank: {connection: fake}
"""


def write_model(path: Path, factor: float = 7.0) -> None:
    """Write one matrix product, large enough for a segment of its own."""
    weight = numpy_helper.from_array(
        np.arange(4096, dtype=np.float32).reshape(64, 64) / factor, "w"
    )
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "tiny",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 64])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 64])],
        [weight],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project that was built; ``store`` and ``build`` lie in it."""
    folder = tmp_path_factory.mktemp("contents")
    write_model(folder / "tiny.onnx")
    (folder / "tiny.yaml").write_text(PROFILE)
    (folder / "devices.yaml").write_text(DEVICES.replace("NOT_THIS", NOT_THIS))
    (folder / "labels.txt").write_text("cat\ndog\n")
    (folder / "assets" / "sounds").mkdir(parents=True)
    (folder / "assets" / "sounds" / "ding.wav").write_bytes(b"ding")
    build(folder)
    return folder


def build(folder: Path, *sets: str) -> None:
    """Build the project."""
    api.build(
        api.Request(profile=folder / "tiny.yaml", sets=sets),
        api.BuildOptions(output=folder / "build", store=folder / "store", jobs=1),
    )


def built(folder: Path, sets: Sequence[str] = (), targets: Sequence[str] = ()) -> Built:
    """Return what was built, as a push sees it."""
    request = api.Request(profile=folder / "tiny.yaml", sets=tuple(sets), targets=tuple(targets))
    return Built(request, folder / "build", Store(folder / "store"), EventLog())


def code(error: pytest.ExceptionInfo[EdgedeployError]) -> str:
    """Return the code of an error."""
    return error.value.diagnostics[0].code


@pytest.mark.parametrize(
    ("target", "files", "entry"),
    [
        (ORT, ["main/model.ort"], "main/model.ort"),
        (OPENVINO, ["main/model.bin", "main/model.xml"], "main/model.xml"),
    ],
)
def test_version_holds_what_is_loaded_and_what_travels_along(
    project: Path, target: str, files: list[str], entry: str
) -> None:
    """Models, golden samples and the profile's files, each by its true digest."""
    contents = built(project).contents(target)
    version = contents.version
    paths = [file.path for file in version.files]
    assert [path for path in paths if not path.startswith(("golden/", "files/"))] == files
    assert [path for path in paths if path.startswith("files/")] == [
        "files/assets/sounds/ding.wav",
        "files/labels.txt",
    ]
    for file in version.files:
        content = contents.places[file.sha256].read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (file.size, file.sha256)
    (model,) = version.models
    assert (model.target, model.entry, model.candidate) == (target, entry, "float")
    assert model.golden is not None and model.golden.cosine == 0.9
    assert parse_version(version.manifest) == version
    assert built(project).contents(target).version.name == version.name


@pytest.mark.parametrize(
    ("target", "path"), [(ORT, "main/model.ort"), (OPENVINO, "main/model.bin")]
)
def test_weights_have_a_segment_of_their_own(project: Path, target: str, path: str) -> None:
    """The one that a retrain changes, so that the rest need not travel."""
    contents = built(project).contents(target)
    (file,) = [file for file in contents.version.files if file.path == path]
    content = contents.places[file.sha256].read_bytes()
    weight = np.arange(4096, dtype=np.float32) / 7
    ranges = [(part.offset, part.length) for part in file.segments] or [(0, file.size)]
    tensors = [
        np.frombuffer(content, dtype, length // dtype.itemsize, offset)
        for offset, length in ranges
        for dtype in (np.dtype(np.float32), np.dtype(np.float16))
        if length == weight.size * dtype.itemsize
    ]
    assert any(np.allclose(np.sort(tensor), weight, rtol=1e-3) for tensor in tensors)


def test_board_decides_the_target(project: Path) -> None:
    """Several runtimes must be chosen from; a device of another board, or of none, is refused."""
    assert built(project, targets=["*/ort"]).target("linux-x86-64", "shelf") == ORT
    for board, wanted in (("linux-x86-64", "E440"), ("rk3588", "E441"), (None, "E441")):
        with pytest.raises(UsageError) as caught:
            built(project).target(board, "shelf")
        assert code(caught) == wanted


def test_nothing_is_pushed_that_is_not_built(project: Path, tmp_path: Path) -> None:
    """No build at all, a profile that asks for something else, a model that changed."""
    with pytest.raises(BuildError) as caught:
        Built(
            api.Request(profile=project / "tiny.yaml"),
            tmp_path,
            Store(project / "store"),
            EventLog(),
        )
    assert code(caught) == "E438"
    with pytest.raises(BuildError) as caught:
        built(project, sets=["quantize=fp16"]).contents(ORT)
    assert code(caught) == "E438"
    write_model(project / "tiny.onnx", 9.0)
    try:
        with pytest.raises(BuildError) as caught:
            built(project).contents(ORT)
    finally:
        write_model(project / "tiny.onnx")
    assert code(caught) == "E438" and "input model changed" in str(caught.value)


def test_what_a_gate_refused_is_not_pushed(project: Path) -> None:
    """Not by any option."""
    build(project, "gates.size=1 kB")
    try:
        with pytest.raises(RefusedError) as caught:
            built(project, sets=["gates.size=1 kB"]).contents(ORT)
        assert code(caught) == "E439"
    finally:
        build(project)


def test_file_of_the_profile_that_is_missing_or_elsewhere(project: Path) -> None:
    """Said before any device is touched; a link to one's keys is elsewhere."""
    (project.parent / "outside").mkdir()
    for name in ("outside.txt", "outside/key"):
        (project.parent / name).write_text("x")
    (project / "key").symlink_to(project.parent / "outside.txt")
    (project / "keys").symlink_to(project.parent / "outside")
    (project / "more").mkdir()
    (project / "more/key").symlink_to("../key")
    for name in ("nothing.txt", "../outside.txt", "key", "keys", "more"):
        files = f"files=[{name}]"
        build(project, files)
        try:
            with pytest.raises(ProfileError) as caught:
                built(project, sets=[files]).contents(ORT)
            assert code(caught) == "E442"
        finally:
            build(project)


def push(project: Path, home: Path, *arguments: str) -> tuple[int, dict[str, object]]:
    """Run ``edgedeploy push`` in a process; return its status and document."""
    run = subprocess.run(
        [
            *(sys.executable, "-m", "edgedeploy", "push", "tiny.yaml", "--json"),
            *("--store", str(project / "store"), *arguments),
        ],
        cwd=project,
        env={
            **os.environ,
            "XDG_CACHE_HOME": str(home),
            "PYTHONPATH": str(Path(__file__).parents[3]),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    return run.returncode, json.loads(run.stdout)


def test_command_pushes_to_a_fake_device(project: Path, tmp_path: Path) -> None:
    """A first push, one that finds it there, and what is refused."""
    status, told = push(project, tmp_path, "-d", "shelf", "-t", "*/ort")
    (row,) = told["devices"]
    assert (status, row["state"], row["already"]) == (0, "done", False)
    details = row["details"]
    assert details["pretended"] and details["sent_bytes"] == details["total_bytes"] > 0
    place = Path(details["root"]) / "versions" / details["version"]
    assert (place / "files" / "labels.txt").read_text() == "cat\ndog\n"
    assert not (Path(details["root"]) / "current").exists()

    status, told = push(project, tmp_path, "-d", "shelf", "-t", "*/ort")
    (row,) = told["devices"]
    assert (status, row["already"], row["details"]["sent_bytes"]) == (0, True, 0)

    for device, wanted in (("other", "E441"), ("blank", "E441"), ("shelf", "E440")):
        status, told = push(project, tmp_path, "-d", device)
        assert (status, told["diagnostics"][0]["code"]) == (2, wanted)
    status, told = push(project, tmp_path, "-d", "shelf", "-t", "*/ort", "--set", "quantize=fp16")
    assert (status, told["diagnostics"][0]["code"]) == (3, "E438")


def test_device_that_is_another_machine_is_told_before_anything_travels(
    project: Path, tmp_path: Path
) -> None:
    """Row 26: the inventory says that this machine is of another architecture."""
    status, told = push(project, tmp_path, "-d", "liar", "-t", f"{NOT_THIS}/ort")
    (row,) = told["devices"]
    assert (status, row["state"]) == (4, "failed")
    assert "E451" in [item["code"] for item in row["diagnostics"]]
    assert not Path("/nonexistent").exists()
