"""From a profile to packages in one command, and what pip installs answers as the build did."""

import json
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest

from edgedeploy import api
from edgedeploy.data.pack import PackReader
from edgedeploy.release.formats import FORMATS
from edgedeploy.release.keys import new_key
from tests.proof.small import Project

pytestmark = pytest.mark.slow

USE = """
import json, sys
import numpy as np
import small

x = np.load(sys.argv[1])
print(json.dumps({target: small.Main(target=target, threads=1).run(x=x).y.tolist()
    for target in ("linux-x86-64/ort", "intel-cpu/openvino")}))
"""


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, dict[str, list[Path]]]:
    """A project that was built and released to every format, and what that wrote."""
    project = Project(tmp_path_factory.mktemp("released"))
    said = project.profile.read_text()
    said = said.replace("  source: model.onnx\n", "  source: model.onnx\n  licence: Apache-2.0\n")
    said = said.replace("quantize: w8a8", "quantize: none")  # the fastest build
    project.profile.write_text(f'{said}version: "1.0.0"\n')
    new_key(project.base / "key")
    built = project.build()
    assert built.status == 0, built.err
    words = ("-o", str(project.output), "--key", str(project.base / "key"), "--format", "all")
    done = project.run(project.arguments("release", "--json", *words))
    assert done.status == 0, done.err
    written = json.loads(done.out)["release"]["packages"]
    return project, {item["format"]: [Path(path) for path in item["paths"]] for item in written}


def test_every_format_that_suits_is_written(
    released: tuple[Project, dict[str, list[Path]]],
) -> None:
    """By one command, in the order of the table, beside the bundle."""
    project, written = released
    ours = [name for name in ("cmake", "debian", "oci", "ortpackage", "wheel") if name in FORMATS]
    assert [name for name in written if name in ours] == ours
    folder = project.output / "small"
    assert (folder / "small-1.0.0.edpkg").is_file()
    for name, paths in written.items():
        assert all(path.exists() and path.parent == folder / "packages" / name for path in paths)


def test_the_installed_wheel_answers_as_the_build_did(
    released: tuple[Project, dict[str, list[Path]]], tmp_path: Path
) -> None:
    """Golden inputs of the release into the installed classes: the golden outputs come out."""
    project, written = released
    bundle = project.output / "small/small-1.0.0.edpkg"
    place = tmp_path / "installed"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target"]
    subprocess.run([*pip, place, *written["wheel"]], check=True, timeout=120)
    api.verify(
        bundle,
        api.VerifyOptions(
            keys=(project.base / "key.pub",),
            state=tmp_path / "state/releases.json",
            extract=tmp_path / "release",
        ),
    )
    wanted = {}
    for target in ("linux-x86-64/ort", "intel-cpu/openvino"):
        golden = tmp_path / "release" / target / "golden/main"
        given = next(iter(PackReader(golden / "inputs"))).tensors()
        wanted[target] = next(iter(PackReader(golden / "outputs"))).tensors()["y"]
    np.save(tmp_path / "x.npy", given["x"])
    program = f"import sys; sys.path[:0] = {[str(place), sysconfig.get_path('purelib')]!r}\n{USE}"
    ran = subprocess.run(
        [sys.executable, "-S", "-c", program, tmp_path / "x.npy"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout.splitlines()[-1])
    for target, value in wanted.items():
        np.testing.assert_allclose(found[target], value, rtol=1e-5, err_msg=target)
