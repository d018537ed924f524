"""From two builds of a project to a delta that a reader applies, by the command line."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from small import ORT, Project

from edgedeploy.release.keys import new_key


def tune(path: Path) -> None:
    """Move every weight of a model a little, as training on goes."""
    numbers, model = np.random.default_rng(1), onnx.load(str(path))
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        moved = array + 1e-3 * array.std() * numbers.standard_normal(array.shape)
        tensor.CopyFrom(numpy_helper.from_array(moved.astype(array.dtype), tensor.name))
    path.write_bytes(model.SerializeToString())


def released(project: Project, version: str, *more: str) -> Path:
    """Build and release a version of a project; return its bundle."""
    text = project.profile.read_text().partition("version:")[0]
    project.profile.write_text(f'{text}version: "{version}"\n')
    assert project.build("-q").status == 0
    command = project.arguments("release", "-o", str(project.output), "--key", "key", *more)
    done = project.run(command)
    assert done.status == 0, done.err
    return project.output / "small" / f"small-{version}.edpkg"


@pytest.mark.slow
def test_a_reader_follows_from_release_to_release(tmp_path: Path) -> None:
    project = Project(tmp_path)
    key = new_key(project.root / "key")
    text = project.profile.read_text().replace("source:", "licence: MIT\n  source:")
    project.profile.write_text(text.partition("targets:")[0] + f"targets: [{ORT}]\n")
    old = released(project, "1.0.0")
    # The reader keeps a copy: the next build puts its own folder in place of this one.
    kept = tmp_path / old.name
    kept.write_bytes(old.read_bytes())
    tune(project.root / "model.onnx")
    new = released(project, "1.0.1", "--delta-from", str(kept))
    delta = new.with_name("small-1.0.0-to-1.0.1.eddelta")
    assert delta.stat().st_size < 0.6 * new.stat().st_size

    made = tmp_path / "made.edpkg"
    command = [*project.arguments("apply")[:4], str(delta), "-o", str(made), "--key", "key.pub"]
    done = project.run([*command, "--to", str(kept), "--json"])
    assert done.status == 0, done.err
    assert made.read_bytes() == new.read_bytes()
    applied = json.loads(done.out)["applied"]
    assert (applied["version"], applied["signers"]) == ("1.0.1", [key.id])

    made.unlink()
    done = project.run([*command, "--to", str(new)])
    assert (done.status, "E771" in done.err, made.exists()) == (7, True, False)
