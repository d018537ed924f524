"""What Swift packages make of the golden pictures, in a real compiler's interpreter.

Needs `swiftc`; see ``test_soak_swift.py``. Of a package only what makes inputs of pixels is taken:
that needs nothing of Apple's systems.
"""

import base64
import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgedeploy.release.packages import write_packages

TESTS = Path(__file__).parents[1]
sys.path.append(str(TESTS / "unit/release"))  # as pytest does for the tests that lie there

import made  # noqa: E402

from tests.packages.pictures import CASES, expected, model_name, written  # noqa: E402

SWIFTC = shutil.which("swiftc")
pytestmark = pytest.mark.skipif(SWIFTC is None, reason="needs swiftc")

PREPARE = re.compile(r"    public static func prepareX.*?\n    }\n", re.DOTALL)
REST = """
func show<Element>(_ name: String, _ made: Tensor<Element>) {
    let bytes = made.values.withUnsafeBytes { Data($0) }.base64EncodedString()
    print("[\\"\\(name)\\", \\(made.shape), \\"\\(bytes)\\"]")
}
func data(_ text: String) -> [UInt8] { [UInt8](Data(base64Encoded: text)!) }
do {
    _ = try Pixels([1, 2, 3, 4, 5], width: 2, height: 1)
    print("taken")
} catch {}
"""


def program(tree: Path) -> str:
    """Return one file: the package's own source, a call for each case, and what prints."""
    (pixels,) = tree.rglob("Pixels.swift")
    parts = [pixels.with_name("Tensor.swift").read_text(), pixels.read_text()]
    calls = []
    for case in CASES:
        name, about = model_name(case), case["picture"]
        (file,) = tree.rglob(f"{name.capitalize()}Model.swift")
        (function,) = PREPARE.findall(file.read_text())
        parts.append(f"enum {name.capitalize()} {{\n{function}}}\n")
        sides = f"width: {about['width']}, height: {about['height']}"
        given = f'try Pixels(data("{about["base64"]}"), {sides})'
        calls.append(f'show("{name}", try {name.capitalize()}.prepareX({given}))')
    text = "\n".join(["import Foundation", *parts, REST, *calls, ""])
    return re.sub(r"^import Foundation$", "", text, flags=re.MULTILINE).replace(
        "", "import Foundation\n", 1
    )


@pytest.mark.parametrize("language", ["5", "6"])
def test_every_picture_is_the_golden_one(language: str, tmp_path: Path) -> None:
    bundle = written(tmp_path / "bundle")
    (package,) = write_packages(bundle, made.TRUSTED, ["swift"], tmp_path / "out")
    source = tmp_path / "one.swift"
    source.write_text(program(package.paths[0]))
    ran = subprocess.run(
        [
            *(SWIFTC, "-frontend", "-interpret", source, "-module-name", "one"),
            *("-swift-version", language, "-warnings-as-errors"),
            *("-module-cache-path", tmp_path / "cache"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert ran.returncode == 0, ran.stderr
    found = {
        name: [shape, hashlib.sha256(base64.b64decode(text)).hexdigest()]
        for name, shape, text in map(json.loads, ran.stdout.splitlines())
    }
    assert found == expected()
