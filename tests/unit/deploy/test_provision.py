"""Putting a runtime on a device: this machine as one, the real agent, pip and compiler."""

import platform
import shutil
import sys
from pathlib import Path

import pytest

from edgedeploy.deploy.fleet import Answer, Link
from edgedeploy.deploy.provision import Wish, provision_device
from edgedeploy.devices.inventory import Device
from edgedeploy.devices.local import LocalRemote
from edgedeploy.devices.opening import open_depot
from edgedeploy.devices.runtimes import find_runtime
from edgedeploy.errors import DeviceError, EdgedeployError
from edgedeploy.remote import DeviceRuntime
from tests.unit.deploy.wheelhouse import make_wheel, numpy_module, runtime_module

SHORT = f"{sys.version_info.major}{sys.version_info.minor}"
TAGS = f"cp{SHORT}-cp{SHORT}-manylinux_2_17_{platform.machine()}"

pytestmark = pytest.mark.slow


class Robot:
    """A device whose folder is on this machine."""

    def __init__(self, root: Path) -> None:
        self.root = root
        # A Python that has no ONNX Runtime of its own.
        self.python = root.with_name("python")
        self.python.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
        self.python.chmod(0o755)
        self.device = Device(name="robot", kind="local", root=str(root), python=str(self.python))

    def provision(self, **wish: object) -> Answer:
        told: list[str] = []
        link = Link("robot", lambda: LocalRemote("robot"), told.append)
        made = Wish(**{"family": "ort", **wish})  # type: ignore[arg-type]
        return provision_device(link, self.device, made, opener=open_depot)

    def find(self) -> DeviceRuntime:
        return find_runtime(LocalRemote("robot"), str(self.root), "ort", str(self.python))

    def refused(self, **wish: object) -> str:
        with pytest.raises(EdgedeployError) as error:
            self.provision(**wish)
        return error.value.diagnostics[0].code

    @property
    def trees(self) -> set[str]:
        return {path.name for path in (self.root / ".runtimes/trees").iterdir()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the only index that pip sees, and beside it the cache: a version is chosen once."""
    folder = tmp_path_factory.mktemp("provision") / "index"
    folder.mkdir()
    make_wheel(folder, "numpy", "2.3.0", TAGS, numpy_module())
    broken = "raise OSError('libstdc++.so.7: cannot open shared object file')"
    for version, extra in (("1.29.0", broken), ("1.30.0", ""), ("1.31.0", "")):
        files = runtime_module(version, extra)
        make_wheel(folder, "onnxruntime", version, TAGS, files, needs=("numpy",))
    return folder


@pytest.fixture(autouse=True)
def index(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder.parent / "cache"))


@pytest.fixture
def robot(tmp_path: Path) -> Robot:
    return Robot(tmp_path / "it's a robot")


def test_what_is_put_there_is_found_and_not_put_there_twice(
    robot: Robot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second time needs no index and sends nothing; its record names every part."""
    first = robot.provision(version="1.30.0")
    assert not first.already and first.details["sent_bytes"] > 0
    assert [part["name"] for part in first.details["parts"]] == ["numpy", "onnxruntime"]
    assert all(len(part["sha256"]) == 64 and part["license"] for part in first.details["parts"])
    found = robot.find()
    assert (found.version, found.provisioned) == ("1.30.0", first.details["runtime"])
    monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")
    again = robot.provision()
    assert again.already and again.details["sent_bytes"] == 0
    assert again.details["runtime"] == first.details["runtime"]


def test_newer_ones_and_what_stays(robot: Robot, folder: Path) -> None:
    """The one that counts and the one before it; what travels is what was not there."""
    first = robot.provision(version="1.30.0")
    second = robot.provision(upgrade=True)
    assert robot.find().version == "1.31.0"
    assert second.details["sent_bytes"] < first.details["sent_bytes"]  # NumPy was there
    make_wheel(folder, "onnxruntime", "1.31.1", TAGS, runtime_module("1.31.1"), ("numpy",))
    assert robot.provision().already
    third = robot.provision(upgrade=True)
    assert robot.trees == {second.details["runtime"], third.details["runtime"]}
    assert robot.provision(version="1.31.0").details["sent_bytes"] == 0
    assert robot.find().version == "1.31.0"


def test_one_that_does_not_load_never_counts(robot: Robot) -> None:
    robot.provision(version="1.30.0")
    with pytest.raises(DeviceError, match=r"libstdc\+\+") as error:
        robot.provision(version="1.29.0")
    assert error.value.diagnostics[0].code == "E463"
    assert robot.find().version == "1.30.0"


def test_damage_is_healed_by_the_same_command(robot: Robot) -> None:
    """A file of the tree is lost; the wheels are on the device still, so nothing travels."""
    tree = robot.root / ".runtimes/trees" / robot.provision(version="1.30.0").details["runtime"]
    (tree / "numpy/__init__.py").write_text("raise ImportError('half a file')")
    with pytest.raises(DeviceError, match="cannot be loaded"):
        robot.find()
    healed = robot.provision(version="1.30.0")
    assert not healed.already and healed.details["sent_bytes"] == 0
    assert robot.find().version == "1.30.0"


def test_a_device_that_cannot_unpack(robot: Robot) -> None:
    """A file stands where the folder should be; once it is gone, nothing is sent again."""
    place = robot.root / ".runtimes/trees"
    place.parent.mkdir(parents=True)
    place.write_text("")
    assert robot.refused(version="1.30.0") == "E466"
    with pytest.raises(DeviceError):
        robot.find()
    place.unlink()
    assert robot.provision(version="1.30.0").details["sent_bytes"] == 0
    assert robot.find().version == "1.30.0"


def test_nothing_is_put_there_when_nothing_fits(robot: Robot) -> None:
    assert robot.refused(version="1.28.0") == "E464"
    assert robot.refused(family="openvino", native=True) == "E464"
    assert not robot.root.exists()


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs a C compiler")
def test_the_native_runner(robot: Robot, folder: Path) -> None:
    """With the library of the ONNX Runtime that is installed here; then back to Python's."""
    import onnxruntime

    here = Path(onnxruntime.__file__).parent
    library = next(here.glob("capi/libonnxruntime.so*"))
    files: dict[str, str | bytes] = {
        f"onnxruntime/capi/{library.name}": library.read_bytes(),
        "onnxruntime/LICENSE": "licence",
        **runtime_module(onnxruntime.__version__),
    }
    make_wheel(folder, "onnxruntime", onnxruntime.__version__, TAGS, files, ("numpy",))
    assert robot.provision(native=True).text.startswith(
        f"onnxruntime {onnxruntime.__version__} (native)"
    )
    found = robot.find()
    assert found.kind == "native"
    done = LocalRemote().run(f"{found.command} version")
    assert done.stdout == f"loads {onnxruntime.__version__}\n".encode()
    lies = robot.root / ".runtimes/ort/current"
    assert (lies / "LICENSE").read_text() == "licence"
    assert robot.provision(native=True).already
    (lies / "runner").chmod(0o444)
    assert not robot.provision(native=True).already
    assert robot.find().kind == "native"
    assert "(python)" in robot.provision(version="1.30.0").text
    assert robot.find().kind == "python"
