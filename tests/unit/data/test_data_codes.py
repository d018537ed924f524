"""Every code of data and parity is explained, and every explained code is used."""

import re
import subprocess
import sys
from pathlib import Path

import edgedeploy
from edgedeploy.errors.codes.data import CODES

PACKAGE = Path(edgedeploy.__file__).parent


def test_codes_used_and_explained_are_the_same():
    used = {
        code
        for folder in ("data", "parity", "steps")
        for file in (PACKAGE / folder).rglob("*.py")
        for code in re.findall(r'"(E2\d\d)"', file.read_text())
    }
    assert used == set(CODES)


def test_gates_and_records_need_no_numpy():
    code = (
        "import sys; import edgedeploy.parity.gates, edgedeploy.data.sources; "
        "sys.exit(bool({'numpy', 'PIL', 'onnx'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
