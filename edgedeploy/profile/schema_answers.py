"""The schema of what a model is for and how its outputs become an answer."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from edgedeploy.config.nearest import shorten
from edgedeploy.profile.schema_parts import DecoderName, Strict, Text, fault, short


class TaskSchema(Strict):
    """What a model is for; `docs/tasks.md` lists the presets and their parameters."""

    name: Text = Field(description="`classify`, `detect/yolo`, `ocr/ctc`, `vad`, `kws`, `embed`.")
    parameters: dict[str, Any] = Field(default={}, description="Parameters of the preset.")


class DecodeSchema(Strict):
    """How a model's outputs become an answer: classes, a text, boxes."""

    name: DecoderName = Field(
        description="`yolo`, `boxes`, `ctc`, `classes`, `speech` or `vector`."
    )
    output: Text | None = Field(
        default=None, description="Output that is decoded; by default the first."
    )
    parameters: dict[str, Any] = Field(
        default={}, description="Parameters of the decoder; `docs/tasks.md` lists them."
    )


def _task(value: Any) -> Any:
    """Return a task as ``{name, parameters}``: every key but ``name`` is the preset's own."""
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, dict):
        rest = {key: item for key, item in value.items() if key != "name"}
        return {**({"name": value["name"]} if "name" in value else {}), "parameters": rest}
    raise fault(
        "E106",
        f"`{shorten(value)}` is no task",
        "write its name, such as `classify`, or a map of `name` and the preset's parameters",
    )


Task = Annotated[TaskSchema, BeforeValidator(_task, json_schema_input_type=str | dict[str, Any])]
Decode = Annotated[
    DecodeSchema,
    BeforeValidator(short("name", str), json_schema_input_type=str | DecodeSchema),
]
