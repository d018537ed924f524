"""Names, sizes and forbidden statements."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from source import AGENT, PACKAGE, ROOT, STANDALONE, name_of, package_files, tree

VAGUE = {"utils", "util", "common", "helper", "helpers", "manager", "misc", "base_utils"}
# A module of ours with the name of a library shadows it in scripts and confuses find_spec.
LIBRARIES = {
    "click",
    "coremltools",
    "nncf",
    "numpy",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "openvino",
    "paramiko",
    "pydantic",
    "rich",
    "tensorrt",
    "torch",
    "yaml",
}
MOST_LINES_OF_A_FILE = 600
MOST_LINES_OF_A_FUNCTION = 100


def test_modules_are_named_for_their_duty() -> None:
    """No drawer for everything, no library's name."""
    for path in package_files():
        names = {*path.relative_to(PACKAGE).with_suffix("").parts}
        assert not names & VAGUE, path
        # A verb may have any name: cli/ is imported by nobody.
        assert not names & LIBRARIES, path


@pytest.mark.parametrize("path", package_files(), ids=name_of)
def test_files_and_functions_fit_in_the_head(path: Path) -> None:
    """Limits, not aims: most are far below."""
    length = path.read_text(encoding="utf-8").count("\n")
    assert length <= MOST_LINES_OF_A_FILE, f"{path}: {length} lines"
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= MOST_LINES_OF_A_FUNCTION, f"{path}:{node.lineno}: {node.name}"


@pytest.mark.parametrize("path", package_files(), ids=name_of)
def test_only_the_command_line_prints_and_nobody_asserts(path: Path) -> None:
    """`assert` vanishes with -O, so it guards nothing; programs for devices talk by printing."""
    may_print = path.is_relative_to(PACKAGE / "cli") or name_of(path) in STANDALONE
    for node in ast.walk(tree(path)):
        assert not isinstance(node, ast.Assert), f"{path}:{node.lineno}: assert"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert may_print or node.func.id != "print", f"{path}:{node.lineno}: print"


@pytest.mark.parametrize("name", STANDALONE + AGENT)
def test_programs_for_devices_parse_on_old_pythons(name: str) -> None:
    """They run on whatever the board has; 3.6 is the oldest."""
    path = PACKAGE / name
    if path.exists():
        ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 6))


def test_nothing_built_or_downloaded_is_tracked() -> None:
    """Models, weights, wheels and bytecode are made or fetched, never committed."""
    run = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    built = (".pyc", ".whl", ".ort", ".pth", ".onnx", ".safetensors", ".blob", ".npz")
    # Small, of our own training, and made again by the script beside them.
    ours = {"examples/detector/weights.npz"}
    assert {name for name in run.stdout.split("\0") if name.endswith(built)} <= ours
    assert all((ROOT / name).stat().st_size < 100_000 for name in ours)


def test_the_interpreter_is_one_that_we_say_we_support() -> None:
    """`requires-python` and the locks are for these."""
    assert (3, 11) <= sys.version_info[:2] <= (3, 13)
