"""ONNX Runtime model packages: the runtime itself opens them, selects a variant and runs it."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import packed
import pytest

from edgedeploy.errors import UsageError
from edgedeploy.release.packages import ABOUT, write_packages


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The packages of a release, by name."""
    folder = tmp_path_factory.mktemp("ort")
    (package,) = write_packages(packed.write(folder), packed.TRUSTED, ["ortpackage"], folder / "p")
    return {path.name: path for path in package.paths}


def test_there_is_one_for_each_target_of_the_runtime(packages: dict[str, Path]) -> None:
    """The runtime could not tell boards apart; OpenVINO's target is not there."""
    assert list(packages) == [
        f"doorbell-1.2.0-{board}.ortpackage"
        for board in ("android-arm64", "linux-x86-64", "rpi4", "rpi5")
    ]


def test_the_runtime_runs_what_it_selects(packages: dict[str, Path]) -> None:
    """No field that it does not know; the outputs are those that NumPy computes."""
    place = packages["doorbell-1.2.0-linux-x86-64.ortpackage"]
    package = onnxruntime.ModelPackage.open(str(place), strict_unknown_fields=True)
    info = package.get_info()
    package.close()
    assert (info["package_name"], info["package_version"]) == ("doorbell", "1.2.0")
    assert info["layout"] == "portable"
    context = onnxruntime.ModelPackageContext(str(place))
    assert context.get_component_names() == ["main", "odd-one"]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    image = np.arange(3 * 5 * 8, dtype=np.float32).reshape(1, 3, 5, 8)
    for name, port in (("main", "image"), ("odd-one", packed.ODD)):
        choice = onnxruntime.ModelPackageOptions(options)
        chosen = context.select_component(name, choice)
        assert chosen.get_selected_variant_name() == "float"
        (found,) = chosen.create_session(options).run(None, {port: image})
        np.testing.assert_allclose(found, packed.expected(image), rtol=1e-5)


def test_it_says_what_goes_in_and_carries_the_signatures(packages: dict[str, Path]) -> None:
    """For people and tools that do not know edgedeploy, and for those that do."""
    place = packages["doorbell-1.2.0-rpi5.ortpackage"]
    told = json.loads((place / "manifest.json").read_bytes())
    assert told["additional_metadata"]["edgedeploy"]["arch"] == "arm64"
    about = told["components"]["main"]["additional_metadata"]["edgedeploy"]
    assert about["inputs"][0]["type"] == "float32 [1, 3, 4..16, 8]"
    assert "Order the axes as N C H W." in about["inputs"][0]["steps"]
    assert (place / about["labels"]).read_bytes() == b"cat\ndog\n"
    own = json.loads((place / "edgedeploy/manifest.json").read_bytes())
    known = {file["path"]: file["sha256"] for file in own["files"]}
    assert "rpi5/ort/main/model.ort" in known
    assert (place / "edgedeploy/manifest.dsse.json").exists()


def test_a_release_without_such_a_target_is_refused(tmp_path: Path) -> None:
    """Before anything is written; with what the release holds."""
    targets = {"intel-cpu/openvino": packed.TARGETS["intel-cpu/openvino"]}
    bundle = packed.write(tmp_path, targets)
    with pytest.raises(UsageError) as caught:
        write_packages(bundle, packed.TRUSTED, ["ortpackage"], tmp_path / "p")
    (found,) = caught.value.diagnostics
    assert found.code == "E760"
    assert found.hint == "it holds intel-cpu/openvino; build for one such as linux-x86-64/ort"
    assert not (tmp_path / "p").exists()


def test_only_packages_are_replaced(tmp_path: Path) -> None:
    """An earlier package goes; a folder of somebody else stays as it is."""
    bundle, place = packed.write(tmp_path), tmp_path / "p/ortpackage"
    for _ in range(2):
        write_packages(bundle, packed.TRUSTED, ["ortpackage"], tmp_path / "p")
    (place / ABOUT).unlink()
    with pytest.raises(UsageError) as caught:
        write_packages(bundle, packed.TRUSTED, ["wheel", "ortpackage"], tmp_path / "p")
    assert caught.value.diagnostics[0].code == "E767"
    assert len(list(place.iterdir())) == 4
    assert [path.name for path in (tmp_path / "p").iterdir()] == ["ortpackage"]
