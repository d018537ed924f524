"""Schema errors become diagnostics with places, plain words and did-you-mean.

Works on what pydantic reports without importing it, so that this package stays light.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edgedeploy.config.document import DataPath, Document, by_place
from edgedeploy.config.nearest import advice, nearest, shorten
from edgedeploy.errors import Diagnostic

MAX_FINDINGS = 100

_WANTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a map",
    "model_type": "a map",
    "model_attributes_type": "a map",
}

_KINDS: Mapping[type, str] = {
    bool: "true or false",
    int: "a number",
    float: "a decimal number",
    str: "text",
    list: "a list",
}

UnknownKey = Callable[[str, DataPath], "tuple[str, str, str] | None"]
"""Given a key and the path of the map: (code, message, hint) if it has its own diagnostic."""


def schema_diagnostics(
    errors: Sequence[Mapping[str, Any]],
    schema: type[Any],
    document: Document,
    *,
    unknown_key: UnknownKey = lambda key, path: None,
) -> list[Diagnostic]:
    """Return one diagnostic per schema error, sorted by place, at most 100 and one that says so.

    Args:
        errors: What ``ValidationError.errors()`` gave.
        schema: The model class that was validated against; tells the legal keys.
        document: The data with its marks.
        unknown_key: Tells keys that are refused with words of their own.
    """
    ordered = sorted(errors, key=lambda error: _position(error, document))
    found = [_diagnostic(error, schema, document, unknown_key) for error in ordered[:MAX_FINDINGS]]
    if len(errors) > MAX_FINDINGS:
        found.append(
            Diagnostic(
                code="E122",
                message=f"{len(errors) - MAX_FINDINGS} more faults are not listed",
                subject=document.label,
                hint="mend these first and check again",
            )
        )
    return sorted(found, key=by_place)


def _position(error: Mapping[str, Any], document: Document) -> tuple[int, int]:
    mark = document.mark(tuple(error["loc"]), key=True)
    return (0, 0) if mark is None else (mark.line, mark.column)


def _diagnostic(
    error: Mapping[str, Any], schema: type[Any], document: Document, unknown_key: UnknownKey
) -> Diagnostic:
    kind = str(error["type"])
    path = tuple(part for part in error["loc"] if part != "[key]")
    context = error.get("ctx", {})
    if kind[0] == "E" and kind[1:].isdigit():
        return document.diagnostic(
            kind,
            context["message"],
            path + tuple(context.get("at", ())),
            hint=context.get("hint"),
            key=bool(context.get("key", False)) or "[key]" in error["loc"],
        )
    if kind == "extra_forbidden":
        return _unknown(str(path[-1]), path, schema, document, unknown_key)
    if kind == "missing":
        return document.diagnostic(
            "E105",
            f"the key `{path[-1]}` is missing{_where(path[:-1])}",
            path[:-1],
            key=bool(path[:-1]),
            hint=f"add `{path[-1]}: ...`",
        )
    given = error["input"]
    if kind in _WANTED:
        return _wrong_type(_WANTED[kind], given, path, document, legal_keys(schema, path))
    if kind == "literal_error":
        legal = [item.strip("'") for item in context["expected"].replace(" or ", ", ").split(", ")]
        return document.diagnostic(
            "E107",
            f"`{shorten(given)}` is not allowed{_where(path)}",
            path,
            hint=advice(str(given), legal),
        )
    bound = _bound(context)
    return document.diagnostic(
        "E107",
        f"`{shorten(given)}` is not allowed{_where(path)}" + ("" if bound else f": {error['msg']}"),
        path,
        hint=bound or "write a value that is allowed here; `edgedeploy schema` prints what is",
    )


def _bound(context: Mapping[str, Any]) -> str | None:
    """Return the way out of a number that is too small or too large."""
    if "ge" in context:
        return f"write a number of at least {context['ge']}"
    return f"write a number of at most {context['le']}" if "le" in context else None


def _unknown(
    key: str, path: DataPath, schema: type[Any], document: Document, unknown_key: UnknownKey
) -> Diagnostic:
    special = unknown_key(key, path[:-1])
    if special is not None:
        code, message, hint = special
        return document.diagnostic(code, message, path, key=True, hint=hint)
    legal = legal_keys(schema, path[:-1])
    guess = nearest(key, legal)
    listed = ", ".join(f"`{item}`" for item in legal)
    return document.diagnostic(
        "E104",
        f"unknown key `{shorten(key)}`{_where(path[:-1])}",
        path,
        key=True,
        hint=f"did you mean `{guess}`?" if guess else f"known keys are {listed}",
    )


def _wrong_type(
    wanted: str, given: Any, path: DataPath, document: Document, keys: Sequence[str]
) -> Diagnostic:
    written = document.texts.get(path)
    if wanted == "text" and written is not None and given is not None:
        return document.diagnostic(
            "E108",
            f"`{shorten(written)}` is read as {_read_as(given)}, and text is wanted{_where(path)}",
            path,
            hint=f'quote it: "{shorten(written)}"',
        )
    return document.diagnostic(
        "E106",
        f"{wanted} is wanted{_where(path)}, and this is {_kind(given)}",
        path,
        hint=f"write {wanted}"
        + (" of " + ", ".join(f"`{key}`" for key in keys) if wanted == "a map" and keys else "")
        + (", or remove the key to take the default" if given is None else ""),
    )


def _where(path: DataPath) -> str:
    """Return `` in `a.b``` for a path, nothing for the top."""
    return f" in `{shorten(dotted(path))}`" if path else ""


def _kind(value: Any) -> str:
    """Return what a value is, in words."""
    if value is None:
        return "empty"
    return _KINDS.get(type(value), "a map")


def _read_as(value: Any) -> str:
    return "a number" if isinstance(value, float) else _kind(value)


def dotted(path: DataPath) -> str:
    """Return a path as text: ``models.main.inputs``, ``targets[0]``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def legal_keys(schema: Any, path: DataPath) -> list[str]:
    """Return the keys that the schema knows for the map at ``path``, in their order."""
    for part in path:
        schema = _member(schema, part)
    fields = getattr(_plain(schema), "model_fields", None)
    return list(fields) if fields else []


def _member(annotation: Any, part: str | int) -> Any:
    """Return the annotation of what stands under ``part`` in a value of ``annotation``."""
    annotation = _plain(annotation)
    fields = getattr(annotation, "model_fields", None)
    if fields is not None:
        field = fields.get(part)
        return None if field is None else field.annotation
    arguments = typing.get_args(annotation)
    origin = typing.get_origin(annotation)
    if origin is dict and len(arguments) == 2:
        return arguments[1]
    return arguments[0] if origin is list and arguments else None


def _plain(annotation: Any) -> Any:
    """Return an annotation without ``Annotated`` and ``| None``."""
    while True:
        origin = typing.get_origin(annotation)
        if origin is typing.Annotated:
            annotation = typing.get_args(annotation)[0]
        elif origin in (typing.Union, types.UnionType):
            inner = [item for item in typing.get_args(annotation) if item is not type(None)]
            if len(inner) != 1:
                return annotation
            annotation = inner[0]
        else:
            return annotation
