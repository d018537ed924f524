"""``edgedeploy doctor``: whether this machine and the installed tools are fit."""

from __future__ import annotations

import importlib.util
import platform
import resource
import shutil
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import click

from edgedeploy import __version__
from edgedeploy.cli.output import Output, verb
from edgedeploy.errors import EdgedeployError, ExitCode
from edgedeploy.places import default_store_path
from edgedeploy.store import Store

GIB = 1 << 30
LOW_DISK_BYTES = 2 * GIB
NEEDED = ("onnx", "onnxruntime", "openvino", "onnx-ir", "numpy", "pydantic", "pyyaml")
EXTRAS = {
    "coremltools": "Core ML",
    "paramiko": "devices over SSH",
    "nncf": "NNCF (pip install edgedeploy[nncf])",
    "ziglang": "runners for devices without Python (pip install edgedeploy[native])",
    "tensorrt-rtx-cu13-libs": "TensorRT-RTX (pip install edgedeploy[tensorrt-rtx])",
    "tensorrt": "TensorRT (its libraries come from the vendor's own index)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    what: str
    found: str
    good: bool
    needed: bool = True


@click.command()
@click.option("--store", type=click.Path(path_type=Path), help="Store folder (EDGEDEPLOY_STORE).")
@verb
def command(output: Output, store: Path | None) -> int:
    """Check this machine and the installed tools; exit 5 if something needed is missing."""
    findings = [*_machine(), *_tools(), *_for_devices(), *_store(store or default_store_path())]
    bad = [item for item in findings if item.needed and not item.good]
    lines = [f"{_mark(item):<8} {item.what:<18} {item.found}" for item in findings]
    data = [
        {"what": item.what, "found": item.found, "good": item.good, "needed": item.needed}
        for item in findings
    ]
    code = ExitCode.TOOL if bad else ExitCode.DONE
    return output.result("\n".join(lines), {"findings": data}, code)


def _mark(item: Finding) -> str:
    if item.good:
        return "ok"
    return "MISSING" if item.needed else "-"


def _machine() -> list[Finding]:
    version = platform.python_version()
    fit = (3, 11) <= sys.version_info[:2] <= (3, 13)
    limits = sys.platform == "linux" and resource.getrlimit(resource.RLIMIT_DATA)[1] != 0
    return [
        Finding(what="edgedeploy", found=__version__, good=True),
        Finding(what="python", found=version, good=fit),
        Finding(what="system", found=f"{platform.system()} {platform.machine()}", good=True),
        Finding(
            what="memory limits",
            found="enforced" if limits else "workers are not limited in memory on this system",
            good=limits,
            needed=False,
        ),
    ]


def _tools() -> list[Finding]:
    found = [Finding(what=name, found=_version(name), good=bool(_version(name))) for name in NEEDED]
    found += [
        Finding(
            what=name,
            found=_version(name) or f"not installed: {what}",
            good=bool(_version(name)),
            needed=False,
        )
        for name, what in EXTRAS.items()
    ]
    return found


def _for_devices() -> list[Finding]:
    """What connecting to devices and provisioning them needs beside Python packages."""
    from edgedeploy.deploy.compiler import TARGETS, compilers

    has_pip = importlib.util.find_spec("pip") is not None
    wanted = [
        ("ssh", shutil.which("ssh"), "~/.ssh/config cannot be asked"),
        ("pip", (_version("pip") or "there") if has_pip else None, "it fetches devices' runtimes"),
    ]
    for machine in TARGETS:
        found = next((compiler.name for compiler in compilers(machine)), None)
        wanted.append((f"cc {machine}", found, "makes runners for devices without Python"))
    return [
        Finding(what=what, found=found or f"not there: {why}", good=bool(found), needed=False)
        for what, found, why in wanted
    ]


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _store(path: Path) -> list[Finding]:
    try:
        opened = Store(path)
        with opened.in_use():
            free = shutil.disk_usage(path).free
    except EdgedeployError as error:
        return [Finding(what="store", found=str(error), good=False)]
    enough = free > LOW_DISK_BYTES
    return [
        Finding(what="store", found=str(path), good=True),
        Finding(what="disk", found=f"{free / GIB:.1f} GiB free", good=enough, needed=False),
    ]
