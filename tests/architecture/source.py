"""The package's source as syntax trees, shared by the architecture tests."""

import ast
import functools
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "edgedeploy"

# Programs of one file that also run on a device, with its own Python and without edgedeploy.
STANDALONE = (
    "backends/trt/onboard_watch.py",
    "backends/trt/onboard_build.py",  # after what it needs beside it
    "bench/environment.py",
    "bench/power.py",
    "bench/runtimes.py",
    "bench/nvml.py",
    "bench/cuda.py",
    "bench/gpu.py",
    "bench/loop.py",  # after what it needs beside it
    "devices/unpack.py",
    "release/apply_file.py",
    "release/trust_file.py",
    "release/verify_file.py",
)

# The modules of the device agent: the same, but for one another.
AGENT = (
    "devices/agent.py",
    *(
        f"devices/ondevice/{name}.py"
        for name in (
            *("admission", "care", "disk", "layout", "lock", "switch", "transfer", "versions"),
        )
    ),
)


def package_files() -> list[Path]:
    """Return every Python file of the package, sorted; not what `_data` links to."""
    return sorted(path for path in PACKAGE.rglob("*.py") if "_data" not in path.parts)


def checked_files() -> list[Path]:
    """Return every Python file of the repository that people write, sorted."""
    folders = ("tests", "examples", "benchmarks", "profiles")
    others = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    return package_files() + sorted(others)


def name_of(path: Path) -> str:
    """Return a file's path for messages, relative to the package or else to the repository."""
    return path.relative_to(PACKAGE if path.is_relative_to(PACKAGE) else ROOT).as_posix()


def module_of(path: Path) -> str:
    """Return the dotted module name of a package file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def tree(path: Path) -> ast.Module:
    """Return the parsed file."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


@functools.cache
def modules() -> frozenset[str]:
    """Return the dotted names of all modules of the package."""
    return frozenset(module_of(path) for path in package_files())


def imports(path: Path) -> list[tuple[int, str]]:
    """Return (line, module) for every import of a file, those inside functions too.

    ``from package import name`` yields ``package.name`` where that is a module of ours.
    """
    found = []
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                found.append((node.lineno, whole if whole in modules() else base))
    return found
