"""Starting up is cheap: what the command line imports pulls in no converter and no runtime."""

import json
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path

from source import PACKAGE, ROOT, STANDALONE, module_of, package_files

HEAVY = (
    "PIL",
    "coremltools",
    "nncf",
    "numpy",
    "onnx",
    "onnx_ir",
    "onnxruntime",
    "onnxscript",
    "openvino",
    "paramiko",
    "scipy",
    "sklearn",
    "tensorrt",
    "torch",
)

# Imported only inside a worker, or inside a function that is about to need arrays anyway. Every
# other module is light. `edgedeploy.quant` itself is light, `edgedeploy.quant.table` need not be.
WORKER_ONLY = (
    "edgedeploy.worker.__main__",
    "edgedeploy.data.*",
    "edgedeploy.decode.*",
    "edgedeploy.mil.*",
    "edgedeploy.model.*",
    "edgedeploy.passes.*",
    "edgedeploy.quant.*",
    "edgedeploy.backends.*.*",
    "edgedeploy.backends.inputs",
    "edgedeploy.parity.*",
    "edgedeploy.devices.*",
)
# Exceptions to the exceptions: planning needs these.
LIGHT = (
    "edgedeploy.data.sources",
    "edgedeploy.data.labels",
    "edgedeploy.data.usercode",
    "edgedeploy.quant.candidates",
)

# A hang bound: under load a machine takes many times the few seconds that a quiet one needs.
LIMIT_S = 1200

# Imports each module in a fork of one small process, which is as fresh and far cheaper. What all of
# them take from the standard library, which has nothing heavy, is there before the forks.
PROBE = """
import importlib, json, os, sys
names, heavy = json.loads(sys.stdin.read())

def in_a_fork(act):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        with os.fdopen(writer, "w") as file:
            file.write(json.dumps(act()))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as file:
        said = json.loads(file.read())
    os.waitpid(child, 0)
    return said

def heavy_of(name):
    try:
        importlib.import_module(name)
    except BaseException as error:
        return [f"{type(error).__name__}: {error}"]
    return [item for item in heavy if item in sys.modules]

def standard():
    for name in names:
        heavy_of(name)
    own = sys.stdlib_module_names
    return [name for name in sys.modules if name.partition(".")[0] in own and name != "__main__"]

for name in in_a_fork(standard):
    importlib.import_module(name)
found = {name: in_a_fork(lambda: heavy_of(name)) for name in names}
print(json.dumps({name: said for name, said in found.items() if said}))
"""


def light_modules() -> list[str]:
    """Return the modules that must stay light."""
    names = [module_of(path) for path in package_files()]
    return [
        name
        for name in names
        if not name.endswith("__main__")
        and (name in LIGHT or not any(fnmatchcase(name, pattern) for pattern in WORKER_ONLY))
    ]


def pulled_in(names: list[str]) -> dict[str, list[str]]:
    """Return what each module pulls in of HEAVY, or why it cannot be imported."""
    run = subprocess.run(
        [sys.executable, "-c", PROBE],
        input=json.dumps([names, HEAVY]),
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
        timeout=LIMIT_S,
    )
    found: dict[str, list[str]] = json.loads(run.stdout)
    return found


def test_light_modules_pull_in_nothing_heavy() -> None:
    """Each on its own, so that one cannot hide behind another."""
    found = pulled_in(light_modules())
    assert not found, "\n".join(f"{name}: {', '.join(said)}" for name, said in found.items())


def test_the_probe_sees_what_is_heavy() -> None:
    """A probe that sees nothing would pass everything."""
    assert "numpy" in pulled_in(["edgedeploy.data.pack"])["edgedeploy.data.pack"]


def test_the_list_of_light_modules_names_what_exists() -> None:
    """LIGHT would guard nothing after a rename."""
    packages = {name for name in LIGHT if (PACKAGE / name.split(".")[1]).is_dir()}
    names = {module_of(path) for path in package_files()}
    if (PACKAGE / "cli" / "build.py").exists():
        assert packages <= names


def test_programs_for_devices_start_without_edgedeploy(tmp_path: Path) -> None:
    """A copy of the file alone, in an isolated interpreter, can be imported."""
    for name in STANDALONE:
        source = PACKAGE / name
        if source.exists():
            copy = tmp_path / source.name
            copy.write_bytes(source.read_bytes())
            subprocess.run(
                [sys.executable, "-I", "-S", "-c", f"import runpy; runpy.run_path({str(copy)!r})"],
                check=True,
                timeout=LIMIT_S,
            )
