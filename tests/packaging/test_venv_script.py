"""requirements/venv.sh: reuse, renewal, and what it says and does when the system lacks something.

It runs in a small checkout with an empty lock, so nothing is downloaded.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "requirements" / "venv.sh"

pytestmark = pytest.mark.slow


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with one lock that asks for nothing, at a path with a space."""
    folder = tmp_path / "a checkout"
    (folder / "requirements").mkdir(parents=True)
    (folder / "requirements" / "none.txt").write_text("# nothing\n")
    shutil.copy(SCRIPT, folder / "requirements")
    return folder


def run(checkout: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the script for the empty lock."""
    return subprocess.run(
        ["sh", "requirements/venv.sh", "env", "none"],
        cwd=checkout,
        env={**os.environ, "PYTHON": sys.executable, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def program(path: Path, text: str) -> None:
    """Write an executable script."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_an_environment_is_reused_until_something_changed(checkout: Path) -> None:
    """Seen by an interpreter of the same version that cannot make a new one."""
    assert run(checkout).returncode == 0
    cannot = lacking(checkout, user=1000)
    again = run(checkout, **cannot)
    assert (again.returncode, again.stderr) == (0, "")

    lock = checkout / "requirements" / "none.txt"
    lock.write_text("# nothing, in other words\n")
    assert "cannot make an environment" in run(checkout, **cannot).stderr
    lock.write_text("# nothing\n")
    assert run(checkout, **cannot).returncode == 0

    # The scripts in an environment name the interpreter by its path.
    moved = checkout.rename(checkout.with_name("moved"))
    cannot = {name: value.replace(str(checkout), str(moved)) for name, value in cannot.items()}
    assert "cannot make an environment" in run(moved, **cannot).stderr


def test_no_suitable_python_is_said(checkout: Path) -> None:
    """With what to do; no half-made environment is left."""
    program(checkout / "old", "echo 3.10")
    done = run(checkout, PYTHON=str(checkout / "old"))
    assert done.returncode == 1
    assert "no Python 3.11, 3.12 or 3.13 found" in done.stderr
    assert "apt-get install python3 python3-venv" in done.stderr
    assert not (checkout / "env").exists()


def lacking(checkout: Path, user: int) -> dict[str, str]:
    """Return an environment in which Python lacks ensurepip until apt-get brings it."""
    tools = checkout / "tools"
    tools.mkdir()
    here = f"'{checkout}/installed'"
    program(tools / "id", f"echo {user}")
    program(tools / "apt-get", f'case "$*" in *install*-venv*) echo "$@" >{here} ;; esac')
    lack = f'case "$2" in *ensurepip*) [ -f {here} ] || exit 1 ;; esac'
    program(tools / "python", f'{lack}\nexec "{sys.executable}" "$@"')
    return {"PATH": f"{tools}:{os.environ['PATH']}", "PYTHON": str(tools / "python")}


def test_root_installs_what_the_system_lacks(checkout: Path) -> None:
    """By apt-get, the package of that very Python."""
    done = run(checkout, **lacking(checkout, user=0))
    assert done.returncode == 0, done.stderr
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert f"python{version}-venv" in (checkout / "installed").read_text()
    assert (checkout / "env" / "bin" / "python").exists()


def test_others_are_told_what_to_install(checkout: Path) -> None:
    """No sudo behind the user's back."""
    done = run(checkout, **lacking(checkout, user=1000))
    assert done.returncode == 1
    assert "sudo apt-get install python3." in done.stderr
    assert not (checkout / "installed").exists()
    assert not (checkout / "env").exists()
