"""What a user does with the command line, from `init` to `cache gc`, and what it answers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from nasty import NASTY
from running import Run, edgedeploy, targets_of
from zoo import TARGETS, write_profile

pytestmark = pytest.mark.slow

MODES = ("text", "markdown", "html")


class Project:
    """A folder with a model of one layer, and a store of its own."""

    def __init__(self, base: Path, store: Path) -> None:
        self.base = base
        self.store = store
        self.build = base / "results"

    def run(self, verb: str, *arguments: str | Path, **environment: str) -> Run:
        """Run a verb in the project's folder."""
        return edgedeploy(
            verb, *arguments, cwd=self.base, EDGEDEPLOY_STORE=str(self.store), **environment
        )

    def profile(self, name: str, **words: object) -> Path:
        model = {"source": "model.onnx", "inputs": {"x": {"shape": [1, 4]}}}
        words = {"quantize": "none", **words}
        return write_profile(self.base, name, {"main": model}, **words)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    base = tmp_path_factory.mktemp("cli") / "mein Projekt (ü)"
    base.mkdir()
    NASTY["duplicate_node_names"](base)
    return Project(base, base.parent / "store")


def test_from_init_to_gc(project: Project) -> None:
    """The whole way; every step with the words of the one before."""
    assert project.run("inspect", "model.onnx").out.startswith("model.onnx: ONNX IR 8")
    wrote = project.run("init", "model.onnx", "--json")
    assert wrote.code == 0 and wrote.document["profile"] == "model.yaml"
    assert project.run("init", "model.onnx").code == 2  # it replaces nothing unasked
    assert project.run("check", "model.yaml").code == 0

    plan = project.run("plan", "model.yaml", "--json").document["stages"]
    assert plan and all(stage["why"] != "hit" for stage in plan)
    build = ("build", "model.yaml", "-o", "results", "--no-bench")
    first = project.run(*build)
    assert first.code == 0, first.err
    assert "Verdict: 1 accepted" in first.out
    assert (project.base / "edgedeploy.lock").is_file()
    again = project.run(*build, "--json")
    stages = again.document["build"]["stages"]
    assert stages and {stage["state"] for stage in stages} <= {"hit", "ran"}
    assert "ran " not in again.err
    plan = project.run("plan", "model.yaml", "--json").document["stages"]
    assert {stage["why"] for stage in plan} == {"hit"}

    place = "results/model"
    shown = {mode: project.run("report", place, "--format", mode) for mode in MODES}
    assert all(run.code == 0 and "linux-x86-64/ort" in run.out for run in shown.values())
    assert shown["html"].out.startswith("<!doctype html>")
    document = project.run("report", place, "--json").document["build"]
    assert document == json.loads((project.base / place / "build.json").read_text())
    assert project.run("compare", place, place).code == 0

    judged = project.run("accept", "model.yaml", "-o", "results", "--json")
    assert judged.code == 0 and judged.document["items"][0]["state"] == "accepted"
    needed = ("accept", "model.yaml", "-o", "results", "--require")
    assert project.run(*needed, "latency:device").code == 1
    assert project.run(*needed, "parity:host-runtime").code == 0
    assert project.run(*needed, "parity:hearsay").code == 2

    listed = project.run("cache", "ls", "--json").document["results"]
    assert {"intake", "normalise", "compile", "evaluate"} <= {item["kind"] for item in listed}
    assert project.run("cache", "verify").code == 0
    assert project.run("cache", "gc", "--json").document["actions"] == len(listed)
    rebuilt = project.run(*build)
    assert rebuilt.code == 0 and "ran " in rebuilt.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("schema",),
        ("doctor",),
        ("targets", "list"),
        ("targets", "show", "rpi5/ort"),
        ("profiles", "list"),
        ("profiles", "show", "quickstart"),
        ("cache", "path"),
        ("check", "--explain", "E104"),
        ("inspect", "model.onnx"),
    ],
)
def test_json_is_one_document(project: Project, arguments: tuple[str, ...]) -> None:
    run = project.run(*arguments, "--json")
    assert run.code == 0
    assert run.document["ok"] is True and run.document["exit_code"] == 0
    assert project.run(*arguments).out.strip()


def test_json_is_one_document_on_failure_too(project: Project) -> None:
    wrong = project.base / "wrong.yaml"
    wrong.write_text("edgedeploy: 1\nname: wrong\nmodell: {source: x.onnx}\ntargets: [rpi5/ort]\n")
    run = project.run("build", "wrong.yaml", "--json")
    assert run.code == run.document["exit_code"] == 2 and not run.document["ok"]
    assert run.codes >= {"E104", "E133"}
    gone = project.profile("gone", targets=[TARGETS[0]])
    gone.write_text(gone.read_text().replace("model.onnx", "gone.onnx"))
    run = project.run("plan", "gone.yaml", "--json")
    assert run.code == 2 and run.codes == {"E186"}
    run = project.run("build", "nowhere.yaml", "--json")
    assert run.code == 2 and len(run.codes) == 1
    run = project.run("build", "--no-such-option", "--json")
    assert run.code == 2 and run.codes == {"E100"}
    run = project.run("report", "nowhere", "--json")
    assert run.code == 2 and run.codes == {"E370"}
    run = project.run("inspect", "wrong.yaml", "--json")
    assert run.code == 2 and run.codes == {"E201"}


def test_a_refused_gate_keeps_the_artifact_and_marks_it(project: Project) -> None:
    project.profile("tight", gates={"size": "1 kB"}, targets=[TARGETS[0]])
    build = ("build", "tight.yaml", "-o", "results", "--no-bench")
    run = project.run(*build, "--json")
    assert run.code == run.document["exit_code"] == 1 and not run.document["ok"]
    said = targets_of(project.build / "tight")["main", TARGETS[0]]
    assert said["verdict"] == "refused"
    assert [gate["gate"] for gate in said["gates"] if gate["state"] == "refused"] == ["size"]
    assert (project.build / "tight/main" / TARGETS[0] / "model.ort").is_file()
    assert "1 refused" in project.run(*build).out
    assert project.run("accept", "tight.yaml", "-o", "results").code == 1
    assert project.run(*build, "--set", "gates.size=1 MB").code == 0


def test_one_target_fails_and_the_other_goes_on(tmp_path: Path, project: Project) -> None:
    NASTY["string_input"](tmp_path)
    profile = write_profile(tmp_path, "half", {"main": {"source": "model.onnx"}}, quantize="none")
    run = project.run("build", profile, "-o", tmp_path / "build", "--no-bench")
    assert run.code == 3 and "error[E320]" in run.err
    targets = targets_of(tmp_path / "build/half")
    assert targets["main", TARGETS[0]]["verdict"] == "accepted"
    assert targets["main", TARGETS[1]]["verdict"] == "failed"
    assert (tmp_path / "build/half/main" / TARGETS[0] / "model.ort").is_file()
    assert not (tmp_path / "build/half/main" / TARGETS[1]).exists()
    only = project.run("build", profile, "-o", tmp_path / "b", "--no-bench", "-t", "linux-*")
    assert only.code == 0
    none = project.run("build", profile, "-t", "rpi5/ort", "--json")
    assert none.code == 2 and none.codes == {"E185"}


def test_locked(tmp_path: Path, project: Project) -> None:
    """A lock holds the model, the profile and the artifacts fast."""
    NASTY["duplicate_node_names"](tmp_path)
    model = {"source": "model.onnx", "inputs": {"x": {"shape": [1, 4]}}}
    words = {"quantize": "none", "targets": [TARGETS[0]]}
    profile = write_profile(tmp_path, "held", {"main": model}, **words)
    build = ("build", profile, "-o", tmp_path / "build", "--no-bench", "--json")
    locked = (*build, "--locked")
    missing = project.run(*locked)
    assert missing.code == 2 and len(missing.codes) == 1
    assert project.run(*build).code == 0
    assert project.run(*locked).code == 0
    profile.write_text(profile.read_text() + "gates: {size: 1 MB}\n")
    changed = project.run(*locked)
    assert changed.code == 2 and changed.codes == {"E184"}
    write_profile(tmp_path, "held", {"main": model}, **words)
    assert project.run(*locked).code == 0
    (tmp_path / "other").mkdir()
    shutil.copy(NASTY["unsorted_graph"](tmp_path / "other"), tmp_path / "model.onnx")
    changed = project.run(*locked)
    assert changed.code == 2 and changed.codes == {"E184"}


def test_what_is_printed_where(project: Project) -> None:
    """Results on stdout, all else on stderr; -q leaves errors only; no colour where told."""
    profile = project.profile("words", targets=[TARGETS[0]])
    build = ("build", profile, "-o", project.build, "--no-bench")
    log = project.base / "events.jsonl"
    run = project.run(*build, "--events", log, NO_COLOR="1")
    assert "\x1b" not in run.out + run.err
    events = [json.loads(line) for line in log.read_text().splitlines()]
    finished = [event["node"] for event in events if event.get("state")]
    assert any(name.endswith(".evaluate") for name in finished)
    quiet = project.run(*build, "-q")
    assert quiet.err == "" and quiet.out.startswith("words: built ")
    assert project.run(*build, "--json", "-q").document["build"]["profile"] == "words"


def test_it_does_not_matter_where_it_runs(tmp_path: Path, project: Project) -> None:
    """Relative and absolute paths from another folder give the same artifacts, as hits."""
    profile = project.profile("words", targets=[TARGETS[0]])
    assert project.run("build", "words.yaml", "-o", "results", "--no-bench").code == 0
    here = targets_of(project.build / "words")
    elsewhere = edgedeploy(
        *("build", profile, "-o", "out", "--store", project.store, "--no-bench"), cwd=tmp_path
    )
    assert elsewhere.code == 0 and "ran " not in elsewhere.err
    there = targets_of(tmp_path / "out/words")
    assert {key: said["artifact"] for key, said in there.items()} == {
        key: said["artifact"] for key, said in here.items()
    }
    above = Path("..", project.base.parent.name, project.base.name, "words.yaml")
    run = edgedeploy(
        *("build", above, "-o", tmp_path / "b", "--store", project.store, "--no-bench"),
        cwd=project.base.parent,
    )
    assert run.code == 0 and "ran " not in run.err
