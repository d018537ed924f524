"""The registry stays light, and every code that the backends raise is explained."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import edgedeploy.backends
from edgedeploy.backends import FAMILIES, load
from edgedeploy.errors import BuildError
from edgedeploy.errors.codes import build, coreml, typed_graph

# The interpreter's codes (E360 and above) are raised outside of the backends.
APPLE = {key: item for key, item in coreml.CODES.items() if key < "E350"}
CODES = build.CODES | typed_graph.CODES | APPLE

SOURCE = Path(edgedeploy.backends.__file__).parent


def test_the_registry_imports_nothing_heavy():
    script = (
        "import sys, edgedeploy.backends, edgedeploy.backends.base\n"
        "print([n for n in ('numpy', 'onnx', 'onnxruntime', 'openvino') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=SOURCE.parents[1],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_family_names_what_decides_its_bytes(family):
    from importlib.metadata import version

    backend = load(family)
    assert backend.name == FAMILIES[family].package
    assert all(version(tool) for tool in backend.tools)
    assert all(path.split(".")[0] in ("board", "runtime") for path in backend.reads)


def test_what_is_measured_computes_as_what_was_verified():
    from edgedeploy.backends.ov.runner import OvRunner

    verified = inspect.signature(OvRunner.__init__).parameters["precision"].default
    measured = FAMILIES["openvino"].bench_options["properties"]
    assert measured == {"INFERENCE_PRECISION_HINT": verified}


def test_an_unknown_family_is_refused():
    with pytest.raises(BuildError) as caught:
        load("tflite")
    assert caught.value.diagnostics[0].code == "E311"
    assert "ort" in caught.value.diagnostics[0].hint


def test_every_code_is_explained_and_used():
    used = set()
    for path in SOURCE.rglob("*.py"):
        used.update(re.findall(r'"(E3\d\d)"', path.read_text(encoding="utf-8")))
    assert used | {"E300"} == set(CODES)
    for code, explanation in CODES.items():
        assert explanation.title and 60 < len(explanation.text) < 600, code
