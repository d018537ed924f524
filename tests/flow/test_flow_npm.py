"""From a profile to a browser: what was released runs there and gives what the build gave."""

import json
import subprocess

import numpy as np
import pytest

from edgedeploy.data.pack import PackReader
from edgedeploy.release.keys import new_key
from edgedeploy.release.opening import open_bundle
from tests.proof.small import PROFILE, Project
from tests.web import browser

pytestmark = pytest.mark.slow

ASK = """\
const { MainModel, release } = await import("/served/package/index.js");
const model = await MainModel.create();
const told = [];
for (const x of given) {
  const { y } = await model.run({ x: Float32Array.from(x) });
  told.push([...y.data]);
}
return { told, version: release.version };
"""


def test_the_browser_gives_what_the_build_gave(tmp_path):
    project = Project(tmp_path)
    text = PROFILE.replace("name: small", 'name: small\nversion: "1.0.0"')
    text = text.replace("  source: model.onnx\n", "  source: model.onnx\n  licence: MIT\n")
    project.profile.write_text(text.partition("targets:")[0] + "targets: [web/ort]\n")
    assert project.build().status == 0
    key = new_key(tmp_path / "key")
    made = project.run(
        [
            *project.arguments("release", "-o", str(project.output)),
            *("--key", str(tmp_path / "key"), "--format", "npm", "--json"),
        ]
    )
    assert made.status == 0, made.err
    folder = project.output / "small"
    (package,) = folder.rglob("small-1.0.0.tgz")
    (bundle,) = folder.rglob("small-1.0.0.edpkg")
    served = tmp_path / "served"
    served.mkdir()
    subprocess.run(["tar", "-xzf", str(package), "-C", str(served)], check=True)
    manifest = json.loads((served / "package" / "release" / "manifest.json").read_bytes())

    (model,) = manifest["targets"][0]["models"]
    golden = model["golden"]
    with open_bundle(bundle, {key.id: key.public}) as opened:
        for file in opened.release.files:
            if file.role == "golden":
                place = tmp_path / "golden" / file.path
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(opened.read(file.path))
    inputs = [
        sample.tensors()["x"] for sample in PackReader(tmp_path / "golden" / golden["inputs"])
    ]
    wanted = [
        sample.tensors()["y"] for sample in PackReader(tmp_path / "golden" / golden["outputs"])
    ]
    assert inputs

    with browser.browser(served) as page:
        answer = page.run(ASK, [value.ravel().tolist() for value in inputs])
    assert answer["version"] == "1.0.0"
    for given, right in zip(answer["told"], wanted, strict=True):
        right = right.ravel().astype(np.float64)
        cosine = np.dot(given, right) / (np.linalg.norm(given) * np.linalg.norm(right))
        assert cosine > max(0.999, golden["cosine"] or 0)
        np.testing.assert_allclose(given, right, rtol=0, atol=1e-5)
