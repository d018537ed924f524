"""Core ML packages the whole way: built, interpreted, judged and told by that evidence alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from running import Run, cosines, edgedeploy, targets_of
from zoo import MODELS, write_profile

from edgedeploy.backends.apple.runner import CoreMlRunner
from edgedeploy.errors import EdgedeployError, ExitCode
from edgedeploy.importing import Imported, import_bench
from edgedeploy.opening import Request
from edgedeploy.parity.gates import LEAST_COSINE
from tests.phone import document, slower

pytestmark = pytest.mark.slow

GATES = {"latency": {"p50": "20 ms"}}


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

    def bring(self, found: dict[str, object]) -> Run:
        """Import a document."""
        words = ("import", self._written(found), "profile.yaml", "-o", "results")
        return self.run("bench", *words)

    def brought(self, found: dict[str, object]) -> Imported:
        """Import a document in this process, and judge nothing."""
        return import_bench(
            Request(profile=self.base / "profile.yaml"),
            self._written(found),
            output=self.base / "results",
            store=self.base / "store",
        )

    def _written(self, found: dict[str, object]) -> Path:
        path = self.base / "bench-main-ios17-coreml.json"
        path.write_text(json.dumps(found), encoding="utf-8")
        return path

    def gate(self, name: str) -> dict[str, object]:
        """Return a gate of the iPhone's target, as the last build judged it."""
        gates = targets_of(self.folder)["main", "ios17/coreml"]["gates"]
        found: dict[str, object] = next(gate for gate in gates if gate["gate"] == name)
        return found

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


def test_one_file_is_tried_by_interpretation(project: Project) -> None:
    signature = json.loads((project.folder / "build.json").read_text())["models"][0]["signature"]
    shape = signature["inputs"][0]["dims"]
    np.save(project.base / "one.npy", np.full([size or 1 for size in shape], 0.25, np.float32))
    run = project.run("try", "one.npy", "--build", "results", "-t", "macos14/coreml", "--json")
    assert run.code == 0, run.err
    first, package = run.document["try"]["rows"]
    assert (first["evidence"], package["evidence"]) == ("host-runtime", "interpreted")
    assert package["answer"]["kind"] == "values"
    assert min(item["cosine"] for item in package["difference"]["outputs"].values()) > LEAST_COSINE


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


@pytest.fixture(scope="module")
def iphone(project: Project) -> Project:
    """The project as its build left it: `accept -t` writes a report of fewer targets."""
    assert project.run("build", "profile.yaml", "-o", "results").code == 0
    return project


def test_what_an_app_measured_judges_the_next_builds(iphone: Project) -> None:
    """By its evidence, which says that it was imported; a second import of it changes nothing."""
    artifact = targets_of(iphone.folder)["main", "ios17/coreml"]["artifact"]
    told = document(artifact=artifact)
    found = iphone.bring(told)
    assert found.code == 0, found.err
    assert "imported: main for ios17/coreml on iPhone16,1, ios 17.5.1, 2026-11-20" in found.err
    assert "device, quick, imported" in found.out and "on iPhone16,1" in found.out
    gate = iphone.gate("latency_p50")
    assert (gate["state"], gate["evidence"]) == ("passed", "device")
    assert str(gate["reason"]).endswith("imported from an app's bench")
    alone = iphone.gate("not_slower")
    assert alone["state"] == "not judged"
    assert alone["reason"] == "it was not measured against float"
    bench = targets_of(iphone.folder)["main", "ios17/coreml"]["bench"]
    assert bench["imported"] is True and bench["comparison"] is None
    assert not iphone.brought(told).new
    assert len(list((iphone.base / "store/records").glob("*/*/*/record.json"))) == 1
    built = iphone.run("build", "profile.yaml", "-o", "results")
    assert built.code == 0 and "device, quick, imported" in built.out


def test_a_newer_measurement_counts_and_may_refuse(iphone: Project) -> None:
    """The gate says no by it; an unreliable one after it judges nothing."""
    artifact = targets_of(iphone.folder)["main", "ios17/coreml"]["artifact"]
    slow = slower(document(artifact=artifact, created="2026-11-21T10:00:00Z"), 8)
    found = iphone.bring(slow)
    assert found.code == 1 and iphone.gate("latency_p50")["state"] == "refused"
    debug = document(artifact=artifact, created="2026-11-22T10:00:00Z", optimised=False)
    assert iphone.brought(debug).reasons == ("debug build: its figures say little",)
    last = iphone.bring({**debug, "created": "2026-11-23T10:00:00Z", "optimised": True})
    assert last.code == 0 and iphone.gate("latency_p50")["state"] == "passed"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({}, "E766"),
        ({"target": "ios16/coreml"}, "E766"),
        (
            {"device": {"machine": "Mac", "os": "macos", "os_version": "17", "simulator": False}},
            "E766",
        ),
        (
            {"device": {"machine": "i", "os": "ios", "os_version": "16.7", "simulator": False}},
            "E766",
        ),
        ({"units": "CPU_ONLY"}, "E766"),
        ({"load_ns": -1}, "E765"),
    ],
)
def test_what_is_of_no_artifact_here_is_refused(
    iphone: Project, change: dict[str, object], code: str
) -> None:
    """Another artifact, board, system or condition; and nothing is kept of it."""
    artifact = targets_of(iphone.folder)["main", "ios17/coreml"]["artifact"]
    before = sorted((iphone.base / "store/records").rglob("*"))
    told = document(**({"artifact": artifact} if change else {}), **change)
    with pytest.raises(EdgedeployError) as caught:
        iphone.brought(told)
    assert {item.code for item in caught.value.diagnostics} == {code}
    assert caught.value.exit_code == ExitCode.USAGE
    assert sorted((iphone.base / "store/records").rglob("*")) == before
