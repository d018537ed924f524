"""What reruns after a change: exactly what depends on it, announced by ``plan`` in words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgedeploy.config.bundled import bundled_folder
from tests.proof.small import OPENVINO, ORT, PROFILE, SOURCE, Project

pytestmark = pytest.mark.slow

ORT_STAGES = {f"{ORT}.{kind}.{stage}" for kind in ("w8a8", "float") for stage in ("compile",)}
EVALUATED = {f"{t}.{kind}.evaluate" for t in (ORT, OPENVINO) for kind in ("w8a8",)}
LEARNED = {"calibrate", "moments"}
INT8 = {f"{t}.w8a8.{stage}" for t in (ORT, OPENVINO) for stage in ("quantize", "compile")}
INT8_EVALUATED = {f"{ORT}.w8a8.evaluate", f"{OPENVINO}.w8a8.evaluate"}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("rerun"))
    first = project.build_long()
    assert first.status == 0, first.err
    assert len(first.ran) == 16 and set(first.states.values()) == {"ran"}
    assert project.plan() == {}
    return project


@pytest.fixture
def project(built: Project) -> Iterator[Project]:
    """Give the built project, and undo what a test changed; hardly anything is to be run then.

    What user code opens is no part of the key, so only the newest run of `samples` is known.
    """
    kept = {path: path.read_bytes() for path in built.root.rglob("*") if path.is_file()}
    yield built
    for path in sorted(built.root.rglob("*"), reverse=True):
        if path.is_file() and path not in kept:
            path.unlink()
    for path, content in kept.items():
        if path.name != "edgedeploy.lock":
            path.write_bytes(content)
    assert built.build_long().ran <= {"samples.evaluate"}


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def announced_and_built(project: Project, first: str, why: str, **env: str) -> set[str]:
    """Check that ``plan`` says why ``first`` must run, build, and return what ran."""
    told = project.plan(**env)
    assert why in told.pop(first), told
    waiting = {node for node, reason in told.items() if reason.startswith("unknown until")}
    done = project.build_long(**env)
    assert done.status == 0, done.err
    # What was no hit and did not wait for another's outcome ran for certain.
    assert {first, *told} - waiting <= done.ran <= {first, *told}
    assert project.plan(**env) == {}
    return done.ran


def edit_sample(project: Project, value: float | None) -> None:
    """Change one value of a calibration sample; None flips its lowest bit."""
    path = project.root / "calibration" / "0.npy"
    sample = np.load(path)
    if value is None:
        near = np.abs(sample).argmin()  # far from both ends of the range
        sample.view(np.uint32).flat[near] ^= 1
    else:
        sample.flat[0] = value
    before = path.read_bytes()
    np.save(path, sample)
    changed = sum(a != b for a, b in zip(before, path.read_bytes(), strict=True))
    assert changed == 1 if value is None else changed > 0


def test_a_calibration_byte_that_moves_no_range(project: Project) -> None:
    edit_sample(project, None)
    ran = announced_and_built(project, "samples.calibrate", "input files changed")
    # `samples.evaluate` refuses samples of both roles, so it looks at the calibration samples.
    always = {"samples.calibrate", "samples.evaluate"} | LEARNED
    assert always <= ran <= always | INT8 | INT8_EVALUATED


def test_a_calibration_value_that_moves_the_ranges(project: Project) -> None:
    edit_sample(project, 50.0)
    ran = announced_and_built(project, "samples.calibrate", "input files changed")
    assert ran == {"samples.calibrate", "samples.evaluate"} | LEARNED | INT8 | INT8_EVALUATED


def test_a_new_calibration_file(project: Project) -> None:
    source = np.random.Generator(np.random.PCG64(9))
    sample = 0.1 * source.normal(size=(1, 3, 8, 8)).astype(np.float32)
    np.save(project.root / "calibration" / "empty" / "new.npy", sample)
    ran = announced_and_built(project, "samples.calibrate", "input files changed")
    assert {"samples.calibrate", "samples.evaluate"} | LEARNED <= ran


def test_a_line_of_user_code_with_the_same_outcome(project: Project) -> None:
    change(project.root / "data.py", "import helper_mod", "import helper_mod  # the same")
    ran = announced_and_built(project, "samples.evaluate", "input files changed")
    assert ran == {"samples.evaluate"}


def test_a_line_of_a_module_that_user_code_imports(project: Project) -> None:
    change(project.root / "helper_mod.py", "OFFSET = 0.0", "OFFSET = 0.1")
    ran = announced_and_built(project, "samples.evaluate", "helper_mod.py changed")
    assert ran == {"samples.evaluate", "reference"} | EVALUATED


def test_a_file_that_user_code_opens(project: Project) -> None:
    change(project.root / "factors.txt", "0.5", "0.6")
    ran = announced_and_built(project, "samples.evaluate", "factors.txt changed")
    assert ran == {"samples.evaluate", "reference"} | EVALUATED


def test_a_tool_version(project: Project, tmp_path: Path) -> None:
    (tmp_path / "flatbuffers-99.1.dist-info").mkdir()
    path = f"{tmp_path}:{SOURCE}"
    node = f"{ORT}.w8a8.compile"
    ran = announced_and_built(project, node, "-> 99.1", PYTHONPATH=path)
    assert ran == {n for n in ORT_STAGES | EVALUATED if n.startswith(ORT)}


def override(project: Project, part: str, old: str, new: str) -> None:
    """Give the project a target file of its own that differs in one place."""
    text = (bundled_folder() / "targets" / part).read_text()
    assert text.count(old) == 1
    own = project.root / "targets" / part
    own.parent.mkdir(parents=True, exist_ok=True)
    own.write_text(text.replace(old, new))


def test_a_target_field_that_a_stage_declared(project: Project) -> None:
    override(project, "runtimes/ort.yaml", 'versions: ">=1.17"', 'versions: ">=1.18"')
    node = f"{ORT}.w8a8.compile"
    ran = announced_and_built(project, node, "target field runtime.versions >=1.17 -> >=1.18")
    compiled = {f"{ORT}.{kind}.compile" for kind in ("w8a8", "float")}
    assert compiled <= ran <= compiled | {n for n in EVALUATED if n.startswith(ORT)}


def test_a_target_field_that_no_stage_declared(project: Project) -> None:
    before = project.lock()
    override(project, "boards/linux-x86-64.yaml", "title: Linux on x86-64", "title: Our box")
    assert project.plan() == {}
    done = project.build_long()
    assert (done.status, done.ran) == (0, set())
    after = project.lock()
    assert after["expanded"] != before["expanded"]
    assert after["artifacts"] == before["artifacts"]


def test_an_option_of_a_target(project: Project) -> None:
    styled = f"  {ORT}: {{options: {{optimization_style: runtime}}}}\n  {OPENVINO}:\n"
    project.profile.write_text(PROFILE.partition("targets:\n")[0] + "targets:\n" + styled)
    node = f"{ORT}.w8a8.compile"
    ran = announced_and_built(project, node, "options")
    assert ran == {n for n in ORT_STAGES | EVALUATED if n.startswith(ORT)}


def test_a_gate_changes_the_verdict_and_runs_nothing(project: Project) -> None:
    change(project.profile, "size: 1 MB", "size: 10 kB")
    assert project.plan() == {}
    done = project.build_long()
    assert (done.status, done.ran) == (1, set())
    assert "refused" in done.out


def test_a_comment_in_the_profile_runs_nothing(project: Project) -> None:
    before = project.lock()
    change(project.profile, "quantize: w8a8", "quantize: w8a8  # eight bits")
    assert project.plan() == {}
    done = project.build_long()
    assert (done.status, done.ran) == (0, set())
    assert project.lock() == before
