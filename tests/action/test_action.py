"""The GitHub Action: its steps are run as they stand in action.yml."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema.validators import validator_for

from tests.action.checkout import ROOT, make_checkout, make_runner, save_model
from tests.action.composite import BASH, Job, Runner
from tests.action.expressions import Unknown, evaluated

ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
STEPS: list[dict[str, Any]] = ACTION["runs"]["steps"]


class Project:
    """A checkout, the cache beside it, and one fresh runner after the other."""

    def __init__(self, base: Path) -> None:
        self.base, self.workspace, self.service = base, base / "checkout", base / "service"
        self.profile = make_checkout(self.workspace)
        self.path = self.workspace / self.profile
        self.lock = self.path.with_name("edgedeploy.lock")
        self.own = make_runner(base / "own", self.workspace, self.service)

    def runner(self, **how: str) -> Runner:
        return make_runner(self.base, self.workspace, self.service, **how)

    def action(self, **given: str) -> Job:
        """Run the action on a machine that has nothing but the checkout."""
        subprocess.run(["rm", "-rf", str(self.workspace / "build")], check=True)
        job = self.runner().run(profile=str(self.profile), **given)
        assert not (self.workspace / "pwned").exists()
        return job

    def edgedeploy(self, *arguments: str | Path) -> int:
        """Run the command line as a user does; return the exit status."""
        command = [self.own.temp / "edgedeploy/bin/edgedeploy", *arguments]
        done = subprocess.run(
            list(map(str, command)), cwd=self.base, capture_output=True, encoding="utf-8"
        )
        assert done.returncode in (0, 1), done.stderr
        return done.returncode

    def build(self) -> int:
        """Build, and write the lock file; return the exit status."""
        return self.edgedeploy("build", self.path, "--no-bench", "--store", self.base / "store")

    def pack(self, name: str) -> None:
        """Put the user's store into GitHub's cache."""
        store = self.runner().temp / "edgedeploy-store"
        shutil.copytree(self.base / "store", store, symlinks=True)
        pack = ["tar", "-cf", self.service / f"edgedeploy-Linux-X64-{name}.tar"]
        pack += ["-C", self.workspace, "-P", os.path.relpath(store, self.workspace)]
        subprocess.run(list(map(str, pack)), check=True)

    def caches(self) -> list[str]:
        return sorted(file.name for file in self.service.glob("*.tar"))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that was built once: it has a lock file, and GitHub a cache of another name."""
    made = Project(tmp_path_factory.mktemp("action"))
    assert made.build() == 0
    made.pack("other-old")
    return made


@pytest.fixture(scope="module")
def first(project: Project) -> Job:
    """The first run of the action."""
    return project.action(requirements="needs.txt")


def stages(job: Job) -> set[str]:
    """Return how the stages of a build ended."""
    document = json.loads(Path(job.outputs["result"]).read_text(encoding="utf-8"))
    return {stage["state"] for stage in document["build"]["stages"]}


@pytest.mark.slow
def test_a_build_that_is_right(project: Project, first: Job) -> None:
    """Exit 0, the report in the summary, its paths in the outputs, the store in the cache."""
    assert first.failed is None, first.logs
    assert "installing" not in first.logs["Install edgedeploy"]
    assert first.outputs["exit-code"] == "0"
    assert first.outputs["folder"] == str(project.workspace / "build/tiny")
    assert first.summary.startswith("## edgedeploy: tiny, 1 accepted")
    assert "| linux-x86-64/ort" in first.summary
    assert "Verdict: 1 accepted" in first.logs["Summarise"]
    assert first.steps["Compare with the release"] == "skipped"
    assert not first.commands
    assert stages(first) == {"hit"}  # from the cache of another name
    assert len(project.caches()) == 2


@pytest.mark.slow
def test_the_next_run_builds_nothing_again(project: Project, first: Job) -> None:
    """Another machine, the same commit: all comes out of the cache, and none is written."""
    kept = project.caches()
    job = project.action(requirements="needs.txt")
    assert job.failed is None and stages(job) == {"hit"}
    packages = project.base / "temp/edgedeploy"
    assert list(packages.glob("lib/python*/site-packages/ofus.py"))
    assert job.steps["Save the store"] == "skipped"
    assert project.caches() == kept
    for path in (job.outputs["report"], job.outputs["result"]):
        assert Path(path).is_file()


@pytest.mark.slow
def test_a_gate_that_refuses(project: Project, first: Job) -> None:
    """Exit 1 at the target's line of the profile; what was built is reported and kept."""
    text, lock = project.path.read_text(), project.lock.read_text()
    project.path.write_text(text.replace("1 MB", "1 kB"))
    try:
        assert project.build() == 1
        job = project.action()
    finally:
        project.path.write_text(text)
        project.lock.write_text(lock)
    assert job.failed == "Verdict" and job.outputs["exit-code"] == "1"
    [told] = job.commands
    assert told.name == "error" and "gate size refused" in told.data
    assert told.properties["file"] == str(project.profile)
    assert told.properties["line"] == "11"
    assert "1 refused" in job.summary
    assert stages(job) == {"hit"}  # by the prefix of the key: gates are judged, not built
    assert job.steps["Save the store"] == "success" and len(project.caches()) == 3


@pytest.mark.slow
def test_a_release_that_was_better(project: Project, first: Job) -> None:
    """A model that lost a class passes its gates, and not the comparison with its release."""
    project.edgedeploy("keys", "new", project.base / "key")
    store = ("--store", project.base / "store")
    assert project.build() == 0
    assert project.edgedeploy("release", project.path, "--key", project.base / "key", *store) == 0
    [bundle] = project.base.glob("build/**/*.edpkg")
    model, lock = project.path.with_name("tiny.onnx"), project.lock.read_text()
    kept = model.read_bytes()
    save_model(model, worse=True)
    for file in project.service.glob("*.tar"):
        file.unlink()
    try:
        assert project.build() == 0
        project.pack("retrained")
        job = project.action(release=str(bundle), key=str(project.base / "key.pub"))
        project.edgedeploy("keys", "new", project.base / "other")
        unknown = project.action(release=str(bundle), key=str(project.base / "other.pub"))
    finally:
        model.write_bytes(kept)
        project.lock.write_text(lock)
    assert job.failed == "Verdict" and job.outputs["exit-code"] == "1"
    assert "tiny, 1 accepted" in job.summary and "against tiny 1.0.0" in job.summary
    assert "class 2" in job.summary.partition("against")[2]
    assert {command.properties["title"] for command in job.commands} == {"edgedeploy E001"}
    assert any("main linux-x86-64/ort: class 2:" in command.data for command in job.commands)
    assert job.steps["Save the store"] == "success"
    assert unknown.failed == "Verdict" and unknown.outputs["exit-code"] == "7"
    assert "not compared with the release\n\nExit status 7" in unknown.summary


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new", "code", "line"),
    [("targets:", "target:", "E104", "11"), ("name: tiny", "name: tony", "E182", None)],
    ids=["fault", "unlocked"],
)
def test_a_profile_that_is_refused(
    project: Project, first: Job, old: str, new: str, code: str, line: str | None
) -> None:
    """Exit 2 with its place; an older report of the folder is not shown, and nothing is saved."""
    kept, text = project.caches(), project.path.read_text()
    project.path.write_text(text.replace(old, new))
    try:
        job = project.action()
    finally:
        project.path.write_text(text)
    assert job.failed == "Verdict" and job.outputs["exit-code"] == "2"
    assert f"edgedeploy {code}" in {command.properties["title"] for command in job.commands}
    assert line is None or line in {command.properties["line"] for command in job.commands}
    assert job.summary.startswith("## edgedeploy: nothing was built\n\nExit status 2")
    assert job.outputs["folder"] == job.outputs["report"] == ""
    assert project.caches() == kept
    document = json.loads(Path(job.outputs["result"]).read_text(encoding="utf-8"))
    assert code in {item["code"] for item in document["diagnostics"]}


def test_another_system_is_refused(project: Project) -> None:
    """At once, in words, and no later step runs."""
    job = project.runner(system="Windows").run(profile=str(project.profile))
    assert job.failed == "Install edgedeploy"
    assert [command.name for command in job.commands] == ["error"]
    assert {state for name, state in job.steps.items() if name != job.failed} == {"skipped"}


def test_no_expression_stands_in_a_script() -> None:
    """What a user or a pull request names reaches bash as a variable, never as text of a script."""
    for step in STEPS:
        if "run" in step:
            assert "${{" not in step["run"], step["name"]
            used = set(re.findall(r"\$\{?([A-Z_]+)", step["run"]))
            given = {"RUNNER_TEMP", "RUNNER_OS", "PWD", "EDGEDEPLOY_STORE"}
            given |= {"GITHUB_ACTION_PATH", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"}
            assert used <= given | set(step.get("env", {})), step["name"]


def test_every_used_action_is_pinned_by_its_commit() -> None:
    """A tag can be moved. The comment tells people which release it is."""
    used = re.findall(r"uses: (\S+)(.*)", (ROOT / "action.yml").read_text(encoding="utf-8"))
    assert len(used) == sum("uses" in step for step in STEPS)
    for name, comment in used:
        assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", name)
        assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment)


def test_bash_reads_every_script(tmp_path: Path) -> None:
    for step in STEPS:
        if "run" in step:
            script = tmp_path / "step.sh"
            script.write_text(step["run"])
            subprocess.run([*BASH, "-n", str(script)], check=True)


def whole(block: str) -> str:
    """Return a block of the page as a workflow: some are only steps of one."""
    if block.startswith("name:"):
        return block
    return f"on: push\njobs:\n  job:\n    runs-on: ubuntu-24.04\n    steps:\n{block}"


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("actions", (ROOT / "action.yml").read_text(encoding="utf-8")),
        *(
            ("workflows", whole(block))
            for block in re.findall(
                r"^```yaml\n(.*?)^```$",
                (ROOT / "docs/github-action.md").read_text(encoding="utf-8"),
                re.M | re.S,
            )
        ),
    ],
)
def test_the_schema_of_github_accepts_it(kind: str, text: str) -> None:
    """By the schemas that check-jsonschema brings, which refuse one that is broken."""
    schemas = files("check_jsonschema") / "builtin_schemas/vendor"
    schema = json.loads((schemas / f"github-{kind}.json").read_text(encoding="utf-8"))
    judge = validator_for(schema)(schema)
    # YAML 1.1 reads the key `on` as a truth; GitHub's reader does not.
    plain = {"on" if key is True else key: value for key, value in yaml.safe_load(text).items()}
    assert not list(judge.iter_errors(plain))
    for key in plain.keys() & {"runs", "jobs"}:
        assert list(judge.iter_errors({**plain, key: {}}))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a.b-c == 'Yes'", True),
        ("a.b-c != 'yes' && a.e == ''", False),
        ("!(a.b-c == 'no') && (a.e == 'x' || a.e == '')", True),
        ("a.e || a.b-c", "yes"),
        ("'it''s'", "it's"),
        ("failure() || always()", True),
    ],
)
def test_expressions_are_those_of_github(text: str, value: Any) -> None:
    """Comparisons of text ignore the case; && and || return an operand."""
    assert evaluated(text, {"a": {"b-c": "yes", "e": ""}}) == value


@pytest.mark.parametrize(
    "text", ["a.f", "hashFiles('x')", "a.b-c == 1", "'x", "a.b-c a.e", "a[0]", "", "(a.e"]
)
def test_an_unknown_expression_is_an_error(text: str) -> None:
    """Never an empty value, which would skip a step in silence."""
    with pytest.raises(Unknown):
        evaluated(text, {"a": {"b-c": "yes", "e": ""}})
