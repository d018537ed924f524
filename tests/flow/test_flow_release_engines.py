"""What several devices built enters one release: the engines of all their platforms.

The devices are stand-ins for trtexec, and what they make is no engine. A release refuses it; to
walk the way to its end, the record in the store is read here as if a GPU had made it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgedeploy import api
from edgedeploy.artifact import scan_tree
from edgedeploy.deploy.contents import Built
from edgedeploy.deploy.gpu import released_engine
from edgedeploy.errors import EdgedeployError, ExitCode
from edgedeploy.events import EventLog
from edgedeploy.gpu import GpuPlatform
from edgedeploy.release.keys import new_key
from edgedeploy.store import ActionRecord, Store
from tests.flow.test_flow_engines import PROFILE, Project, upgraded
from tests.unit.deploy.engine_desk import Desk, write_model

pytestmark = pytest.mark.slow

READ = Store.read_action
TARGET = "nvidia-l4/tensorrt"
RELEASED = PROFILE.replace("name: small", 'name: small\nversion: "1.0.0"').replace(
    "{source: small.onnx}", "{source: small.onnx, licence: MIT}"
)


def claimed(platform: GpuPlatform) -> GpuPlatform:
    """Return a platform as if it were a real one."""
    return replace(platform, simulated=False)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project that two devices of one board, with different drivers, built."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    write_model(folder / "small.onnx")
    (folder / "small.yaml").write_text(RELEASED)
    new_key(folder / "key")
    found = Project(folder)
    found.give(tmp_path / "devices", a=upgraded("1.1"), b=upgraded("1.2"))
    return found


def released(project: Project) -> api.Released:
    """Release what was built."""
    return api.release(
        api.Request(profile=project.folder / "small.yaml"),
        api.ReleaseOptions(
            output=project.folder / "build",
            store=project.folder / "store",
            key=project.folder / "key",
        ),
        EventLog(),
    )


def as_real(store: Store, key: str) -> ActionRecord | None:
    """Read a record as if GPUs had made the engines that it tells of."""
    found = READ(store, key)
    if found is None or found.kind != "engines":
        return found
    engines = {
        name: {
            **engine,
            "platform": {**engine["platform"], "simulated": False},
            "needs": {**engine["needs"], "simulated": False},
        }
        for name, engine in found.summary["engines"].items()
    }
    return replace(found, summary={**found.summary, "engines": engines, "simulated": False})


def test_a_release_holds_the_engine_of_every_platform(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each with the digest under which a push knows it; and the same bytes again."""
    assert project.build().exit_code == ExitCode.DONE
    with pytest.raises(EdgedeployError) as caught:
        released(project)
    assert caught.value.diagnostics[0].code == "E759"
    monkeypatch.setattr(Store, "read_action", as_real)
    made = released(project)
    (model,) = made.release.target(TARGET).models
    assert model.entry == f"{TARGET}/main/engines" and len(model.engines) == 2
    place = tmp_path / "extracted"
    api.verify(
        made.path,
        api.VerifyOptions(
            keys=(project.folder / "key.pub",), state=tmp_path / "state", extract=place
        ),
    )
    for desk in project.desks.values():
        way = replace(desk.survey.ways[0], simulated=False)
        engine = released_engine(model, replace(desk.survey, ways=(way,)))
        assert engine.platform == claimed(desk.platform)
        assert engine.needs.driver == desk.platform.driver
        built = project.folder / "build" / "small" / "main" / TARGET / "engines" / desk.platform.id
        files = scan_tree(place / engine.folder)
        assert files == scan_tree(built) and files.size_bytes == engine.size_bytes
        roles = {made.release.file(f"{engine.folder}/{file.path}").role for file in files.files}
        assert roles == {"model", "interface"}
        assert engine.artifact == pushed(project, desk)
    before = made.path.read_bytes()
    assert released(project).path.read_bytes() == before


def test_engines_of_tensorrt_for_rtx_need_no_platform(tmp_path: Path) -> None:
    """They are real ones, which no GPU has loaded so far: they say which generations can."""
    pytest.importorskip("tensorrt_rtx_bindings", reason="needs TensorRT for RTX")
    project = Project(tmp_path)
    write_model(tmp_path / "small.onnx")
    (tmp_path / "small.yaml").write_text(RELEASED.replace(TARGET, "rtx-40/tensorrt-rtx"))
    new_key(tmp_path / "key")
    api.build(
        api.Request(profile=tmp_path / "small.yaml"),
        api.BuildOptions(output=tmp_path / "build", store=tmp_path / "store"),
    )
    made = released(project)
    (model,) = made.release.targets[0].models
    (engine,) = model.engines
    assert (engine.entry, engine.artifact) == (model.entry, model.artifact)
    assert engine.platform is None and engine.needs.compute_capabilities == ("8.9",)
    assert engine.size_bytes == made.release.file(engine.entry).size == model.size_bytes


def pushed(project: Project, desk: Desk) -> str:
    """Return the digest that a push of the build to a device gives the artifact."""
    built = Built(
        api.Request(profile=project.folder / "small.yaml"),
        project.folder / "build",
        Store(project.folder / "store"),
        EventLog(),
    )
    way = replace(desk.survey.ways[0], simulated=False)
    (model,) = built.contents(TARGET, replace(desk.survey, ways=(way,))).version.models
    return model.artifact
