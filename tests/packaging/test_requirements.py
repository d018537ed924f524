"""The locks: complete, hash-checked, free of addresses, and in step with what is imported."""

import ast
import re
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "requirements"
LOCKS = sorted(FOLDER.glob("*.txt"), key=lambda path: path.name)
PYTHONS = ("3.11", "3.12", "3.13")


def entries(lock: Path) -> list[tuple[Requirement, list[str]]]:
    """Return each requirement of a lock with its digests."""
    text = re.sub(r"^#.*\n", "", lock.read_text(), flags=re.M).replace("\\\n", " ")
    found = []
    for line in text.splitlines():
        head, *digests = line.split("--hash=sha256:")
        found.append((Requirement(head.strip()), [digest.strip() for digest in digests]))
    return found


def needed(need: Requirement, python: str) -> bool:
    """Return whether Linux with that Python needs it."""
    environment = {**default_environment(), "python_version": python, "sys_platform": "linux"}
    environment |= {"python_full_version": f"{python}.9", "os_name": "posix"}
    return need.marker is None or need.marker.evaluate(environment)


def pins(lock: Path, python: str) -> dict[str, str]:
    """Return version by package for Linux with that Python."""
    return {need.name: str(need.specifier) for need, _ in entries(lock) if needed(need, python)}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_locks_pin_and_digest_everything_and_name_no_index(lock: Path) -> None:
    """One exact version each, at least one sha256, and no option or address at all."""
    assert "://" not in lock.read_text()
    for need, digests in entries(lock):
        assert re.fullmatch(r"==[^,*]+", str(need.specifier)), need
        assert digests and all(re.fullmatch(r"[0-9a-f]{64}", item) for item in digests), need


@pytest.mark.parametrize("python", PYTHONS)
def test_the_environment_of_the_tests_is_what_users_get(python: str) -> None:
    """dev.txt holds all of runtime.txt and of build.txt at the same versions."""
    dev = pins(FOLDER / "dev.txt", python)
    for name in ("runtime.txt", "build.txt"):
        assert pins(FOLDER / name, python).items() <= dev.items(), name


@pytest.mark.parametrize("python", PYTHONS)
def test_locks_answer_their_wishes(python: str) -> None:
    """Each .in file is satisfied by its .txt, so neither was edited alone."""
    for wish in FOLDER.glob("*.in"):
        locked = pins(wish.with_suffix(".txt"), python)
        lines = wish.read_text().splitlines()
        if "-r runtime.in" in lines:
            lines += (FOLDER / "runtime.in").read_text().splitlines()
        for line in lines:
            if line and not line.startswith(("#", "-")) and needed(Requirement(line), python):
                need = Requirement(line)
                if need.marker and not need.marker.evaluate({"python_version": python}):
                    continue
                version = locked[need.name.lower()].removeprefix("==")
                assert need.specifier.contains(version), f"{wish.name}: {line} got {version}"


def test_torch_is_the_cpu_build_and_brings_no_cuda() -> None:
    """A `nvidia-...` or `triton` in these locks would be gigabytes."""
    assert pins(FOLDER / "torch-cpu.txt", "3.11") == {"torch": "==2.13.0+cpu"}
    for python in PYTHONS:
        names = pins(FOLDER / "torch.txt", python)
        assert not [name for name in names if re.match(r"nvidia|cuda|triton|torch", name)]
        assert {"filelock", "sympy", "networkx", "jinja2", "fsspec"} <= set(names)


def plain(name: str) -> str:
    """Return a distribution's name in its one form."""
    return name.lower().replace("_", "-")


def test_everything_imported_is_a_declared_need() -> None:
    """A package that is only there because another brought it can vanish with an upgrade."""
    lines = (FOLDER / "runtime.in").read_text().splitlines()
    declared = {plain(Requirement(line).name) for line in lines if line and line[0] != "#"}
    declared.add("pydantic-core")  # pydantic pins it exactly and documents importing it
    owners = metadata.packages_distributions()
    extras = {"nncf", "tensorrt", "tensorrt_rtx_bindings", "zstandard"}
    missing = []
    for path in sorted((ROOT / "edgedeploy").rglob("*.py")):
        if "_data" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            else:
                continue
            for top in {name.partition(".")[0] for name in names}:
                if top in sys.stdlib_module_names or top in {"edgedeploy", *extras}:
                    continue
                if not {plain(owner) for owner in owners.get(top, ())} & declared:
                    missing.append(f"{path}:{node.lineno}: {top} ({owners.get(top)})")
    assert not missing, "\n".join(missing)
