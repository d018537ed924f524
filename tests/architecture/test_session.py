"""What tests/conftest.py promises, seen from a run of its own."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

CONFTEST = Path(__file__).parents[1] / "conftest.py"


def run(folder: Path, body: str, *arguments: str, ci: str = "") -> subprocess.CompletedProcess[str]:
    """Run pytest on one test file under a copy of our conftest."""
    tests = folder / "tests"
    tests.mkdir(exist_ok=True)
    shutil.copy(CONFTEST, tests)
    (tests / "test_it.py").write_text(f"import os\nimport pytest\n\n\ndef test_it():\n{body}")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments, str(tests)],
        cwd=folder,
        # The conftest's fixtures are those of the checkout, as tests.lab.
        env={
            **os.environ,
            "CI": ci,
            "EDGEDEPLOY_STORE": "/the/users/store",
            "PYTHONPATH": str(CONFTEST.parents[1]),
        },
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("arguments", [(), ("-n", "1")], ids=["alone", "xdist"])
def test_ci_refuses_a_skip_that_no_machine_explains(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    """The run fails and names it; elsewhere it passes."""
    body = "    pytest.skip('did not feel like it')\n"
    done = run(tmp_path, body, *arguments, ci="true")
    assert done.returncode == 1
    assert "test_it.py::test_it: did not feel like it" in done.stdout
    assert run(tmp_path, body, *arguments).returncode == 0


def test_ci_allows_a_skip_for_what_the_machine_lacks(tmp_path: Path) -> None:
    """By the words that the reason begins with."""
    assert run(tmp_path, "    pytest.skip('needs macOS')\n", ci="true").returncode == 0


def test_the_longest_files_are_collected_first(tmp_path: Path) -> None:
    """Each of them exists; the others keep their order behind them."""
    text = CONFTEST.read_text()
    names = ast.literal_eval(text.partition("LONGEST_FIRST = ")[2].partition(")\n")[0] + ")")
    assert names and all((CONFTEST.parent / name).is_file() for name in names)
    for name in ("a/test_a.py", *sorted(names)):
        path = tmp_path / "tests" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("def test_it():\n    pass\n")
    done = run(tmp_path, "    pass\n", "--collect-only")
    found = [line.partition("::")[0] for line in done.stdout.splitlines() if "::" in line]
    assert found == [f"tests/{name}" for name in (*names, "a/test_a.py", "test_it.py")]


def test_no_tests_is_no_success(tmp_path: Path) -> None:
    """Exit status 5 stays what it is."""
    assert run(tmp_path, "    pass\n", "-k", "nothing", ci="true").returncode == 5


def test_tests_are_away_from_the_users_home(tmp_path: Path) -> None:
    """Home, caches and store are private to the run and gone after it."""
    names = ("HOME", "XDG_CACHE_HOME", "EDGEDEPLOY_STORE")
    body = f"    open('said', 'w').write('\\n'.join(os.environ[name] for name in {names}))\n"
    body += (
        "    os.mkdir(os.environ['EDGEDEPLOY_STORE'])\n    os.chmod(os.environ['HOME'], 0o500)\n"
    )
    assert run(tmp_path, body).returncode == 0
    said = [Path(line) for line in (tmp_path / "said").read_text().splitlines()]
    assert all(path.parent.name.startswith("edgedeploy-tests-") for path in said)
    assert not said[0].parent.exists()


def test_folders_with_their_own_command_are_left_out_unless_named(tmp_path: Path) -> None:
    """`make test` runs neither the torch tests nor the soak."""
    apart = tmp_path / "tests" / "soak"
    apart.mkdir(parents=True)
    (apart / "test_long.py").write_text("def test_long():\n    raise SystemError\n")
    assert run(tmp_path, "    pass\n").returncode == 0
    assert run(tmp_path, "    pass\n", str(apart)).returncode == 1
