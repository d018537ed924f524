"""Built and released twice, by two environments in two folders: the same lock, the same bytes."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edgedeploy.release.keys import new_key
from tests.proof.small import Project

pytestmark = pytest.mark.slow

UMASKED = "import os, sys; os.umask(int(sys.argv[1], 8)); os.execvp(sys.argv[2], sys.argv[2:])"


def built(project: Project, umask: str, *prefix: str) -> None:
    """Build a project under a umask, and check that nothing appears outside of its folders."""
    before = listing(project)
    command = [*prefix, sys.executable, "-c", UMASKED, umask, *project.arguments("build")]
    done = project.run(command)
    assert done.status == 0, done.err
    assert listing(project) == before
    names = {path.name for path in project.base.iterdir()}
    assert names == {"home", "tmp", "out", "store", project.root.name}


def listing(project: Project) -> set[str]:
    """Return every name in the project, its home and its temporary folder, without the lock."""
    places = (project.root, project.home, project.tmp)
    found = {str(path) for place in places for path in place.rglob("*")}
    return found - {str(project.root / "edgedeploy.lock")}


def releasable(project: Project) -> None:
    """Give a project's profile what a release asks for."""
    text = project.profile.read_text()
    text = text.replace("name: small", 'name: small\nversion: "1.0.0"')
    project.profile.write_text(text.replace("  metric:", "  licence: MIT\n  metric:"))


def released(project: Project, key: Path, umask: str) -> dict[str, bytes]:
    """Release a project with all packages; return the content of every file that was written."""
    verb = ["release", "-o", str(project.output), "--key", str(key), "--format", "all"]
    verb += ["--openssf-key", str(key.with_name("openssf"))]
    command = [sys.executable, "-c", UMASKED, umask, *project.arguments(*verb)]
    done = project.run(command, SOURCE_DATE_EPOCH="1700000000")
    assert done.status == 0, done.err
    folder = project.output / "small"
    own = (folder / f"small-1.0.0.{suffix}" for suffix in ("edpkg", "model.sig"))
    files = [*own, *(folder / "packages").rglob("*")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if path.is_file()}


def new_model_key(place: Path) -> None:
    """Write a key for OpenSSF Model Signing."""
    place.touch(mode=0o600)
    place.write_bytes(
        ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


def test_two_environments_make_the_same_bytes(tmp_path: Path) -> None:
    one = Project(
        tmp_path / "one",
        "app",
        {"PYTHONHASHSEED": "1", "LC_ALL": "C", "TZ": "Pacific/Kiritimati", "OMP_NUM_THREADS": "1"},
    )
    two = Project(
        tmp_path / "another user" / "deeper",
        "the same project, elsewhere",
        {
            "PYTHONHASHSEED": "4242",
            "LC_ALL": "de_DE.UTF-8",
            "LANGUAGE": "de",
            "TZ": "America/St_Johns",
            "OMP_NUM_THREADS": "2",
            "COLUMNS": "40",
            "ORT_DISABLE_TELEMETRY": "0",
        },
    )
    for project in (one, two):
        releasable(project)
    built(one, "077")
    no_aslr = shutil.which("setarch")
    prefix = [no_aslr, "-R"] if no_aslr and randomisation_can_be_switched_off(no_aslr) else []
    built(two, "022", *prefix)
    lock = (one.root / "edgedeploy.lock").read_bytes()
    assert lock == (two.root / "edgedeploy.lock").read_bytes()
    assert one.published() == two.published()
    ort = [name for name in one.published() if name.endswith(".ort")]
    assert len(ort) == 1
    for item, files in one.lock()["artifacts"].items():  # type: ignore[attr-defined]
        place = item.partition(" -> ")[2]
        for name, sha256 in files.items():
            content = two.published()[f"{place}/{name}"]
            assert hashlib.sha256(content).hexdigest() == sha256
    new_key(tmp_path / "key")
    new_model_key(tmp_path / "openssf")
    bundles = released(one, tmp_path / "key", "022")
    assert bundles == released(two, tmp_path / "key", "077")
    assert {name.split("/")[0] for name in bundles} == {
        *("small-1.0.0.edpkg", "small-1.0.0.model.sig"),
        "packages",
    }
    # The lock of the first holds the second one to its word, in a third store.
    (two.root / "edgedeploy.lock").write_bytes(lock)
    two.store = tmp_path / "third store"
    again = two.build("--locked")
    assert again.status == 0, again.err
    assert (two.root / "edgedeploy.lock").read_bytes() == lock


def randomisation_can_be_switched_off(tool: str) -> bool:
    return subprocess.run([tool, "-R", "true"], capture_output=True, check=False).returncode == 0


def test_importing_openvino_in_the_loop_writes_and_reports_nothing(tmp_path: Path) -> None:
    """``loop.py`` runs alone on a device: it has to keep openvino quiet by itself."""
    home = tmp_path / "home"
    home.mkdir()
    script = (
        "import sys; sys.argv = ['loop']; import importlib.util as u\n"
        "spec = u.spec_from_file_location('loop', sys.path.pop() + '/edgedeploy/bench/loop.py')\n"
        "loop = u.module_from_spec(spec); spec.loader.exec_module(loop)\n"
        "try: loop.runtimes.OpenVinoSession({'threads': 1, 'options': {}}, '/no/model.xml')\n"
        "except Exception as error: print(type(error).__name__)\n"
        "print(sys.modules['openvino_telemetry'], 'openvino' in sys.modules)\n"
    )
    source = Path(__file__).parents[2]
    script = f"import sys; sys.path.append({str(source)!r})\n{script}"
    env = {**os.environ, "HOME": str(home), "TMPDIR": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=env, capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[-1:] == ["None True"], done.stdout + done.stderr
    assert list(home.iterdir()) == []
