"""Every example builds, and its application answers as the build's evaluation said it would."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
MADE = shutil.ignore_patterns(
    "images",
    "recordings",
    "truth.json",
    "names.txt",
    "*.csv",
    "*.onnx",
    "edgedeploy.lock",
    "build",
    "__pycache__",
)

pytestmark = pytest.mark.slow


class Example:
    """A copy of an example without anything that it made before, in a home of its own."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder / name
        self.private = folder / "private"
        shutil.copytree(EXAMPLES / name, self.folder, ignore=MADE)
        self.private.mkdir()

    def python(self, *arguments: str | Path, env: dict[str, str] | None = None) -> str:
        """Run the interpreter in the example's folder; return what it printed."""
        place = str(self.private)
        done = subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=self.folder,
            env={
                **{key: os.environ[key] for key in os.environ if key != "ORT_DISABLE_TELEMETRY"},
                **{"HOME": place, "TMPDIR": place, "XDG_CACHE_HOME": place},
                **{"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"},
                **(env or {}),
            },
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def build(self, *sets: str) -> dict[str, dict]:
        """Build the profile; return each target's part of build.json."""
        options = [item for value in sets for item in ("--set", value)]
        arguments = ["build", "profile.yaml", "--no-bench", "--store", "store", *options]
        self.python("-m", "edgedeploy", *arguments, env={"PYTHONPATH": str(ROOT)})
        document = json.loads((self.folder / "build" / self.name / "build.json").read_text())
        (model,) = document["models"]
        return {target["target"]: target for target in model["targets"]}

    def app(self, target: str, files: list[Path], *options: str) -> dict[str, list[str]]:
        """Run the application on a target's published artifact; return its lines by file name."""
        published = self.folder / "build" / self.name / "main" / target
        (model,) = (*published.glob("model.ort"), *published.glob("model.xml"))
        found = defaultdict(list)
        for line in self.python("app.py", *options, model, *files).splitlines():
            name, _, answer = line.rpartition(": ")
            found[Path(name).name].append(answer)
        assert list(self.private.iterdir()) == [], "something was written outside"
        return found


def value(target: dict) -> float:
    """Return the metric of a target's artifact; it must have been accepted."""
    assert target["verdict"] == "accepted"
    return target["evaluation"]["metric"]["value"]


def test_file_type(tmp_path: Path) -> None:
    """The share of files whose type the application names rightly is the metric's value."""
    example = Example("file-type", tmp_path)
    targets = example.build(
        "model.data.calibrate.parameters.files=48", "model.data.evaluate.parameters.files=96"
    )
    assert set(targets) == {"linux-arm64/ort", "rpi5/ort", "linux-x86-64/ort"}
    example.python("files.py", "files", "96")
    files = sorted((example.folder / "files").iterdir())
    for name, target in targets.items():
        answers = example.app(name, files)
        right = sum(answers[path.name][0].split()[0] == path.suffix[1:] for path in files)
        assert right / 96 == pytest.approx(value(target)) and right > 85


def test_digits(tmp_path: Path) -> None:
    """Each number format on each runtime: the application's hits are the metric's."""
    example = Example("digits", tmp_path)
    example.python("train.py")
    targets = example.build()
    formats = {name: target["chosen"] for name, target in targets.items()}
    assert formats == {
        "linux-x86-64/ort": "w8a8",
        "rpi4/ort": "w8a8",
        "android-arm64/ort": "fp16",
        "intel-cpu/openvino": "w8a8",
    }
    with open(example.folder / "labels.csv", newline="") as file:
        truth = {row["file"]: row["label"] for row in csv.DictReader(file)}
    files = sorted((example.folder / "images/evaluate").iterdir())
    for name, target in targets.items():
        answers = example.app(name, files)
        right = sum(answers[file] == [label] for file, label in truth.items())
        assert right / len(truth) == pytest.approx(value(target)) and right > 470


@pytest.mark.parametrize("name", ["detector", "file-type", "digits", "voice-activity"])
def test_the_readme_names_what_exists(name: str) -> None:
    """Every path of this checkout in an example's README is there, and it shows a real table."""
    text = (EXAMPLES / name / "README.md").read_text()
    named = set(re.findall(r"\bexamples/[\w./-]*\w", text))
    assert f"examples/{name}/profile.yaml" in named
    made = {f"examples/{item}/images/evaluate" for item in ("detector", "digits")}
    made.add("examples/voice-activity/recordings")
    for path in named:
        assert (ROOT / path).exists() or any(path.startswith(item) for item in made), path
    assert f"{name}: built " in text
