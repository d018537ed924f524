"""Depots that trust keys, and releases as versions for them."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from edgedeploy.artifact import FileEntry
from edgedeploy.devices.depot import Depot
from edgedeploy.devices.version import ENVELOPE, SIGNED, Version, VersionModel
from edgedeploy.manifest import canonical
from edgedeploy.plaindata import to_plain
from edgedeploy.release.bundle import Release, Role
from edgedeploy.release.keys import SigningKey
from edgedeploy.release.signing import envelope, sign
from edgedeploy.release.trust import Trust
from tests.unit.devices.depots import put
from tests.unit.release import made

APP, TARGET = "doorbell", "rpi5/ort"
SOURCES = Path(__file__).parents[3] / "edgedeploy/native"
KEY, OTHER = made.KEY, made.OTHER
ACME = Trust().with_key("acme", KEY.public)
CONTENTS: Mapping[str, bytes] = {
    "bom.cdx.json": b"{}",
    "files/words.txt": b"words\n",
    "rpi4/ort/main/model.ort": b"of another board",
    f"{TARGET}/main/a/weights.bin": b"\0" * 3000,
    f"{TARGET}/main/b/weights.bin": b"\1" * 3000,
    f"{TARGET}/main/Ünï.bin": b"u",
    f"{TARGET}/main/model.ort": bytes(range(256)) * 20,
}


def trust_bytes(trust: Trust) -> bytes:
    """Return a trust file."""
    return canonical(to_plain(trust))


def release_of(
    counter: int = 7, name: str = APP, contents: Mapping[str, bytes] = CONTENTS
) -> Release:
    """Return a release; its version follows from the counter."""
    plain = made.release_of(contents, name=name, version=f"1.{counter}.0", counter=counter)
    (target,) = plain.targets
    model = replace(target.models[0], labels=None, golden=None)
    roles: dict[str, Role] = {"bom.cdx.json": "sbom", "files/words.txt": "file"}
    return replace(
        plain,
        targets=(replace(target, models=(model,)),),
        files=tuple(replace(file, role=roles.get(file.path, "model")) for file in plain.files),
    )


def files_of(release: Release, keys: Sequence[SigningKey] = (KEY,)) -> dict[str, bytes]:
    """Return the files of the version that a device of the target gets."""
    found = {
        path.removeprefix(f"{TARGET}/"): content
        for path, content in CONTENTS.items()
        if path.startswith((f"{TARGET}/", "files/", "labels/"))
    }
    signatures = [sign(release.manifest, key.public, key.sign) for key in keys]
    return {**found, SIGNED: release.manifest, ENVELOPE: envelope(release.manifest, signatures)}


def manifest_of(files: Mapping[str, bytes], kind: str = "release", target: str = TARGET) -> bytes:
    """Return the manifest of a version with these files."""
    entries = [
        FileEntry(path=path, size=len(data), sha256=hashlib.sha256(data).hexdigest())
        for path, data in sorted(files.items())
    ]
    model = VersionModel(
        name="main",
        target=target,
        runtime="ort",
        entry="main/model.ort",
        artifact="a" * 64,
        candidate="w8a8",
        options={"target": "nobody's", "kind": "development"},
    )
    return Version(
        app=APP,
        board="rpi5",
        models=(model,),
        files=tuple(entries),
        kind="release" if kind == "release" else "development",
    ).manifest


def stage(
    depot: Depot, files: Mapping[str, bytes], *, downgrade: bool = False, **words: str
) -> str:
    """Bring a version to the device; return its name."""
    wanted = {hashlib.sha256(data).hexdigest(): data for data in files.values()}
    for name in wanted.keys() - depot.have(sorted(wanted)):
        put(depot, wanted[name])
    return depot.stage(manifest_of(files, **words), downgrade=downgrade)


def build_runner(folder: Path) -> Path:
    """Compile the native runner for this machine."""
    program = folder / "runner"
    command = ["gcc", "-std=c99", "-O0", "-o", program, *sorted(SOURCES.glob("*.c")), "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    return program


def give_runner(base: Path, program: Path) -> Path:
    """Put the runner beside the depots, where a provisioned one lies."""
    place = base / ".runtimes/ort/versions" / ("0" * 64)
    place.mkdir(parents=True)
    shutil.copy(program, place / "runner")
    (base / ".runtimes/ort/current").symlink_to(f"versions/{'0' * 64}")
    return place / "runner"
