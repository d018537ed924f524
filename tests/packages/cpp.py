"""CMake and the C++ compiler on a package, with the library of ONNX Runtime's wheel.

The wheel has the library and not the header: the header is tests/stubs/onnxruntime.
"""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import onnxruntime
import pytest

STUBS = Path(__file__).parents[1] / "stubs/onnxruntime"
LIBRARY = next(Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so.*"))

needs_cmake = pytest.mark.skipif(
    shutil.which("cmake") is None or shutil.which("c++") is None, reason="needs cmake and g++"
)


def runtime(folder: Path) -> Path:
    """Return an installation of ONNX Runtime: the real library under its names, and our header."""
    (folder / "lib").mkdir(parents=True)
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (folder / "lib" / name).symlink_to(LIBRARY)
    (folder / "include").symlink_to(STUBS)
    return folder


def configure(
    packages: Sequence[Path], folder: Path, lists: str, app: str = ""
) -> subprocess.CompletedProcess[str]:
    """Configure a project that finds packages, and through them the runtime.

    Args:
        packages: Folders of CMake packages.
        folder: Of the project; made here.
        lists: Its CMakeLists.txt.
        app: Its app.cpp.
    """
    folder.mkdir()
    (folder / "CMakeLists.txt").write_text(lists)
    (folder / "app.cpp").write_text(app)
    command = ["cmake", "-S", folder, "-B", folder / "build"]
    settings = {
        "CMAKE_PREFIX_PATH": ";".join(map(str, packages)),
        "OnnxRuntime_ROOT": runtime(folder / "onnxruntime"),
    }
    given = [f"-D{name}={value}" for name, value in settings.items()]
    return subprocess.run([*command, *given], capture_output=True, text=True, timeout=120)


def build(packages: Sequence[Path], folder: Path, lists: str, app: str) -> Path:
    """Configure and compile a project; return its program ``app``."""
    ran = configure(packages, folder, lists, app)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    built = subprocess.run(
        ["cmake", "--build", folder / "build"], capture_output=True, text=True, timeout=300
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return folder / "build/app"
