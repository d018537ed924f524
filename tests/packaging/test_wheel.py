"""The wheel: exactly what it should hold, and it works where the checkout is not."""

import email
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import edgedeploy

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "edgedeploy"
DATA = ("targets", "profiles")

pytestmark = pytest.mark.slow


def expected_files() -> set[str]:
    """Return what a wheel must hold besides its metadata, as the checkout has it."""
    files = {path for path in PACKAGE.rglob("*.py") if "_data" not in path.parts}
    files |= {path for path in (PACKAGE / "native").iterdir() if path.suffix in (".c", ".h")}
    files |= set((PACKAGE / "devices").rglob("*.sh"))
    files |= set((PACKAGE / "release/formats/cmake_files").iterdir())
    files |= set((PACKAGE / "release").rglob("*.js"))
    files |= set((PACKAGE / "release/java").glob("*.java"))
    files |= set((PACKAGE / "release/formats/swift_files").rglob("*.swift"))
    names = {path.relative_to(ROOT).as_posix() for path in files} | {"edgedeploy/py.typed"}
    for folder in DATA:
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".yaml", ".py"):
                names.add(f"edgedeploy/_data/{path.relative_to(ROOT).as_posix()}")
    return names


def build(source: Path, kind: str, out: Path) -> Path:
    """Build a source tree without isolation: setuptools is in the lock."""
    command = [sys.executable, "-m", "build", "--no-isolation", f"--{kind}", "--outdir", str(out)]
    run = subprocess.run([*command, str(source)], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stdout + run.stderr
    return next(out.glob("*.whl" if kind == "wheel" else "*.tar.gz"))


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An sdist built from a copy, so that the checkout gets no build folders."""
    copy = tmp_path_factory.mktemp("source") / "edgedeploy"
    unwanted = shutil.ignore_patterns(".git", ".venv*", ".*_cache", "__pycache__", "node_modules")
    shutil.copytree(ROOT, copy, symlinks=True, ignore=unwanted)
    return build(copy, "sdist", tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from the unpacked sdist, as an installer does that finds no wheel."""
    source = tmp_path_factory.mktemp("unpacked")
    subprocess.run(["tar", "-xf", sdist, "-C", source], check=True)
    return build(next(source.iterdir()), "wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the wheel installed.

    The run-time packages come from this environment by a path file; test_full_install.py
    installs them.
    """
    venv = tmp_path_factory.mktemp("installed") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    python = venv / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps"]
    subprocess.run([*pip, "--no-index", str(wheel)], check=True, timeout=120)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    # Path files inside these folders are not read, so an editable install stays out.
    folders = sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    (venv / "lib" / version / "site-packages" / "rest.pth").write_text("\n".join(folders) + "\n")
    return python


def run(python: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the installed interpreter far from the checkout."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [str(python), *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_wheel_holds_exactly_the_package_and_its_data(wheel: Path) -> None:
    """No test, no cache, no stray file; nothing forgotten."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == expected_files()


def test_the_sdist_can_be_built_and_names_no_folder_of_this_machine(sdist: Path) -> None:
    """What building needs is in it; links were followed."""
    with tarfile.open(sdist) as archive:
        members = archive.getmembers()
    names = {member.name.partition("/")[2] for member in members}
    assert {"pyproject.toml", "LICENSE", "requirements/runtime.in"} <= names
    assert expected_files() <= names
    assert not [member.name for member in members if member.issym() or member.islnk()]


def test_the_metadata(wheel: Path) -> None:
    """One version, the licence, and the one list of run-time needs."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(name))
    assert metadata["Version"] == edgedeploy.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    lines = (ROOT / "requirements" / "runtime.in").read_text().splitlines()
    wanted = {Requirement(line).name for line in lines if line and not line.startswith("#")}
    needs = [Requirement(line) for line in metadata.get_all("Requires-Dist")]
    assert {need.name for need in needs if need.marker is None} == wanted
    extras = {"tensorrt", "tensorrt-rtx", "nncf", "native", "zstd", "all"}
    assert set(metadata.get_all("Provides-Extra")) == extras


def test_versions_are_written_down_once() -> None:
    """In edgedeploy/__init__.py; nothing else repeats the number."""
    text = (ROOT / "pyproject.toml").read_text()
    assert f'"{edgedeploy.__version__}"' not in text
    assert edgedeploy.__version__ in (ROOT / "CHANGELOG.md").read_text()


def test_the_installed_package_is_the_wheels(installed: Path, tmp_path: Path) -> None:
    """Imported from an empty folder, it is not the checkout."""
    done = run(installed, "-c", "import edgedeploy; print(edgedeploy.__file__)", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(installed.parents[1])


@pytest.mark.parametrize(
    "arguments", [("--help",), ("--version",), ("targets", "list"), ("profiles", "list")]
)
def test_the_installed_command(installed: Path, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """Its data comes with it: an empty folder is enough."""
    command = installed.parent / "edgedeploy"
    done = subprocess.run([command, *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    if arguments[-1] == "list":
        ids = {path.stem for path in (ROOT / arguments[0]).rglob("*.yaml")}
        assert ids and all(name in done.stdout for name in ids)
