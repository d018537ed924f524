"""What of a signed bundle belongs on which device, and that a device checks it before a load."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from edgedeploy.deploy.released import BundledVersions, FromBundle
from edgedeploy.devices.inventory import Device
from edgedeploy.devices.local import LocalRemote
from edgedeploy.devices.opening import open_depot
from edgedeploy.devices.version import ENVELOPE, SIGNED, parse_version
from edgedeploy.errors import EdgedeployError, IntegrityError
from edgedeploy.gpu import EngineNeeds, GpuPlatform
from edgedeploy.release.archive import write_archive
from edgedeploy.release.bundle import Release, ReleaseEngine
from edgedeploy.release.verifying import VerifyOptions
from tests.unit.deploy.robot import Robot
from tests.unit.devices.trusting import ACME, CONTENTS, TARGET, release_of, trust_bytes
from tests.unit.release import made

# SubjectPublicKeyInfo of an Ed25519 key (RFC 8410) is this and the 32 bytes.
DER = bytes.fromhex("302a300506032b6570032100") + made.KEY.public
PEM = b"-----BEGIN PUBLIC KEY-----\n%s\n-----END PUBLIC KEY-----\n" % base64.b64encode(DER)


def engine(folder: str, gpu: str) -> ReleaseEngine:
    """Return an engine that a platform built."""
    platform = GpuPlatform(
        gpu=gpu,
        compute_capability="8.9",
        tensorrt="10.3.0",
        cuda="12.6",
        driver="560.1",
        system="linux",
        arch="x86-64",
        jetpack=None,
    )
    return ReleaseEngine(
        entry=f"{TARGET}/main/{folder}/weights.bin",
        artifact=folder * 64,
        size_bytes=3000,
        needs=EngineNeeds.of(platform),
        platform=platform,
    )


def bundle(folder: Path, release: Release) -> FromBundle:
    """Write a bundle, and the key that signed it."""
    path, key = folder / "release.edpkg", folder / "key.pub"
    write_archive(path, made.members(release, CONTENTS))
    key.write_bytes(PEM)
    return FromBundle(path=path, verify=VerifyOptions(keys=(key,), state=folder / "state.json"))


def opened(folder: Path, release: Release | None = None) -> BundledVersions:
    return BundledVersions.opened(bundle(folder, release or release_of()), folder / "extracted")


def test_a_version_holds_one_target_and_what_was_signed(tmp_path: Path) -> None:
    found = opened(tmp_path)
    device = Device(name="pi", kind="local", board="rpi5")
    contents = found.contents(found.target(device)[0], None)
    version = contents.version
    assert [file.path for file in version.files] == [
        "files/words.txt",
        "main/a/weights.bin",
        "main/b/weights.bin",
        "main/model.ort",
        "main/Ünï.bin",
        ENVELOPE,
        SIGNED,
    ]
    for file in version.files:
        content = contents.places[file.sha256].read_bytes()
        assert hashlib.sha256(content).hexdigest() == file.sha256
    assert parse_version(version.manifest) == version
    assert (version.kind, version.app, version.models[0].entry) == (
        "release",
        "doorbell",
        "main/model.ort",
    )
    again = BundledVersions.opened(found.wanted, None)
    assert again.contents(again.target(device)[0], None).version == version


def test_of_several_engines_a_device_gets_one(tmp_path: Path) -> None:
    release = release_of()
    (target,) = release.targets
    engines = (engine("a", "one"), engine("b", "other"))
    model = replace(target.models[0], entry=f"{TARGET}/main", engines=engines, golden=None)
    found = opened(tmp_path, replace(release, targets=(replace(target, models=(model,)),)))
    version = found.contents(found.verified.release.targets[0], None).version
    paths = {file.path for file in version.files}
    assert "main/a/weights.bin" in paths and "main/b/weights.bin" not in paths
    (chosen,) = version.models
    assert (chosen.entry, chosen.artifact) == ("main/a/weights.bin", "a" * 64)
    assert chosen.needs == engines[0].needs


@pytest.mark.parametrize(("board", "said"), [("rpi4", "no target"), (None, "which board")])
def test_a_release_without_a_target_for_a_device(
    tmp_path: Path, board: str | None, said: str
) -> None:
    with pytest.raises(EdgedeployError, match=said) as caught:
        opened(tmp_path).target(Device(name="pi", kind="local", board=board))
    assert caught.value.diagnostics[0].code == "E775"


def test_nothing_is_loaded_that_the_device_refuses(tmp_path: Path) -> None:
    """Neither are its golden samples run nor the application restarted."""
    robot = Robot(tmp_path / "device")
    first = robot.push("a")
    robot.activate(first)
    depot = open_depot(LocalRemote(), str(robot.depot))
    depot.lock()
    depot.entrust(trust_bytes(ACME))
    depot.close()
    robot.loaded.unlink()
    robot.runs.calls.clear()
    second = robot.push("b")
    with pytest.raises(IntegrityError) as caught:
        robot.activate(second)
    assert caught.value.diagnostics[0].code == "E755"
    assert (robot.active(), robot.runs.calls, robot.running()) == (first, [], None)
    robot.check()
