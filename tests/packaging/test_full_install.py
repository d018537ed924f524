"""`pip install` of the wheel with everything it needs, in an environment of its own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

FILES = ("pyproject.toml", "LICENSE", "README.md")
FOLDERS = ("edgedeploy", "targets", "profiles", "requirements")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.environ.get("CI"), reason="needs CI: installs 850 MB"),
]


def test_the_checkout_installs_with_its_needs(tmp_path: Path) -> None:
    """The lock satisfies the metadata, and the command starts with nothing else installed."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    pip = [python, "-m", "pip", "-q", "install", "--no-compile", "--no-deps"]
    for lock in ("runtime", "build"):
        name = str(ROOT / "requirements" / f"{lock}.txt")
        subprocess.run([*pip, "--require-hashes", "-r", name], check=True, timeout=900)
    source = tmp_path / "source"
    source.mkdir()
    for name in (*FILES, *FOLDERS):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, symlinks=True)
        elif (ROOT / name).exists():
            shutil.copy(ROOT / name, source)
    subprocess.run([*pip, "--no-build-isolation", str(source)], check=True, timeout=300)
    subprocess.run([python, "-m", "pip", "check"], check=True, timeout=120)
    done = subprocess.run(
        [str(tmp_path / "venv" / "bin" / "edgedeploy"), "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
