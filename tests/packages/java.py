"""Java's and Android's own tools on an AAR: what compiles against it, packs it and runs it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest

STANDINS = Path(__file__).parents[1] / "stubs/android"
"""Sources of stand-ins for Android's classes and the Java interface of ONNX Runtime."""


def has_jdk() -> bool:
    """Return whether a Java compiler and a virtual machine are here."""
    return all(map(shutil.which, ("javac", "java", "javap")))


needs_jdk = pytest.mark.skipif(not has_jdk(), reason="needs a Java compiler")
needs_aapt = pytest.mark.skipif(not shutil.which("aapt"), reason="needs Android's packager")


def run(*argv: str | Path, cwd: Path | None = None) -> str:
    """Run a program that must succeed; return what it printed."""
    done = subprocess.run(
        [str(part) for part in argv], cwd=cwd, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


QUICK = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
"""Options of a virtual machine that runs for a second on a machine that others use too."""


def javac(goal: Path, path: str, sources: Iterable[Path], *options: str) -> Path:
    """Compile Java into a new folder and return that."""
    goal.mkdir()
    quick = (f"-J{option}" for option in QUICK)
    run("javac", *quick, *options, "-cp", path, "-d", goal, *sorted(sources))
    return goal


def write_index(archive: Path) -> None:
    """Write beside an archive where each member begins, for the stand-in of AssetManager."""
    lines = []
    with zipfile.ZipFile(archive) as opened, open(archive, "rb") as file:
        for item in opened.infolist():
            file.seek(item.header_offset + 26)
            lengths = file.read(4)
            start = item.header_offset + 30
            start += int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little")
            lines.append(f"{item.filename}\t{item.compress_type}\t{start}\t{item.file_size}")
    archive.with_name(f"{archive.name}.index").write_text("\n".join(lines))


def apk_of(unpacked: Path, *options: str) -> Path:
    """Return an app that Android's packager makes of the AAR's manifest and assets."""
    archive = unpacked / f"app{len(options)}.apk"
    manifest, assets = unpacked / "AndroidManifest.xml", unpacked / "assets"
    run("aapt", "package", "-f", "-M", manifest, "-A", assets, *options, "-F", archive)
    write_index(archive)
    return archive


def java_run(path: Iterable[Path], *arguments: Path) -> str:
    """Return what the class ``Driver`` prints; ``path`` is where classes are."""
    named = [f"-Dpython={sys.executable}", f"-Dsession={STANDINS / 'session.py'}"]
    return run("java", *QUICK, *named, "-cp", ":".join(map(str, path)), "Driver", *arguments)
