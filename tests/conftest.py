"""What holds for every test: one thread, no telemetry, a home of its own, no silent skips."""

import atexit
import gc
import os
import shutil
import sys
import tempfile
from pathlib import Path

# All of this before anything heavy is imported: it is read at import.
PRIVATE = Path(tempfile.mkdtemp(prefix="edgedeploy-tests-"))
OWN_HOME = os.environ.get("HOME", "")
for name in [
    name for name in os.environ if name.startswith("EDGEDEPLOY_") and "GOLDEN" not in name
]:
    del os.environ[name]
os.environ.update(
    {
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "ORT_DISABLE_TELEMETRY": "1",
        "HOME": str(PRIVATE / "home"),
        "XDG_CACHE_HOME": str(PRIVATE / "cache"),
        "XDG_CONFIG_HOME": str(PRIVATE / "config"),
        "XDG_DATA_HOME": str(PRIVATE / "data"),
        "EDGEDEPLOY_STORE": str(PRIVATE / "store"),
        # pip's own cache and settings are the user's: what tests install is not fetched again.
        "PIP_CACHE_DIR": os.environ.get("PIP_CACHE_DIR", str(Path(OWN_HOME, ".cache/pip"))),
    }
)
if Path(OWN_HOME, ".config/pip/pip.conf").exists():
    os.environ.setdefault("PIP_CONFIG_FILE", str(Path(OWN_HOME, ".config/pip/pip.conf")))
for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
    os.environ.pop(name, None)
(PRIVATE / "home").mkdir()
# `python3` is the program itself: pyenv and its like put shell scripts there that take ten
# processes to find it, and stand-ins for devices start it thousands of times.
(PRIVATE / "bin").mkdir()
(PRIVATE / "bin/python3").symlink_to(Path(sys.executable).resolve())
os.environ["PATH"] = os.pathsep.join([str(PRIVATE / "bin"), os.environ.get("PATH", os.defpath)])

import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

CI = os.environ.get("CI", "") not in ("", "0", "false")

# The machine is shared and slow at times, so no example has a deadline; CI repeats itself.
settings.register_profile("edgedeploy", deadline=None, derandomize=CI)
settings.load_profile("edgedeploy")

# What a machine that runs CI may lack; a skip for any other reason fails the run there.
ALLOWED_SKIPS = (
    "needs macOS",
    "needs an arm64 host",
    "needs a GPU",
    "needs an NPU",
    "needs a device",
    "needs OpenSSH server",
    "needs Linux",
    "needs root",
    "needs an SSH server",
    "needs rsync",
    "needs no root",
    "needs FUSE",
    "needs a cgroup",
    "needs a browser",
    "needs CI",
    "needs TensorRT for RTX",  # Linux x86-64 alone has it
    "needs NNCF",  # its NumPy is older than the one locked for Python 3.12 and newer
    "needs a C compiler",
    "needs Python 3.11 or 3.12",  # the oldest ONNX Runtime has no build for a newer one
)

# For tests on devices; each capability that these need is tried when the first test asks for it.
pytest_plugins = ("tests.lab.fixtures",)

# Where such tests are: a run that includes one of these says first what the machine can do.
ON_DEVICES = ("lab", "device")

# Files that take longest, the longest first: started last, one would leave every other processor
# idle to its end.
LONGEST_FIRST = (
    "device/test_lab_arm64.py",
    "lab/test_lab_devices.py",
    "flow/test_flow_models.py",
    "device/test_lab_push.py",
    "device/test_device_verbs.py",
    "device/test_device_bench.py",
    "device/test_tensorrt_device.py",
    "flow/test_flow_nasty.py",
)

# Folders with a command of their own; collected only when named on the command line.
APART = ("with_torch", "soak")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out the folders that `make test` does not run."""
    if collection_path.parent == Path(__file__).parent and collection_path.name in APART:
        named = (Path(argument.partition("::")[0]).resolve() for argument in config.args)
        if not any(path.is_relative_to(collection_path) for path in named):
            return True
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; `--no-loadscope-reorder` keeps pytest-xdist from sorting again.

    By the number of their tests, that is: what takes minutes for five of them would come last.
    """
    here = Path(__file__).parent
    place = {here / name: number for number, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


_frozen: set[Path] = set()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Take what lies in memory when a file's tests begin out of the collector's sight.

    A process that imported hundreds of test files holds a million objects, and coremltools
    collects garbage after each conversion: it looked at all of them each time, and found none.
    """
    if item.path not in _frozen:
        _frozen.add(item.path)
        gc.collect()
        gc.freeze()


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say what this machine can do, when tests that depend on it are going to run."""
    from tests.lab import capabilities

    here = Path(__file__).parent
    named = [Path(argument.partition("::")[0]).resolve() for argument in config.args]
    for folder in (here / name for name in ON_DEVICES if any((here / name).glob("test_*.py"))):
        if any(folder.is_relative_to(path) or path.is_relative_to(folder) for path in named):
            return capabilities.report()
    return []


def refused_skips(terminal: object) -> list[str]:
    """Return the skips of the run whose reason is none that a CI machine may have."""
    found = set()
    for report in getattr(terminal, "stats", {}).get("skipped", []):
        if hasattr(report, "wasxfail"):
            continue
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reason = reason.removeprefix("Skipped: ")
        if not reason.startswith(ALLOWED_SKIPS):
            found.add(f"{report.nodeid}: {reason}")
    return sorted(found)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a CI run that skipped what it should have run."""
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")
    if CI and not hasattr(session.config, "workerinput") and refused_skips(terminal):
        session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the skips that fail a CI run."""
    refused = refused_skips(terminalreporter)
    if CI and refused:
        terminalreporter.section("skips that CI does not allow")
        for line in refused:
            terminalreporter.write_line(line)


@atexit.register  # pytest does not ask us where it could not load us
def pytest_unconfigure() -> None:
    """Remove the private folder; what tests made read-only in it goes too."""
    for folder, _, _ in os.walk(PRIVATE):
        Path(folder).chmod(0o700)
    shutil.rmtree(PRIVATE, ignore_errors=True)
