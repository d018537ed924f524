"""The JSON Schema of a profile, and docs/profile.md; both are made from the schema classes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from edgedeploy.profile.schema import ProfileSchema
from edgedeploy.profile.unbuilt import QUANTIZE_MODES

SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a profile, for editors."""
    schema = ProfileSchema.model_json_schema()
    schema["anyOf"] = [{"required": ["model"]}, {"required": ["models"]}]
    return {"$schema": SCHEMA_DIALECT, **schema, "title": "edgedeploy profile"}


def reference_markdown() -> str:
    """Return docs/profile.md: every map of a profile with its keys, types and defaults."""
    schema = json_schema()
    parts: Mapping[str, Any] = schema["$defs"]
    lines = [_HEAD, "## The whole profile\n", *_table(schema, parts)]
    for name in _order(schema, parts):
        title = name.removesuffix("Schema")
        lines += [f"\n## {title}\n", parts[name]["description"], "", *_table(parts[name], parts)]
    lines += ["\n## Not built yet\n", "Part of the form, refused by name for now:", ""]
    lines += [f"- quantize mode `{name}`: {what}" for name, what in QUANTIZE_MODES.items()]
    return "\n".join(lines) + "\n"


_HEAD = """\
# The profile

Made from the schema by `edgedeploy.profile.reference`; change the schema, not this file.

A profile is one YAML file. Its first key is `edgedeploy: 1`. Scalars follow the YAML 1.2 core
schema: `on` and `yes` are text, `1e-3` is a number, `010` is ten; text that looks like a number
(`version: "1.10"`) is quoted. Unknown keys, duplicate keys, merge keys (`<<`), tags, tabs and
several documents are refused. Paths are relative to the profile.

Quantities carry a unit: `20 ms`, `10 s`, `4 MB` (10^6), `4 MiB` (2^20), `30 %`. Changes of a metric
are signed: `-1 pt` (percentage points), `+0.3 %` (relative), `-0.01 abs` (the metric's own unit).
Dims are a size (`8`), a range (`1..64`, `320..960/32` in steps) or buckets (`[160, 320, 640]`, one
artifact each).

**Defaults and overrides.** `data` and `metric` at the top hold for every model without its own.
`quantize`, `gates` and `bench` at the top hold for every target; under a target, maps override key
by key and anything else replaces. What a [`task`](tasks.md) stands for lies under all of it.
`edgedeploy plan --expand` shows what comes out.

**What never stands in a profile:** hosts, users, secrets and commands (they belong into
devices.yaml), and where private data lies (data.yaml beside the profile, a map from role or
`model.role` to a path). Both files are git-ignored.

A complete one:

```yaml
edgedeploy: 1
name: line-reader
model:
  task: ocr/ctc
  source:
    package: rapidocr-onnxruntime==1.4.4
    file: rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx
  dims: {N: 1, W: 320}
  inputs:
    x: {shape: [N, 3, 48, W], image: {size: [48, 320], scale: 1/255, mean: 0.5, std: 0.5}}
data:
  calibrate: {source: "lines.py:samples", parameters: {seed: 1}}
  evaluate: {source: "lines.py:samples", parameters: {seed: 2}}
gates: {size: 6 MB}
bench: quick
targets:
  linux-x86-64/ort:
  rpi5/ort: {quantize: w8a8, gates: {latency: {p50: 20 ms}}}
```
"""


def _order(schema: Mapping[str, Any], parts: Mapping[str, Any]) -> list[str]:
    """Return the names of the maps, in the order in which the keys lead to them."""
    found: list[str] = []

    def visit(node: Mapping[str, Any]) -> None:
        for prop in node.get("properties", {}).values():
            for name in _references(prop):
                if name not in found:
                    found.append(name)
                    visit(parts[name])

    visit(schema)
    return found


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        if "$ref" in node:
            yield str(node["$ref"]).rsplit("/", 1)[1]
        for key, value in node.items():
            if key != "default":
                yield from _references(value)
    elif isinstance(node, list):
        for item in node:
            yield from _references(item)


def _table(node: Mapping[str, Any], parts: Mapping[str, Any]) -> Iterator[str]:
    yield "| key | takes | default | meaning |"
    yield "|---|---|---|---|"
    required = node.get("required", [])
    for key, prop in node["properties"].items():
        default = "**required**" if key in required else _default(prop.get("default"))
        meaning = _cell(prop.get("description", ""))
        yield f"| `{key}` | {_cell(_takes(prop))} | {default} | {meaning} |"


def _default(value: Any) -> str:
    return "" if value in (None, {}, [], ()) else f"`{json.dumps(value)}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _takes(prop: Mapping[str, Any]) -> str:
    """Return in words what a JSON Schema node allows."""
    if "$ref" in prop:
        name = str(prop["$ref"]).rsplit("/", 1)[1].removesuffix("Schema")
        return f"map [{name}](#{name.lower()})"
    if "anyOf" in prop:
        words = [_takes(item) for item in prop["anyOf"] if item.get("type") != "null"]
        return " or ".join(dict.fromkeys(words))
    if "enum" in prop:
        return ", ".join(f"`{item}`" for item in prop["enum"])
    if "const" in prop:
        return f"`{prop['const']}`"
    kind = prop.get("type")
    if kind == "array":
        return f"list of {_takes(prop.get('items', {}))}"
    if kind == "object":
        values = prop.get("additionalProperties")
        return f"map of names to {_takes(values)}" if isinstance(values, Mapping) else "map"
    names = {"string": "text", "integer": "whole number", "boolean": "true or false"}
    return names.get(str(kind), str(kind) if kind else "any value")
