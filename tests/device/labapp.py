"""An application to push to the lab's devices, and the command line that does it."""

import fcntl
import hashlib
import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.lab.device import LabDevice

APP = "doorbell"

NOISE_BYTES = 16 << 20
RATE_BITS_S = 50_000_000  # the noise takes 2.7 s

START_S = 8.0
"""What starting a command and ending it may take besides, on a busy machine."""

Pair = tuple[LabDevice, LabDevice]
"""A device with Python and one without."""

PROFILE = f"""\
edgedeploy: 1
name: {APP}
model: {{source: model.onnx}}
quantize: none
files: [noise.bin]
targets: [linux-x86-64/ort, linux-arm64/ort]
"""


def write_model(path: Path) -> None:
    """Write a small network with one convolution and one matrix product."""
    source = np.random.default_rng(0)
    weights = {
        "w1": source.normal(size=(8, 3, 3, 3)) * 0.3,
        "w2": source.normal(size=(8, 10)) * 0.5,
    }
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w1"], ["a"], name="conv"),
            helper.make_node("Relu", ["a"], ["b"]),
            helper.make_node("GlobalAveragePool", ["b"], ["c"]),
            helper.make_node("Flatten", ["c"], ["d"]),
            helper.make_node("MatMul", ["d", "w2"], ["y"], name="dense"),
        ],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 10])],
        [
            numpy_helper.from_array(value.astype(np.float32), name)
            for name, value in weights.items()
        ],
    )
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)


@dataclass(frozen=True)
class Done:
    """How one command ended.

    Attributes:
        status: Exit status.
        document: What it printed, one JSON document.
        said: Its messages.
        seconds: How long it took.
    """

    status: int
    document: dict[str, Any]
    said: str
    seconds: float

    def row(self, device: LabDevice) -> dict[str, Any]:
        """Return what became of one device."""
        return next(row for row in self.document["devices"] if row["device"] == device.name)


@dataclass(frozen=True)
class Application:
    """A profile that is built, and the devices that it goes to.

    Attributes:
        folder: Of the profile, the build and the store.
        inventory: The devices.yaml.
        program: Module that is the command line; ``tests.device.shortly`` measures shortly.
    """

    folder: Path
    inventory: Path
    program: str = "edgedeploy"

    def command(self, verb: str, *words: str) -> list[str]:
        """Return the command line of a verb for this application."""
        start = [sys.executable, "-m", self.program, verb, str(self.folder / "app.yaml"), "--json"]
        places = ["-o", str(self.folder / "build"), "--store", str(self.folder / "store")]
        return [*start, *(places if verb != "rollback" else []), *words]

    def run(self, verb: str, *words: str, limit_s: float = 120) -> Done:
        """Run a verb to its end."""
        start = time.monotonic()
        done = subprocess.run(
            self.command(verb, *words), capture_output=True, text=True, timeout=limit_s
        )
        seconds = time.monotonic() - start
        document = json.loads(done.stdout) if done.stdout.strip() else {}
        return Done(done.returncode, document, done.stderr + done.stdout, seconds)

    def build(self) -> None:
        """Build for every target."""
        done = self.run("build")
        if done.status != 0:
            raise AssertionError(done.said)

    def on(self, *devices: LabDevice) -> list[str]:
        """Return the options that name devices."""
        named = [word for device in devices for word in ("-d", device.name)]
        return ["--devices", str(self.inventory), "--no-input", *named]

    def push(self, *devices: LabDevice, wait_s: float = 0, limit_s: float = 240) -> Done:
        """Push to devices, all at once; wait so long for a lock."""
        many = ["-j", str(len(devices)), "--wait", str(wait_s)]
        return self.run("push", *self.on(*devices), *many, limit_s=limit_s)

    @contextmanager
    def pushing(self, *devices: LabDevice) -> Iterator[subprocess.Popen[str]]:
        """Start a push; kill it with the block."""
        process = subprocess.Popen(
            self.command("push", *self.on(*devices), "-j", str(len(devices))),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()


def make(folder: Path, inventory: Path, noise_bytes: int) -> Application:
    """Write the project and build it."""
    folder.mkdir()
    write_model(folder / "model.onnx")
    (folder / "app.yaml").write_text(PROFILE)
    (folder / "noise.bin").write_bytes(random.Random(0).randbytes(noise_bytes))
    app = Application(folder, inventory)
    app.build()
    return app


def depot(device: LabDevice) -> Path:
    """Return the application's depot on a device, as this machine sees it."""
    return device.home / ".edgedeploy" / APP


def check_depot(device: LabDevice) -> None:
    """Every object is its name, versions are whole, `current` is one or is not there.

    Nothing unfinished is visible; this holds at any moment, cut or not.
    """
    root = depot(device)
    for path in root.glob("objects/??/*"):
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
    versions = [path for path in root.glob("versions/*") if not path.name.startswith(".")]
    for version in versions:
        manifest = (version / "manifest.json").read_bytes()
        assert hashlib.sha256(manifest).hexdigest() == version.name
        for entry in json.loads(manifest)["files"]:
            data = (version / entry["path"]).read_bytes()
            assert hashlib.sha256(data).hexdigest() == entry["sha256"]
    for name in ("current", "previous"):
        if (root / name).is_symlink():
            assert root / (root / name).readlink() in versions


def check_clean(device: LabDevice) -> None:
    """After a success nothing is on its way and nothing unfinished is left."""
    check_depot(device)
    assert list(depot(device).glob("incoming/*")) == []
    assert list(depot(device).glob("tmp/*")) == []


def when_sent(device: LabDevice, count: int, act: Callable[[], object]) -> threading.Thread:
    """Do something as soon as so many more bytes went to a device; join the thread."""
    start = device.bytes_on_link().to_device

    def watch() -> None:
        while device.bytes_on_link().to_device - start < count:
            time.sleep(0.005)
        act()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def lock_is_free(device: LabDevice) -> bool:
    """Whether nobody holds the depot's lock."""
    with open(depot(device) / "lock") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def sent(devices: Sequence[LabDevice]) -> list[int]:
    """Return the bytes that went to each device so far."""
    return [device.bytes_on_link().to_device for device in devices]


def push_with(
    app: Application, devices: Pair, fault: Callable[[LabDevice], object], part: float = 0.5
) -> Done:
    """Push; do something to each device when so much of the noise went to it."""
    count = int(part * NOISE_BYTES)

    def acting(device: LabDevice) -> Callable[[], object]:
        return lambda: fault(device)

    watches = [when_sent(device, count, acting(device)) for device in devices]
    done = app.push(*devices)
    for watch in watches:
        watch.join(30)
    return done


def codes(document: Any) -> set[str]:
    """Return every diagnostic code in a JSON document."""
    if isinstance(document, dict):
        own = {document["code"]} if isinstance(document.get("code"), str) else set()
        return own.union(*(codes(value) for value in document.values()))
    if isinstance(document, list):
        return set().union(*(codes(value) for value in document))
    return set()
