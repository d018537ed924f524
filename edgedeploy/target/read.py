"""One board or runtime file: found on the search path, checked, and joined with its parents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgedeploy.config.document import Document, by_place
from edgedeploy.config.forbidden import forbidden_key
from edgedeploy.config.read import read_document
from edgedeploy.config.search import SearchFolder
from edgedeploy.config.validation import schema_diagnostics
from edgedeploy.errors import Diagnostic, ProfileError

Kind = Literal["board", "runtime"]
FOLDERS: Mapping[Kind, str] = {"board": "boards", "runtime": "runtimes"}
MAX_PARENTS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A board or runtime with its parents joined in.

    Attributes:
        data: Plain data as in the file, quantities converted (bytes, hertz); facts are maps of
            ``value`` and ``source``.
        origin: Where the nearest file was found, in words.
        files: The files that were read, nearest first.
    """

    kind: Kind
    id: str
    data: Mapping[str, Any]
    origin: str
    files: tuple[Path, ...]


def find_part(kind: Kind, name: str, folders: Sequence[SearchFolder]) -> Part | None:
    """Return the board or runtime ``name`` from the first folder that has it.

    Raises:
        ProfileError: Its file, or one that it extends, is refused.
    """
    for place, folder in enumerate(folders):
        path = folder.path / FOLDERS[kind] / f"{name}.yaml"
        if _is_file(path):
            return _load(kind, name, path, folders, place, ())
    return None


def _load(
    kind: Kind,
    name: str,
    path: Path,
    folders: Sequence[SearchFolder],
    place: int,
    children: tuple[Path, ...],
) -> Part:
    """Return the part in ``path``; its parent is looked up from the same folder on.

    A file may extend the one of its own name further down the search path.
    """
    document = read_document(path, label=_label(path))
    data = _checked(kind, name, document)
    folder = folders[place]
    origin = folder.origin if folder.origin != "plugin" else f"plugin {folder.name}"
    extends = data.pop("extends", None)
    if extends is None:
        _complete(kind, name, data, document)
        return Part(kind=kind, id=name, data=data, origin=origin, files=(path,))
    parent = _parent(kind, extends, document, folders, place, (*children, path))
    joined = {**parent.data, **data}
    if kind == "runtime":
        joined["options"] = {**parent.data.get("options", {}), **data.get("options", {})}
    _complete(kind, name, joined, document)
    return Part(kind=kind, id=name, data=joined, origin=origin, files=(path, *parent.files))


def _parent(
    kind: Kind,
    name: str,
    document: Document,
    folders: Sequence[SearchFolder],
    place: int,
    children: tuple[Path, ...],
) -> Part:
    for later, folder in enumerate(folders[place:], place):
        path = folder.path / FOLDERS[kind] / f"{name}.yaml"
        if path == children[-1]:
            continue  # extending one's own name means the one further down
        if path in children or len(children) > MAX_PARENTS:
            raise _refused(
                document,
                "E153",
                f"`extends` runs in a circle: `{name}` is its own parent",
                ("extends",),
                "extend a file that does not extend this one",
            )
        if _is_file(path):
            return _load(kind, name, path, folders, later, children)
    raise _refused(
        document,
        "E153",
        f"there is no {kind} `{name}` to extend",
        ("extends",),
        f"`edgedeploy targets list` shows the {FOLDERS[kind]}",
    )


def _checked(kind: Kind, name: str, document: Document) -> dict[str, Any]:
    """Return the data of one file, quantities converted; keys that are absent stay absent."""
    from pydantic import ValidationError

    from edgedeploy.target.schema import BoardSchema, RuntimeSchema

    schema = BoardSchema if kind == "board" else RuntimeSchema
    found: list[Diagnostic] = []
    data = document.data
    if isinstance(data, dict) and isinstance(data.get("id"), str) and data["id"] != name:
        found.append(
            document.diagnostic(
                "E150",
                f"the id `{data['id']}` is not the file's name",
                ("id",),
                hint=f"write `id: {name}`, or rename the file",
            )
        )
    found.extend(_sourceless(kind, document))
    checked: dict[str, Any] = {}
    try:
        checked = schema.model_validate(data).model_dump(exclude_unset=True)
    except ValidationError as error:
        errors = [item for item in error.errors(include_url=False) if not _is_sourceless(item)]
        found.extend(schema_diagnostics(errors, schema, document, unknown_key=forbidden_key))
    if found:
        raise ProfileError(sorted(found, key=by_place))
    return checked


def _sourceless(kind: Kind, document: Document) -> list[Diagnostic]:
    """Return a finding for each fact that is written without its source."""
    from edgedeploy.target.schema import BoardSchema, Fact, RuntimeSchema

    fields = (BoardSchema if kind == "board" else RuntimeSchema).model_fields
    found = []
    for key, value in document.data.items() if isinstance(document.data, dict) else ():
        field = fields.get(key)
        if field is None or value is None or not _is_fact(field.annotation, Fact):
            continue
        if not isinstance(value, dict) or value.get("source") is None:
            found.append(
                document.diagnostic(
                    "E154",
                    f"`{key}` is a fact without its source",
                    (key,),
                    hint=f"write `{key}: {{value: ..., source: URL or document}}`",
                )
            )
    return found


def _is_sourceless(error: Any) -> bool:
    """Return whether a schema error says what :func:`_sourceless` says in better words."""
    loc = error["loc"]
    bare = error["type"] == "model_type" and len(loc) == 1 and error["input"] is not None
    return bare or (error["type"] == "missing" and len(loc) == 2 and loc[1] == "source")


def _is_fact(annotation: Any, fact: type) -> bool:
    inner = getattr(annotation, "__args__", (annotation,))
    return any(isinstance(item, type) and issubclass(item, fact) for item in inner)


def _complete(kind: Kind, name: str, data: Mapping[str, Any], document: Document) -> None:
    """Refuse a part that, with its parents, lacks a required key."""
    from edgedeploy.target.schema import REQUIRED_OF_BOARD, REQUIRED_OF_RUNTIME

    required = REQUIRED_OF_BOARD if kind == "board" else REQUIRED_OF_RUNTIME
    missing = [key for key in required if data.get(key) is None]
    if missing:
        raise ProfileError(
            [
                document.diagnostic(
                    "E105",
                    f"the {kind} `{name}` has no `{key}`",
                    (),
                    hint=f"add `{key}: ...`, or extend a {kind} that has it",
                )
                for key in missing
            ]
        )


def _refused(
    document: Document, code: str, message: str, path: tuple[str, ...], hint: str
) -> ProfileError:
    return ProfileError(document.diagnostic(code, message, path, hint=hint))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except PermissionError as error:
        raise ProfileError(
            f"cannot look into `{path.parent}`: permission denied",
            code="E101",
            subject=str(path),
            hint="make the folder readable, or take it off the search path",
        ) from error


def _label(path: Path) -> str:
    """Return the path relative to the current folder where it lies below it."""
    current = Path.cwd()
    return str(path.relative_to(current)) if path.is_relative_to(current) else str(path)
