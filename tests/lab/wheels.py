"""Runtimes for devices that should have one without being provisioned: a layer for an image."""

import hashlib
import re
import subprocess
import sys
from pathlib import Path

from packaging.markers import Marker

from tests.lab.images import python_version
from tests.lab.packages import MACHINES
from tests.lab.place import LabError, appearing, cache, locked

_LOCK = Path(__file__).parents[2] / "requirements/runtime.txt"
_TAGS = ("manylinux_2_28", "manylinux_2_27", "manylinux2014")
_NAMES = ("onnxruntime", "numpy")  # running a model needs no more than these


def runtime_layer(architecture: str, root: Path) -> Path:
    """Return a root folder that holds ONNX Runtime for an image's Python, made when not there.

    The versions are those that this repository locks, checked by digest; pip's own settings say
    where packages come from.

    Args:
        architecture: A key of :data:`lab.packages.MACHINES`.
        root: The image.

    Raises:
        LabError: There is no such package, or no network.
    """
    version = python_version(root)
    wanted = _locked(_NAMES, version)
    digest = hashlib.sha256(f"{architecture} {version} {wanted}".encode()).hexdigest()
    goal = cache() / "images" / f"{architecture}-ort-{digest[:12]}"
    with locked(goal.with_suffix(".lock")):
        if not goal.exists():
            with appearing(goal) as layer:
                _install(wanted, architecture, version, layer)
    return goal


def _locked(names: tuple[str, ...], version: str) -> str:
    """Return the lines of the lock that pin some packages for a version of Python.

    Their markers are judged here and left out: pip would judge them by the Python that it runs in.
    """
    python = {"python_version": version, "python_full_version": f"{version}.0"}
    chosen = []
    for entry in re.split(r"\n(?=[a-z])", _LOCK.read_text()):
        pin, _, digests = entry.partition(" \\\n")
        name, _, marker = pin.partition(" ; ")
        if name.partition("==")[0] in names and (not marker or Marker(marker).evaluate(python)):
            chosen.append(f"{name} \\\n{digests}")
    if len(chosen) != len(names):
        raise LabError(f"{_LOCK.name} does not pin each of {', '.join(names)} once")
    return "\n".join(chosen) + "\n"


def _install(wanted: str, architecture: str, version: str, layer: Path) -> None:
    """Install wheels for another processor below `layer`; nothing of them runs."""
    listing = layer / "wanted.txt"
    listing.write_text(wanted)
    # Where Debian's Python looks for what pip installed.
    goal = layer / "usr/local/lib" / f"python{version}" / "dist-packages"
    machine = MACHINES[architecture]
    platforms = [word for tag in _TAGS for word in ("--platform", f"{tag}_{machine}")]
    argv = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "install"]
    argv += ["-q", "--no-deps", "--only-binary", ":all:", "--require-hashes", *platforms]
    argv += ["--python-version", version, "--implementation", "cp", "--target", str(goal)]
    done = subprocess.run([*argv, "-r", str(listing)], capture_output=True, text=True, timeout=600)
    listing.unlink()
    if done.returncode != 0:
        raise LabError(f"pip cannot install ONNX Runtime for {machine}: {done.stderr[-600:]}")
