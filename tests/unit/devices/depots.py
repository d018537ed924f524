"""The ways to run a depot's program, and what tests do with any of them."""

from __future__ import annotations

import functools
import hashlib
import json
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgedeploy.devices.depot import FRAME_BYTES, Depot, Part, Recipe
from edgedeploy.devices.local import LocalRemote
from edgedeploy.devices.opening import open_depot
from edgedeploy.errors import EdgedeployError
from edgedeploy.manifest import canonical
from tests.unit.devices.shells import SHELLS, open_with

ABSENT = "ab" * 32
"""A digest of nothing that any test makes."""


def _agent(folder: str) -> Depot:
    return open_depot(LocalRemote(), folder, python=sys.executable)


KINDS: dict[str, Callable[[str], Depot]] = {
    "agent": _agent,
    **{shell: functools.partial(open_with, shell) for shell in ("busybox",) if shell in SHELLS},
}
"""Every conformance test runs with each of these; to add a kind is to add an entry."""


class Box:
    """A folder on this machine in which a kind of program keeps a depot."""

    def __init__(self, folder: Path, opener: Callable[[str], Depot]) -> None:
        self.folder = folder
        self._opener = opener
        self._open: list[Depot] = []

    def open(self) -> Depot:
        """Open the depot; closed with the box at the latest."""
        depot = self._opener(str(self.folder))
        self._open.append(depot)
        return depot

    @contextmanager
    def locked(self) -> Iterator[Depot]:
        """Open the depot and hold its lock."""
        depot = self.open()
        try:
            depot.hello()
            depot.lock()
            yield depot
        finally:
            depot.close()

    @contextmanager
    def locked_by_waiting(self) -> Iterator[Depot]:
        """Hold the lock as soon as others gave it back."""
        depot = self._opener(str(self.folder))
        try:
            depot.lock(wait_s=60)
            yield depot
        finally:
            depot.close()

    def close(self) -> None:
        """Close what is still open."""
        for depot in self._open:
            depot.close()

    def check(self) -> None:
        """I1: what ``current`` and every complete version lead to hashes right."""
        for name in ("current", "previous"):
            link = self.folder / name
            if link.is_symlink():
                assert link.is_dir(), f"{name} leads nowhere"
                assert link.readlink().parent == Path("versions")
                self.check_version(link.readlink().name)
        for path in (self.folder / "objects").glob("*/*"):
            assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
            assert path.stat().st_mode & 0o777 == 0o444

    def check_version(self, version: str) -> None:
        """Each file of a version is there, and is its object."""
        folder = self.folder / "versions" / version
        content = (folder / "manifest.json").read_bytes()
        assert hashlib.sha256(content).hexdigest() == version
        files = json.loads(content)["files"]
        for file in files:
            data = (folder / file["path"]).read_bytes()
            assert len(data) == file["size"]
            assert hashlib.sha256(data).hexdigest() == file["sha256"]
            assert (self.object(file["sha256"])).samefile(folder / file["path"])
        there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        assert there == {file["path"] for file in files} | {"manifest.json"}

    def object(self, sha256: str) -> Path:
        """Return where an object lies."""
        return self.folder / "objects" / sha256[:2] / sha256

    def current(self) -> str | None:
        """Return the version that ``current`` leads to."""
        link = self.folder / "current"
        return link.readlink().name if link.is_symlink() else None


def content(seed: int, size: int) -> bytes:
    """Return bytes that do not compress."""
    return random.Random(seed).randbytes(size)


def sha(data: bytes) -> str:
    """Return the SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()


def frames(data: bytes) -> list[bytes]:
    """Return data cut at frames."""
    return [data[at : at + FRAME_BYTES] for at in range(0, len(data), FRAME_BYTES)]


def put(depot: Depot, data: bytes) -> str:
    """Bring an object to the device as a stream of all its bytes; return its digest."""
    name = sha(data)
    depot.receive(name, 0, frames(data), total=len(data))
    parts = (Part(source=None, offset=0, length=len(data)),) if data else ()
    depot.assemble(Recipe(sha256=name, size=len(data), stream=name, parts=parts))
    return name


def manifest(files: dict[str, bytes], app: str = "app") -> bytes:
    """Return the manifest of a version."""
    listed = [
        {"path": path, "size": len(data), "sha256": sha(data)}
        for path, data in sorted(files.items())
    ]
    return canonical({"schema": 1, "app": app, "kind": "development", "files": listed})


def push(depot: Depot, files: dict[str, bytes]) -> str:
    """Bring a version to the device as a push does; return its name."""
    wanted = {sha(data): data for data in files.values()}
    held = depot.have(sorted(wanted))
    for name, data in wanted.items():
        if name not in held:
            put(depot, data)
    return depot.stage(manifest(files))


@contextmanager
def refused(code: str) -> Iterator[pytest.ExceptionInfo[EdgedeployError]]:
    """Expect an error of this code."""
    with pytest.raises(EdgedeployError) as caught:
        yield caught
    assert caught.value.diagnostics[0].code == code, caught.value
