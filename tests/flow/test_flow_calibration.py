"""Calibration that is kept as a table, and left to NNCF, through the command line."""

from __future__ import annotations

import json
import re
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from running import Run, edgedeploy, targets_of
from zoo import MODELS, write_profile

pytestmark = pytest.mark.slow
OV = "intel-cpu/openvino"
TABLES = {"tables": "calibration"}
NEAREST = {"mode": "w8a8", "rounding": "nearest"}  # all that a table knows how to do


def profile_of(folder: Path, calibrate: Any = None, **words: Any) -> Path:
    """Write a profile of one small model; ``calibrate`` replaces its samples."""
    data = MODELS["pnet"]["data"]
    data = {**data, "calibrate": calibrate or data["calibrate"]}
    words = {"quantize": NEAREST, **words}
    return write_profile(folder, "p", {"main": {**MODELS["pnet"], "data": data}}, **words)


def codes(run: Run) -> set[str]:
    """The codes of the errors that the user sees."""
    return set(re.findall(r"error\[(E\d+)\]", run.err))


def build(profile: Path, store: Path, *arguments: str) -> Run:
    output = profile.parent / "build"
    words = ("--no-bench", "--json", *arguments)
    return edgedeploy("build", profile, "-o", output, "--store", store, *words)


def artifacts(folder: Path) -> dict[str, bytes]:
    place = folder / "build/p/main"
    return {str(p.relative_to(place)): p.read_bytes() for p in place.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, store: Path) -> Path:
    """The project folder of a build with samples."""
    folder = tmp_path_factory.mktemp("measured")
    assert build(profile_of(folder), store).code == 0
    return folder


def test_a_kept_table_makes_the_same_bytes_without_the_samples(
    measured: Path, tmp_path: Path
) -> None:
    """In a store of its own, and with no word of where the samples are."""
    shutil.copytree(measured / "build/p/calibration", tmp_path / "calibration")
    profile = profile_of(tmp_path, TABLES)
    run = build(profile, tmp_path / "store")
    assert run.code == 0, run.err
    stages = {stage["kind"] for stage in run.document["build"]["stages"]}
    assert "table" in stages and "calibrate" not in stages
    ids = {stage["id"] for stage in run.document["build"]["stages"]}
    assert "main.samples.evaluate" in ids and "main.samples.calibrate" not in ids
    assert artifacts(tmp_path) == artifacts(measured)
    lock = json.loads((tmp_path / "edgedeploy.lock").read_text())
    assert lock["profiles"]["p"]["data"].keys() == {"main.table", "main.samples.evaluate"}
    # What was taken is given again, so that a build folder is complete.
    tables = [place / "calibration/main.json" for place in (tmp_path, tmp_path / "build/p")]
    assert tables[0].read_bytes() == tables[1].read_bytes()
    # One that goes missing from the build folder is written again.
    tables[1].unlink()
    assert build(profile, tmp_path / "store").code == 0
    assert tables[0].read_bytes() == tables[1].read_bytes()


def test_tables_that_do_not_fit_are_refused(measured: Path, tmp_path: Path, store: Path) -> None:
    table = tmp_path / "calibration/main.json"
    profile = profile_of(tmp_path, TABLES)
    missing = build(profile, store)
    assert (missing.code, codes(missing)) == (2, {"E263"})
    shutil.copytree(measured / "build/p/calibration", table.parent)
    good = table.read_text()
    table.write_text(good.replace('"samples": ', '"samples": 1'))
    damaged = build(profile, store)
    assert (damaged.code, codes(damaged)) == (2, {"E263"})
    table.write_text(good)
    other = {**MODELS["pnet"], "inputs": {"input_1": {"shape": [1, 64, 80, 3]}}}
    other["data"] = {"calibrate": TABLES}
    changed = build(write_profile(tmp_path, "p", {"main": other}, quantize="w8a8"), store)
    assert (changed.code, codes(changed)) == (2, {"E263"})
    assert json.loads(good)["model"][:16] in changed.err


def test_rounding_that_needs_samples_is_nearest_without_them(
    measured: Path, tmp_path: Path, store: Path
) -> None:
    shutil.copytree(measured / "build/p/calibration", tmp_path / "calibration")
    assert build(profile_of(tmp_path, TABLES, quantize="w8a8"), store).code == 0
    assert artifacts(tmp_path) == artifacts(measured)
    words = {"mode": "w8a8", "rounding": "second-order"}
    run = build(profile_of(tmp_path, TABLES, quantize=words), store)
    assert (run.code, codes(run)) == (2, {"E166"})


def test_what_was_calibrated_on_is_not_evaluated_on(
    measured: Path, tmp_path: Path, store: Path
) -> None:
    """The table knows its samples, though it does not hold them."""
    shutil.copytree(measured / "build/p/calibration", tmp_path / "calibration")
    data = {"calibrate": TABLES, "evaluate": MODELS["pnet"]["data"]["calibrate"]}
    model = {**MODELS["pnet"], "data": data}
    run = build(write_profile(tmp_path, "p", {"main": model}, quantize="w8a8"), store)
    assert (run.code, codes(run)) == (2, {"E294"})


@pytest.mark.skipif(find_spec("nncf") is None, reason="needs NNCF")
def test_nncf_quantizes_for_openvino(tmp_path: Path, store: Path) -> None:
    words = {"mode": "w8a8", "method": "nncf"}
    run = build(profile_of(tmp_path, quantize=words, targets=[OV]), store)
    assert run.code == 0, run.err
    said = targets_of(tmp_path / "build/p")["main", OV]
    assert said["chosen"] == "w8a8-nncf"
    assert "nncf" in run.document["build"]["tools"]
    stages = run.document["build"]["stages"]
    assert not {"calibrate", "moments"} & {
        item["kind"] for item in stages if item["state"] == "ran"
    }
    # Without the package, which an import hook hides, the way out is named.
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(
        "import os\nfull = os.listdir\n"
        "os.listdir = lambda *at: [n for n in full(*at) if not str(n).startswith('nncf')]\n"
    )
    hidden = edgedeploy(
        *("build", tmp_path / "p.yaml", "-o", tmp_path / "other", "--store", store, "--json"),
        PYTHONPATH=f"{tmp_path / 'site'}:{Path(__file__).parents[2]}",
    )
    assert (hidden.code, codes(hidden)) == (5, {"E501"})
    assert "edgedeploy[nncf]" in hidden.err
