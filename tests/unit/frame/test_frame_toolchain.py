"""Versions of installed distributions."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from edgedeploy.errors import ToolError
from edgedeploy.toolchain import code_digest, tool_version


def test_versions_are_those_of_the_metadata() -> None:
    names = {item.metadata["Name"] for item in metadata.distributions()}
    assert len(names) > 20
    for name in names:
        assert tool_version(name) == metadata.version(name)
        assert tool_version(name.upper().replace("-", "_")) == metadata.version(name)


def test_what_is_not_installed_is_a_typed_error() -> None:
    with pytest.raises(ToolError) as failure:
        tool_version("no-such-thing")
    assert failure.value.diagnostics[0].code == "E501"
    assert tool_version("python") == f"{sys.version_info[0]}.{sys.version_info[1]}"


def test_the_executor_loads_lightly() -> None:
    script = (
        "import sys, edgedeploy.executor, edgedeploy.toolchain as t; t.tool_version('click')\n"
        "print(*{'importlib.metadata', 'email', 'numpy', 'onnx', 'pydantic'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.split() == [], done.stderr


def test_code_digest_is_of_names_and_content(tmp_path: Path) -> None:
    one, two = tmp_path / "one.py", tmp_path / "two.py"
    one.write_text("1")
    two.write_text("2")
    digests = {
        code_digest(parts, file)
        for parts in (("stage",), ("stage", "worker"))
        for file in (one, two)
    }
    assert len(digests) == 4
