"""Core ML packages the whole way: built, interpreted, judged and told by that evidence alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from running import Run, cosines, edgedeploy, targets_of
from zoo import MODELS, write_profile

from edgedeploy.backends.apple.runner import CoreMlRunner
from edgedeploy.parity.gates import LEAST_COSINE

pytestmark = pytest.mark.slow

GATES = {"not_slower_than_float": False, "latency": {"p50": "20 ms"}}


class Project:
    """A folder with a profile of two Core ML targets, built once."""

    def __init__(self, base: Path) -> None:
        self.base = base
        data = {role: {**given, "samples": 6} for role, given in MODELS["rnet"]["data"].items()}
        model = {
            **MODELS["rnet"],
            "data": data,
            "author": "The authors of MTCNN",
            "licence": "MIT",
        }
        write_profile(
            base,
            "profile",
            {"main": model},
            targets={
                "ios17/coreml": {"quantize": "w8a8", "gates": GATES},
                "macos14/coreml": {"quantize": "fp16"},
            },
        )
        self.built = self.run("build", "profile.yaml", "-o", "results")
        (self.folder,) = (base / "results").iterdir()

    def run(self, verb: str, *arguments: str | Path) -> Run:
        return edgedeploy(
            verb, *arguments, cwd=self.base, EDGEDEPLOY_STORE=str(self.base / "store")
        )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(tmp_path_factory.mktemp("coreml"))


def test_packages_are_built_and_compared_by_interpretation(project: Project) -> None:
    assert project.built.code == 0, project.built.err
    found = targets_of(project.folder)
    for name in ("ios17/coreml", "macos14/coreml"):
        target = found["main", name]
        assert target["verdict"] == "accepted"
        assert target["evaluation"]["evidence"] == "interpreted"
        assert min(cosines(target).values()) > LEAST_COSINE
        parity = next(gate for gate in target["gates"] if gate["gate"] == "parity")
        assert (parity["state"], parity["evidence"]) == ("passed", "interpreted")
        assert target["bench"] is None
    assert "interpreted" in project.built.out
    assert "not measured" in project.built.out


def test_no_gate_on_time_is_judged_by_an_interpreter(project: Project) -> None:
    gates = {
        gate["gate"]: gate for gate in targets_of(project.folder)["main", "ios17/coreml"]["gates"]
    }
    assert gates["latency_p50"]["state"] == "not judged"
    assert gates["latency_p50"]["evidence"] == "none"


def test_integers_are_what_the_package_states(project: Project) -> None:
    told = targets_of(project.folder)["main", "ios17/coreml"]["arithmetic"]
    assert told["stated"] and 0 < told["integer_layers"] <= told["layers"]
    assert "on integers, as the artifact states" in project.built.out


def test_accept_takes_interpretation_for_no_more_than_it_is(project: Project) -> None:
    asked = ("-t", "macos14/coreml", "-o", "results", "--require")
    assert project.run("accept", "profile.yaml", *asked, "parity:interpreted").code == 0
    assert project.run("accept", "profile.yaml", *asked, "parity:host-runtime").code == 1


def test_what_is_published_runs_and_says_what_it_is(project: Project) -> None:
    folder = project.folder / "main" / "macos14" / "coreml"
    with CoreMlRunner(folder) as runner:
        assert runner.program.metadata["author"] == "The authors of MTCNN"
        assert runner.program.metadata["license"] == "MIT"
        assert len(runner.program.metadata["edgedeploy.source.sha256"]) == 64
        (given,) = runner.signature.inputs
        dims = [size if isinstance(size, int) else 1 for size in given.dims or ()]
        made = runner.run({given.name: np.zeros(dims, np.float32)})
        assert all(np.isfinite(value).all() for value in made.values())
    interface = json.loads((folder / "interface.json").read_text(encoding="utf-8"))
    assert interface["inputs"][0]["onnx_name"] == given.name


def test_nothing_is_built_again(project: Project) -> None:
    again = project.run("plan", "profile.yaml", "--json").document["stages"]
    assert [stage["id"] for stage in again if stage["why"] != "hit"] == []
