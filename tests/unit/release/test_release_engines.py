"""Engines for several platforms in one release: what it says, who chooses, what packages hold."""

import json
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from edgedeploy.cli.main import main
from edgedeploy.deploy.gpu import released_engine
from edgedeploy.devices.gpu_survey import GpuSurvey, Way
from edgedeploy.errors import DeviceError, EdgedeployError, IntegrityError, UsageError
from edgedeploy.gpu import EngineNeeds, GpuPlatform
from edgedeploy.release.bundle import ReleaseModel, parse_release
from edgedeploy.release.enrolling import enrol
from edgedeploy.release.opening import open_bundle
from edgedeploy.release.packages import write_packages
from edgedeploy.release.sbom import sbom
from tests.unit.release import engined, made
from tests.unit.release.described import ORIGIN
from tests.unit.release.engined import L4, OLDER, OTHER, TARGET
from tests.unit.release.test_release_mutations import public

BOTH = {"main": (L4, OLDER), "detector": (L4, OLDER)}


def survey_of(platform: GpuPlatform, **change: Any) -> GpuSurvey:
    """Return what a probe finds on a machine of a platform."""
    way = Way(kind="trtexec", path="/usr/bin/trtexec", version=platform.tensorrt, simulated=False)
    found = GpuSurvey(
        device="box",
        system=platform.system,
        arch=platform.arch,
        gpu=platform.gpu,
        compute_capability=platform.compute_capability,
        driver=platform.driver,
        installed={},
        ways=(way,),
    )
    return replace(found, **change)


def code_of(act: Callable[[], object]) -> str:
    """Return the code with which something is refused."""
    with pytest.raises(EdgedeployError) as caught:
        act()
    return caught.value.diagnostics[0].code


def test_each_device_gets_the_engine_of_its_platform(tmp_path: Path) -> None:
    """By what the signed manifest says, as it is read again."""
    with open_bundle(engined.write(tmp_path, BOTH), made.TRUSTED) as bundle:
        model = bundle.release.target(TARGET).models[0]
        for platform in (L4, OLDER):
            chosen = released_engine(model, survey_of(platform))
            assert chosen.platform == platform
            assert bundle.read(chosen.entry) == engined.content("main", platform)


def test_the_nearest_that_loads_is_taken_and_what_does_not_load_is_refused() -> None:
    """Another driver loads it, another TensorRT or GPU does not."""
    model = engined.model_of("main", (L4, OLDER))
    assert released_engine(model, survey_of(OTHER)).platform == L4
    newer, ampere = replace(L4, tensorrt="10.15.0"), replace(L4, compute_capability="8.6")
    for platform in (newer, ampere):
        with pytest.raises(DeviceError) as caught:
            released_engine(model, survey_of(platform))
        assert caught.value.diagnostics[0].code == "E487"
    assert released_engine(model, None) == model.engines[0], "a fake device takes any"


def test_an_engine_that_no_gpu_built_is_chosen_by_what_it_needs() -> None:
    """TensorRT for RTX builds for generations; a device needs no TensorRT to be asked."""
    needs = EngineNeeds(
        runtime="tensorrt-rtx",
        version="1.2.0.54",
        system="linux",
        arch="x86-64",
        compute_capabilities=("8.6", "8.9"),
    )
    one = replace(engined.engine_of("main", L4), needs=needs, platform=None)
    model = replace(engined.model_of("main", (L4,)), engines=(one,))
    assert released_engine(model, survey_of(L4, ways=(), rtx="1.2.0.54")) == one
    assert code_of(lambda: released_engine(model, survey_of(L4, ways=()))) == "E487"
    assert one.in_words() == "engine built with 1.2.0.54 for SM86, SM89"


def changed(model: ReleaseModel, **change: Any) -> ReleaseModel:
    """Return a model whose first engine is another."""
    return replace(model, engines=(replace(model.engines[0], **change), *model.engines[1:]))


PLATFORM = replace(L4, gpu="NVIDIA L4\nand a second line")
NEEDS = replace(EngineNeeds.of(L4), compute_capabilities=())
SPOILED: Mapping[str, Callable[[ReleaseModel], ReleaseModel]] = {
    "not there": lambda model: changed(model, entry=f"{TARGET}/main/engines/a/model.engine"),
    "of another model": lambda model: changed(model, entry=model.engines[1].entry),
    "not sorted": lambda model: replace(model, engines=model.engines[::-1]),
    "two of one platform": lambda model: changed(model, platform=model.engines[1].platform),
    "of no platform": lambda model: changed(model, platform=None),
    "an entry of one": lambda model: replace(model, entry=model.engines[0].entry),
    "one below a folder": lambda model: replace(model, engines=model.engines[:1]),
    "odd needs": lambda model: changed(model, needs=NEEDS),
    "an odd platform": lambda model: changed(model, platform=PLATFORM),
}


@pytest.mark.parametrize("what", SPOILED)
def test_engines_that_cannot_be_are_refused(what: str) -> None:
    release = engined.release_of({"main": (L4, OLDER)})
    assert parse_release(release.manifest) == release
    target = release.targets[0]
    models = (SPOILED[what](target.models[0]),)
    spoiled = replace(release, targets=(replace(target, models=models),))
    with pytest.raises(IntegrityError) as caught:
        parse_release(spoiled.manifest)
    assert caught.value.diagnostics[0].code == "E734"


def test_the_bill_says_what_built_each() -> None:
    text = sbom(engined.release_of(BOTH), ORIGIN).decode()
    assert JsonStrictValidator(SchemaVersion.V1_7).validate_str(text) is None
    (card, _) = [item for item in json.loads(text)["components"] if "modelCard" in item]
    said = [item["value"] for item in card["properties"] if item["name"] == "edgedeploy:engine"]
    assert [text.partition(": ")[2] for text in said] == [
        "TensorRT 10.13.3 for NVIDIA L4 (SM89), driver 570.172.08",
        "TensorRT 10.14.1 for NVIDIA L4 (SM89), driver 580.65.06",
    ]


def test_verify_tells_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = engined.write(tmp_path, {"main": (L4, OLDER)})
    enrol(tmp_path / "trust.json", public(tmp_path), "acme")
    words = ["verify", str(bundle), "--trust", str(tmp_path / "trust.json")]
    with pytest.raises(SystemExit) as ended:
        main([*words, "--state", str(tmp_path / "state.json")])
    assert not ended.value.code
    shown = capsys.readouterr().out
    assert f"engine     main for {TARGET}: TensorRT 10.14.1 for NVIDIA L4 (SM89)" in shown


def packages(
    folder: Path, models: Mapping[str, Sequence[GpuPlatform]], *formats: str
) -> dict[str, Path]:
    """Write packages of a release; by name."""
    bundle = engined.write(folder, models)
    made_ones = write_packages(bundle, made.TRUSTED, formats, folder / "packages")
    return {path.name: path for item in made_ones for path in item.paths}


def held(deb: Path) -> list[str]:
    """Return what lies in a package below the folder of the target."""
    listed = subprocess.check_output(["dpkg-deb", "--contents", deb], text=True)
    names = [line.partition(f"package/{TARGET}/")[2] for line in listed.splitlines()]
    return sorted(name for name in names if name and not name.endswith("/"))


needs_dpkg = pytest.mark.skipif(shutil.which("dpkg") is None, reason="needs dpkg")


@needs_dpkg
def test_each_platform_has_a_debian_package_of_its_own(tmp_path: Path) -> None:
    """Under one path in all of them, by a link beside the engines."""
    found = packages(tmp_path, BOTH, "debian")
    assert list(found) == [
        f"doorbell-nvidia-l4-tensorrt-{platform.id}_1.2.0_amd64.deb" for platform in (OLDER, L4)
    ]
    for platform, deb in zip((OLDER, L4), found.values(), strict=True):
        name = platform.id
        assert held(deb) == [
            f"{model}/{path}"
            for model in ("detector", "main")
            for path in (
                f"engine -> engines/{name}",
                f"engines/{name}/engine.json",
                f"engines/{name}/model.engine",
            )
        ]
        command = ["dpkg-deb", "--field", deb, "Edgedeploy-Engines"]
        words = subprocess.check_output(command, text=True).strip()
        assert words == f"{platform.in_words()}, driver {platform.driver}"


@needs_dpkg
def test_one_platform_needs_no_name(tmp_path: Path) -> None:
    (name,) = packages(tmp_path, {"main": (L4,)}, "debian")
    assert name == "doorbell-nvidia-l4-tensorrt_1.2.0_amd64.deb"


@needs_dpkg
def test_a_platform_that_lacks_a_model_has_no_package(tmp_path: Path) -> None:
    (one,) = packages(tmp_path, {"main": (L4, OLDER), "detector": (L4,)}, "debian")
    assert L4.id in one


def test_models_without_a_common_platform_make_no_debian_package(tmp_path: Path) -> None:
    bundle = engined.write(tmp_path, {"main": (L4, OLDER), "detector": (OTHER,)})
    with pytest.raises(UsageError) as caught:
        write_packages(bundle, made.TRUSTED, ["debian"], tmp_path / "packages")
    assert caught.value.diagnostics[0].code == "E760"
    assert not (tmp_path / "packages" / "debian").exists()


def test_a_registry_gets_them_all_and_other_formats_none(tmp_path: Path) -> None:
    (layout,) = packages(tmp_path, BOTH, "oci").values()
    blobs = [path.read_bytes() for path in (layout / "blobs" / "sha256").iterdir()]
    wanted = [engined.content(model, platform) for model in BOTH for platform in (L4, OLDER)]
    assert all(content in blobs for content in wanted)
    for other in ("wheel", "cmake", "ortpackage", "android", "npm", "swift"):
        act = lambda other=other: packages(tmp_path, BOTH, other)  # noqa: E731
        assert code_of(act) == "E760"
