"""pip on a wheel, and programs that use what it installed."""

import json
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def install(goal: Path, *wheels: Path) -> Path:
    """Let pip install wheels into a folder, and return that; nothing else is looked for."""
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index"]
    subprocess.run([*command, "--target", goal, *wheels], check=True, timeout=120)
    return goal


def run(installed: Path, source: str, *arguments: str) -> Any:
    """Run a program with the installed wheel, and without edgedeploy; return what it prints."""
    paths = [str(installed), sysconfig.get_path("purelib")]
    program = f"import sys; sys.path[:0] = {paths!r}\n{source}"
    command = [sys.executable, "-S", "-c", program, *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


def written_key(public: bytes, path: Path) -> Path:
    """Write the raw 32 bytes of a public key as a file, and return its path."""
    kind = serialization.PublicFormat.SubjectPublicKeyInfo
    key = Ed25519PublicKey.from_public_bytes(public)
    path.write_bytes(key.public_bytes(serialization.Encoding.PEM, kind))
    return path
