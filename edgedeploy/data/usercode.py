"""Python functions of the user's project: ``file.py:function``, with failures told as theirs.

What runs here is trusted like a Makefile; it runs only inside workers.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgedeploy.errors import DataError, EdgedeployError, Place


@contextmanager
def user_errors(reference: str, file: Path, folder: Path, code: str) -> Iterator[None]:
    """Turn any exception of user code into a DataError at the user's own line.

    What is typed already, because user code called what refuses, keeps its type and gets the line.

    Args:
        reference: ``file.py:function`` as the user wrote it.
        file: The Python file.
        folder: The profile's folder; places are shown relative to it.
        code: Diagnostic code of the error.
    """
    try:
        yield
    except EdgedeployError as error:
        place = _line(error, file, folder)
        if place is None or all(item.place is not None for item in error.diagnostics):
            raise
        found = [replace(item, place=item.place or place) for item in error.diagnostics]
        raise type(error)(found) from error
    except (Exception, SystemExit) as error:
        raise DataError(
            f"{reference} failed: {type(error).__name__}: {error}",
            code=code,
            subject=reference,
            place=_line(error, file, folder) or _shown(file, 1, 1, folder),
            hint="Mend the function; it runs in a worker, in the folder of the build.",
        ) from error


def _line(error: BaseException, file: Path, folder: Path) -> Place | None:
    """Return the innermost line of the error that is the user's own; None where none is.

    What is installed is not, even where the environment lies inside of the project.
    """
    project = file.resolve().parent
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return _shown(Path(error.filename), error.lineno, error.offset or 1, folder)
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        place = Path(frame.filename).resolve()
        if frame.lineno and place.is_relative_to(project) and "site-packages" not in place.parts:
            return _shown(Path(frame.filename), frame.lineno, (frame.colno or 0) + 1, folder)
    return None


def _shown(file: Path, line: int, column: int, folder: Path) -> Place:
    resolved, base = file.resolve(), folder.resolve()
    name = resolved.relative_to(base) if resolved.is_relative_to(base) else resolved
    return Place(file=name.as_posix(), line=line, column=column)


def load_function(reference: str, folder: Path, *, code: str = "E283") -> Callable[..., Any]:
    """Import the file and return the function.

    The file's folder goes to the front of ``sys.path``, as when Python runs the file itself.

    Args:
        reference: ``file.py:function``, relative to ``folder``.
        folder: The profile's folder.
        code: Diagnostic code where importing the file raises.

    Raises:
        DataError: No such file or function (E282), or the file raises when imported.
    """
    file_name, _, function = reference.rpartition(":")
    file = folder / file_name
    if not file.is_file() or not function.isidentifier():
        raise DataError(
            f"{reference} is no function of a Python file",
            code="E282",
            subject=reference,
            hint="Write `file.py:function`, relative to the profile's folder.",
        )
    with user_errors(reference, file, folder, code):
        module_folder = str(file.resolve().parent)
        if sys.path[:1] != [module_folder]:
            sys.path.insert(0, module_folder)
        spec = importlib.util.spec_from_file_location(f"_profile_{file.stem}", file)
        if spec is None or spec.loader is None:
            raise ImportError(f"{file_name} is no Python source file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    found = getattr(module, function, None)
    if not callable(found):
        names = sorted(
            name
            for name, value in vars(module).items()
            if inspect.isfunction(value) and value.__module__ == module.__name__
        )
        raise DataError(
            f"{file_name} has no function '{function}'",
            code="E282",
            subject=reference,
            hint=f"It has: {', '.join(names) or 'none'}.",
        )
    return found  # type: ignore[no-any-return]


def check_call(
    reference: str,
    function: Callable[..., Any],
    positional: int,
    parameters: Mapping[str, Any],
) -> None:
    """Check that the function can be called so.

    Raises:
        DataError: Its signature does not take these arguments (E282).
    """
    signature = inspect.signature(function)
    try:
        signature.bind(*([None] * positional), **parameters)
    except TypeError as error:
        raise DataError(
            f"{reference}{signature} cannot be called as the profile says: {error}",
            code="E282",
            subject=reference,
            hint="Make the function's arguments and the profile's `parameters` agree.",
        ) from error
