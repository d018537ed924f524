"""A device of one folder with a real agent, an application that its hooks restart, and versions."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgedeploy.artifact import scan_tree
from edgedeploy.data.pack import PackReader, PackWriter
from edgedeploy.deploy.activate import Wanted, activate_version, roll_back
from edgedeploy.deploy.fleet import Answer, Link
from edgedeploy.deploy.push import Contents, Opener, push_version
from edgedeploy.devices.depot import DepotState
from edgedeploy.devices.inventory import Hooks
from edgedeploy.devices.local import LocalRemote
from edgedeploy.devices.opening import open_depot
from edgedeploy.devices.version import Version, VersionGolden, VersionModel
from edgedeploy.errors import RefusedError

APP = "robot"


@dataclass(frozen=True, kw_only=True)
class Unit:
    """What an inventory would say."""

    name: str
    root: str
    board: str | None = "rpi5"
    python: str | None = None
    hooks: Hooks = field(default_factory=Hooks)


@dataclass
class Runs:
    """Runs a "model" that multiplies by the number in its file; how it fails stands there too."""

    calls: list[str] = field(default_factory=list)

    def outputs(
        self, version: Version, model: VersionModel, folder: str, pack: Path, names: Sequence[str]
    ) -> list[dict[str, np.ndarray]]:
        self.calls.append("outputs")
        says = json.loads(Path(folder, model.entry).read_text())
        if says.get("dies"):
            raise RefusedError(f"{model.name}: ended by SIGSEGV", code="E470")
        answers = [sample.tensors()["x"] * np.float32(says["times"]) for sample in PackReader(pack)]
        return [dict.fromkeys(names, answer) for answer in answers]

    def p50_ms(self, version: Version, model: VersionModel, folder: str, pack: Path) -> float:
        self.calls.append("p50_ms")
        return float(json.loads(Path(folder, model.entry).read_text()).get("ms", 1.0))


class Robot:
    """One device with its application.

    Args:
        folder: Everything of it.
        remote: Makes a connection to it.
        opener: Opens its depot; by default with the Python agent.
    """

    def __init__(
        self, folder: Path, remote: Callable[[], Any] = LocalRemote, opener: Opener = open_depot
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.depot = folder / "depots" / APP
        self.loaded = folder / "loaded"
        self.remote = remote
        self.opener = opener
        self.runs = Runs()
        current = self.depot / "current"
        self.unit = Unit(
            name="robot-1",
            root=str(folder / "depots"),
            hooks=Hooks(
                # The application keeps the version that was active when it was started.
                restart=f"readlink {current} > {self.loaded}; sh {current}/files/restart.sh",
                health=f"sh {current}/files/health.sh",
                timeout_s=30.0,
            ),
        )

    def with_hooks(self, **changes: Any) -> None:
        self.unit = replace(self.unit, hooks=replace(self.unit.hooks, **changes))

    def link(self) -> Link:
        return Link(self.unit.name, self.remote)

    def contents(
        self, name: str, health: str = "exit 0", restart: str = "exit 0", **model: Any
    ) -> Contents:
        """Return a version: its health and restart scripts, and what its model does."""
        place = self.folder / "built" / name
        if place.exists():
            shutil.rmtree(place)
        (place / "files").mkdir(parents=True)
        (place / "files" / "name").write_text(name)
        (place / "files" / "health.sh").write_text(health)
        (place / "files" / "restart.sh").write_text(restart)
        (place / "main").mkdir()
        golden = model.pop("golden", 3)
        (place / "main" / "model.ort").write_text(json.dumps({"times": 3, **model}))
        if golden is not None:
            for kind, factor in (("inputs", 1), ("outputs", golden)):
                (place / "golden" / "main" / kind).mkdir(parents=True)
                with PackWriter(place / "golden" / "main" / kind) as writer:
                    for number in range(2):
                        value = np.arange(1, 5, dtype=np.float32) * factor * (number + 1)
                        writer.add(str(number), {"x" if kind == "inputs" else "y": value})
        tree = scan_tree(place)
        version = Version(
            app=APP,
            board="rpi5",
            files=tree.files,
            models=(
                VersionModel(
                    name="main",
                    target="rpi5/ort",
                    runtime="ort",
                    entry="main/model.ort",
                    artifact=hashlib.sha256(name.encode()).hexdigest(),
                    candidate="float",
                    golden=golden
                    and VersionGolden(inputs="golden/main/inputs", outputs="golden/main/outputs"),
                ),
            ),
        )
        return Contents(
            version=version, places={file.sha256: place / file.path for file in tree.files}
        )

    def push(self, name: str, **words: Any) -> str:
        """Stage a version; return its name."""
        contents = self.contents(name, **words)
        push_version(LocalRemote, str(self.depot), contents, opener=self.opener, wait_s=60)
        return contents.version.name

    def activate(self, version: str, link: Link | None = None, **words: Any) -> Answer:
        wanted = Wanted(app=APP, version=version, **words)
        return activate_version(
            link or self.link(), self.unit, wanted, opener=self.opener, runs=self.runs
        )

    def roll_back(self, **words: Any) -> Answer:
        return roll_back(self.link(), self.unit, APP, opener=self.opener, **words)

    # -- what is true on the device, seen without the agent ------------------------------------

    def active(self) -> str | None:
        return self._target("current")

    def before(self) -> str | None:
        return self._target("previous")

    def _target(self, name: str) -> str | None:
        link = self.depot / name
        if not link.is_symlink():
            return None
        return os.readlink(link).removeprefix("versions/")  # noqa: PTH115 - as it is written

    def running(self) -> str | None:
        """Return the version that the application loaded last."""
        if not self.loaded.exists():
            return None
        return self.loaded.read_text().strip().removeprefix("versions/") or None

    def state(self) -> DepotState:
        depot = open_depot(LocalRemote(), str(self.depot))
        try:
            return depot.hello()
        finally:
            depot.close()

    def check(self) -> None:
        """Every object hashes right, no trial goes on, the lock is free, nothing is left over."""
        depot = open_depot(LocalRemote(), str(self.depot))
        try:
            assert depot.hello().pending is None
            depot.lock(60)
            assert depot.fsck(False) == ()
        finally:
            depot.close()
