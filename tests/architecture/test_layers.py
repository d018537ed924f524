"""The import table of docs/architecture.md: an arrow may only point down."""

import ast
import sys
from pathlib import Path

import pytest
from source import AGENT, PACKAGE, STANDALONE, imports, module_of, name_of, package_files, tree

# Top to bottom. A unit (a package or module right below edgedeploy/) may import those of lower
# rows, and of its own row only where the row says "in order": then, those further down in it.
IN_ORDER, NEVER = "in order", "never one another"
ROWS = (
    (IN_ORDER, ("__main__", "cli", "shipping", "api")),
    (
        IN_ORDER,
        (
            "releasing",
            "importing",
            "retraining",
            "comparing",
            "measured",
            "describing",
            "deploy",
            "footprint",
            "report",
            "building",
            "needed",
            "pipelinesites",
            "combining",
            "engines",
            "sessions",
            "choosing",
            "measuring",
            "loading",
            "intake",
            "opening",
            "plan",
            "pipelinenodes",
            "modelnodes",
            "executor",
            "making",
            "node",
            "difference",
        ),
    ),
    (NEVER, ("steps",)),
    (NEVER, ("passes", "quant", "backends", "parity", "devices", "bench", "release")),
    (
        IN_ORDER,
        (
            "worker",
            "remote",
            "stage",
            "turns",
            "pipeline",
            "decode",
            "data",
            "mil",
            "model",
            "runner",
            "profile",
            "tasks",
            "parameters",
            "signature",
            "gpu",
            "target",
            "config",
            "lockfile",
            "publish",
            "records",
            "memory",
            "freshness",
            "store_care",
            "store",
            "filememory",
            "disk",
            "artifact",
            "fileset",
            "toolchain",
            "events",
            "manifest",
            "crashpoint",
            "places",
            "plaindata",
            "errors",
        ),
    ),
)
ROW = {unit: number for number, (_, units) in enumerate(ROWS) for unit in units}


def may_import(importer: str, imported: str) -> bool:
    """Return whether the table allows one unit to import another."""
    if ROW[importer] != ROW[imported]:
        return ROW[importer] < ROW[imported]
    kind, units = ROWS[ROW[importer]]
    return kind == IN_ORDER and units.index(importer) < units.index(imported)


def unit_of(module: str) -> str:
    """Return the unit that a module belongs to; empty for edgedeploy itself."""
    parts = module.split(".")
    longer = ".".join(parts[1:3])
    return longer if longer in ROW else "".join(parts[1:2])


def test_every_unit_has_its_place_in_the_table() -> None:
    """A new module is put into the table when it is written."""
    strangers = {unit_of(module_of(path)) for path in package_files()} - set(ROW) - {""}
    assert not strangers, f"give these a row in {Path(__file__).name}: {sorted(strangers)}"


@pytest.mark.parametrize("path", package_files(), ids=name_of)
def test_imports_point_down(path: Path) -> None:
    """Imports inside functions count: a late import is a dependency all the same."""
    importer = unit_of(module_of(path))
    wrong = []
    for line, module in imports(path):
        imported = unit_of(module)
        if module.partition(".")[0] != "edgedeploy" or imported in ("", importer):
            continue
        if not {importer, imported} <= set(ROW) or not may_import(importer, imported):
            wrong.append(f"{path}:{line}: edgedeploy.{importer} may not import {module}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("path", package_files(), ids=name_of)
def test_imports_are_absolute(path: Path) -> None:
    """So that the table can be read off the text."""
    wrong = [
        node.lineno
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert not wrong, f"{path}: relative imports at lines {wrong}"


@pytest.mark.parametrize("name", STANDALONE + AGENT)
def test_programs_for_devices_need_the_standard_library_alone(name: str) -> None:
    """At their top they import nothing else; the runtime they measure comes inside a function."""
    path = PACKAGE / name
    if not path.exists():
        return  # a later part of the product
    top = [node for node in tree(path).body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {
        alias.name if isinstance(node, ast.Import) else str(node.module)
        for node in top
        for alias in node.names
    }
    own = {module_of(PACKAGE / other) for other in AGENT} if name in AGENT else set()
    foreign = {module for _, module in imports(path) if module.startswith("edgedeploy")} - own
    assert not foreign
    outer = {name.partition(".")[0] for name in names} - ({"edgedeploy"} if own else set())
    assert outer <= sys.stdlib_module_names


def test_the_table_refuses_what_it_should() -> None:
    """The law itself, on cases that are plain."""
    assert may_import("cli", "plan") and may_import("steps", "quant")
    assert may_import("quant", "data") and may_import("store", "errors")
    assert not may_import("quant", "backends") and not may_import("backends", "quant")
    assert not may_import("errors", "store") and not may_import("executor", "plan")
    assert not may_import("data", "steps") and not may_import("steps", "executor")
