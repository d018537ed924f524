"""What a pipeline's function needs where it runs: its files, and the distributions they import."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from edgedeploy.errors import ProfileError
from edgedeploy.executor import Builder
from edgedeploy.pipelinenodes import PipelineNodes


def function_files(builder: Builder, pipeline: PipelineNodes) -> list[str]:
    """Return the function's file and every file of the project that it loaded or opened.

    Args:
        builder: Brings the traces up to date: what they observed is what the function needs.
        pipeline: The pipeline's nodes.

    Returns:
        Sorted POSIX paths, relative to the profile's folder.

    Raises:
        ProfileError: The function's file lies outside of the profile's folder (E442).
        EdgedeployError: A trace failed.
    """
    root = Path(pipeline.folder)
    name = pipeline.spec.function.rpartition(":")[0]
    own = (root / name).resolve()
    if not own.is_relative_to(root):
        raise ProfileError(
            f"the pipeline's file {name} cannot travel: it lies outside of the profile's folder",
            code="E442",
            subject=name,
            hint="move it beside the profile",
        )
    found = {own.relative_to(root).as_posix()}
    for trace in pipeline.traces.values():
        for item in builder.build(trace).observed:
            path = Path(item.get("file", "/"))
            if not path.is_relative_to(root) or "site-packages" in path.parts:
                continue
            # An empty digest: the file was looked for and is not there.
            if item.get("sha256") and path.suffix != ".pyc":
                found.add(path.relative_to(root).as_posix())
    return sorted(found)


def required(files: Iterable[Path]) -> dict[str, str]:
    """Return the installed distributions that Python files import, with their versions.

    Args:
        files: Files of a project; those that are no Python are passed over.
    """
    from importlib import metadata  # dear to import

    found: dict[str, str] = {}
    sources = [file for file in files if file.suffix == ".py"]
    own = {file.stem for file in sources} | {file.parent.name for file in sources}
    known = metadata.packages_distributions()
    for module in {name for file in sources for name in _imports(file)}:
        if module in own or module in sys.stdlib_module_names:
            continue
        for name in known.get(module, ()):
            found[name] = metadata.version(name)
    return dict(sorted(found.items()))


def _imports(file: Path) -> Iterator[str]:
    """Yield the top-level names that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]
