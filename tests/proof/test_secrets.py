"""What is secret around a build stands in nothing that it writes or says."""

from __future__ import annotations

import gzip
import os
import shutil
from pathlib import Path

import pytest

from tests.proof.small import PROFILE, Project

pytestmark = pytest.mark.slow

# Assembled, so that no canary stands in this file's own traceback or listing as a whole.
CANARIES = {
    "AWS_SECRET_ACCESS_KEY": "canary-" + "aws-5fd1",
    "HF_TOKEN": "canary-" + "hub-77aa",
    "GITHUB_TOKEN": "canary-" + "git-91ce",
    "EDGEDEPLOY_SIGNING_PASSWORD": "canary-" + "sign-0b0b",
}
PATH_CANARY = "canary-" + "path-4242"
COMMENT_CANARY = "canary-" + "comment-1313"


def test_canaries_stand_nowhere(tmp_path: Path) -> None:
    """Secrets of the environment are not kept, nor the private place where data lies."""
    project = Project(tmp_path / "base", env=CANARIES)
    private = tmp_path / f"https:__user:{PATH_CANARY}@data.example" / "samples"
    shutil.copytree(project.root / "calibration", private)
    project.profile.write_text(
        PROFILE.replace("    calibrate: calibration\n", "    calibrate: {}\n")
    )
    (project.root / "data.yaml").write_text(f"# {COMMENT_CANARY}\ncalibrate: '{private}'\n")
    said = []
    for more in (("-v", "--debug"), ("--json",), ()):
        done = project.build_long(*more)
        assert done.status == 0, done.err
        said += [done.out, done.err]
    broken = project.root / "helper_mod.py"
    broken.write_text(broken.read_text().replace("values * factor", "values * nothing"))
    done = project.build_long("--debug")
    assert done.status != 0 and "nothing" in done.err
    said += [done.out, done.err]
    said.append(project.run(project.arguments("plan", "--expand")).out)
    wanted = [value.encode() for value in (*CANARIES.values(), COMMENT_CANARY)]
    for canary in wanted:
        assert not [text for text in said if canary.decode() in text], canary
        assert holding(project.base, canary, without=project.root / "data.yaml") == []
    # The place of the data is the user's own business: the store may remember where it looked, but
    # nothing that is passed on names it.
    assert not [text for text in said if PATH_CANARY in text]
    place = PATH_CANARY.encode()
    for folder in (project.output, project.root):
        assert holding(folder, place, without=project.root / "data.yaml") == []
    assert b"canary" not in (project.base / "events.jsonl").read_bytes()


def holding(folder: Path, needle: bytes, without: Path) -> list[str]:
    """Return the files below a folder that hold some bytes, compressed or not."""
    found = []
    for base, _, names in os.walk(folder):
        for name in names:
            path = Path(base, name)
            content = path.read_bytes()
            if content[:2] == b"\x1f\x8b":
                content += gzip.decompress(content)
            if path != without and needle in content:
                found.append(str(path.relative_to(folder)))
    return found
