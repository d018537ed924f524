"""The generated part of an npm package: what its models are called, take and give."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from edgedeploy.release.bundle import Release, ReleaseModel, ReleaseTarget
from edgedeploy.release.formats.shared import unfit
from edgedeploy.release.identifiers import identifiers
from edgedeploy.release.interface import Interface, Port, interface_of
from edgedeploy.release.picture import Picture

RUNTIME = "runtime.js"
"""File of a package that is the same in all: what loads a model and checks its inputs."""

PIXELS = "pixels.js"
"""File of a package, the same in all, that makes inputs of the pixels of pictures."""

# Source: onnxruntime-common, lib/tensor.ts, Tensor.DataTypeMap. A float16 lies in a Float16Array
# where the browser has it, and as its bits in a Uint16Array elsewhere.
_ARRAYS: Mapping[str, str] = {
    "float32": "Float32Array",
    "float64": "Float64Array",
    "float16": "Float16Data",
    "int8": "Int8Array",
    "uint8": "Uint8Array",
    "int16": "Int16Array",
    "uint16": "Uint16Array",
    "int32": "Int32Array",
    "uint32": "Uint32Array",
    "int64": "BigInt64Array",
    "uint64": "BigUint64Array",
    "bool": "Uint8Array",
    "string": "string[]",
}
_PIXELS_TYPE = (
    "/** A decoded picture, upright: rows of gray, gray and alpha, RGB or RGBA (ImageData). */",
    "export interface Pixels {",
    "  readonly data: Uint8Array | Uint8ClampedArray;",
    "  readonly width: number;",
    "  readonly height: number;",
    "}",
    "",
)
_STYLE, _RUNTIME_STYLE = "optimization_style", "runtime"
_REPLAY = {"session.enable_saved_runtime_optimizations": "1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrapped:
    """A model with the names that its wrapper has.

    Attributes:
        model: In the release.
        interface: What it takes and gives.
        kind: Name of the class.
        inputs, outputs: Property by name in the graph.
        labels: Classes in the order of the output; None without.
    """

    model: ReleaseModel
    interface: Interface
    kind: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    labels: tuple[str, ...] | None

    @property
    def pictures(self) -> Mapping[str, Port]:
        """Inputs that the package makes of pixels, by property."""
        ports = self.interface.inputs
        return {self.inputs[port.name]: port for port in ports if port.picture is not None}

    @property
    def carries_state(self) -> bool:
        """Whether there are states, all of which can begin as zeros."""
        states = [port for port in self.interface.inputs if port.state is not None]
        return bool(states) and all(port.fixed is not None for port in states)


def wrapped(target: ReleaseTarget, labels: Mapping[str, tuple[str, ...]]) -> tuple[Wrapped, ...]:
    """Return the models of a target with the names that they have in TypeScript.

    Args:
        target: What is packaged.
        labels: Classes by the path of their file.

    Raises:
        UsageError: A tensor is of a type that JavaScript cannot hold (E760).
    """
    kinds = identifiers(
        (model.name for model in target.models), "pascal", "typescript", kind="model"
    )
    found = []
    for model in target.models:
        interface = interface_of(model)
        for port in (*interface.inputs, *interface.outputs):
            if port.dtype not in _ARRAYS:
                raise unfit(
                    "npm",
                    f"{model.name}: {port.name!r:.100} is {port.dtype}, which JavaScript cannot "
                    "hold",
                    "give the model float32 inputs and outputs",
                )
        found.append(
            Wrapped(
                model=model,
                interface=interface,
                # So that no model takes the name of a type that the declarations use.
                kind=f"{kinds[model.name]}Model",
                inputs=_names(interface.inputs, "input"),
                outputs=_names(interface.outputs, "output"),
                labels=None if model.labels is None else labels[model.labels],
            )
        )
    return tuple(found)


def _names(ports: Sequence[Port], kind: str) -> dict[str, str]:
    return identifiers((port.name for port in ports), "camel", "typescript", kind=kind)


def script(release: Release, models: Sequence[Wrapped], files: str) -> str:
    """Return ``index.js``.

    Args:
        release: What is packaged.
        models: Its models.
        files: Folder of the package that holds the files of the release.
    """
    about = {
        "name": release.name,
        "version": release.version,
        "counter": release.counter,
        "digest": release.digest,
    }
    lines = [
        f"// {release.name} {release.version}: made by {release.made_by}; not to be edited.",
        "",
        f'import {{ Model, open }} from "./{RUNTIME}";',
        *([f'import {{ tensorOf }} from "./{PIXELS}";'] if takes_pixels(models) else []),
        "",
        'export { env } from "onnxruntime-web/wasm";',
        "",
        f"export const release = Object.freeze({_literal(about)});",
    ]
    for item in models:
        lines += ["", *_class(release, item, files)]
    return "\n".join(lines) + "\n"


def takes_pixels(models: Sequence[Wrapped]) -> bool:
    """Return whether any model has an input that the package makes of pixels."""
    return any(item.pictures for item in models)


def _class(release: Release, item: Wrapped, files: str) -> Iterator[str]:
    entry = item.model.entry
    config = _REPLAY if item.model.options.get(_STYLE) == _RUNTIME_STYLE else {}
    ports = {
        "config": config,
        "inputs": _ports(item.interface.inputs, item.inputs, item.outputs),
        "outputs": _ports(item.interface.outputs, item.outputs, {}),
    }
    # The form that bundlers know as a file to take along: both parts literal.
    url = f"new URL({_literal(quote(f'./{files}/{entry}'))}, import.meta.url)"
    yield f"const {item.kind}Spec = {{"
    yield f"  file: {url},"
    yield f"  sha256: {_literal(release.file(entry).sha256)},"
    for key, value in ports.items():
        yield f"  {key}: {_literal(value)},"
    yield "};"
    yield ""
    yield f"export class {item.kind} extends Model {{"
    if item.labels is not None:
        yield f"  static labels = Object.freeze({_literal(item.labels)});"
        yield ""
    if item.pictures:
        yield "  static prepare = Object.freeze({"
        for name, port in item.pictures.items():
            words = _literal(_picture(port.picture))
            yield f"    {name}: (pixels) => tensorOf(pixels, {words}),"
        yield "  });"
        yield ""
    yield "  static async create(options) {"
    yield f"    return new {item.kind}(await open({item.kind}Spec, options), {item.kind}Spec);"
    yield "  }"
    yield "}"


def _picture(picture: Picture | None) -> dict[str, Any]:
    """Return what ``tensorOf`` is told, under its names."""
    if picture is None:
        return {}
    return {
        "height": picture.height,
        "width": picture.width,
        "fixedWidth": picture.fixed_width,
        "fit": picture.fit,
        "padValue": picture.pad_value,
        "resample": picture.resample,
        "colour": picture.colour,
        "layout": picture.layout,
        "scale": picture.scale,
        "mean": picture.mean,
        "std": picture.std,
        "type": picture.dtype,
    }


def _ports(
    ports: Sequence[Port], names: Mapping[str, str], outputs: Mapping[str, str]
) -> dict[str, Any]:
    found = {}
    for port in ports:
        about: dict[str, Any] = {"name": port.name, "type": port.dtype, "shape": port.shape}
        if port.state is not None:
            about["state"] = outputs[port.state]
        found[names[port.name]] = about
    return found


def _literal(value: Any) -> str:
    """Return a value as JavaScript; JSON with ASCII alone is a part of it (ECMAScript 2019)."""
    return json.dumps(value, ensure_ascii=True)


def declarations(release: Release, models: Sequence[Wrapped]) -> str:
    """Return ``index.d.ts``."""
    dtypes = {port.dtype for item in models for port in _all(item)}
    lines = [
        f"// {release.name} {release.version}: made by {release.made_by}; not to be edited.",
        "",
        'import type { Env, InferenceSession } from "onnxruntime-web";',
        "",
        "/** Settings of the runtime: threads, and where its WebAssembly files lie. */",
        "export declare const env: Env;",
        "",
        "/** Which release this is; `digest` is the SHA-256 of its manifest. */",
        "export declare const release: {",
        "  readonly name: string;",
        "  readonly version: string;",
        "  readonly counter: number;",
        "  readonly digest: string;",
        "};",
        "",
        "/** The elements, the last axis running fastest, and the size of every axis. */",
        "export interface Value<Data> {",
        "  readonly data: Data;",
        "  readonly dims: readonly number[];",
        "}",
        "",
        *(_PIXELS_TYPE if takes_pixels(models) else ()),
        "export interface CreateOptions {",
        "  /** Where the model lies, or its bytes; without it, where the package has it. */",
        "  readonly model?: string | URL | Uint8Array;",
        "  /** Options of the runtime's session. */",
        "  readonly session?: InferenceSession.SessionOptions;",
        "}",
    ]
    if "float16" in dtypes:
        lines += [
            "",
            "/** A Float16Array where there is one, else the bits in a Uint16Array. */",
            "export type Float16Data =",
            "  typeof globalThis extends { Float16Array: { new (size: number): infer Data } }",
            "    ? Data",
            "    : Uint16Array;",
        ]
    for item in models:
        lines += ["", *_declared(item)]
    return "\n".join(lines) + "\n"


def _all(item: Wrapped) -> tuple[Port, ...]:
    return (*item.interface.inputs, *item.interface.outputs)


def _declared(item: Wrapped) -> Iterator[str]:
    inputs, outputs = f"{item.kind}.Inputs", f"{item.kind}.Outputs"
    yield from _comment([f"The model {item.model.name}, {item.model.candidate}."], "")
    yield f"export declare class {item.kind} {{"
    yield "  private constructor();"
    yield "  /** Open the model, once its file is known to be the one that was released. */"
    yield f"  static create(options?: CreateOptions): Promise<{item.kind}>;"
    if item.labels is not None:
        yield "  /** The classes, in the order of the output. */"
        yield "  static readonly labels: readonly string[];"
    if item.pictures:
        yield "  /** Inputs of the pixels of a picture, as when the model was measured. */"
        yield "  static readonly prepare: {"
        for name, port in item.pictures.items():
            value = f"Value<{_ARRAYS[port.dtype]}>"
            yield f"    readonly {name}: (pixels: Pixels) => {value};"
        yield "  };"
    yield "  /** Return what the model gives; inputs that it does not take are refused. */"
    yield f"  run(inputs: {inputs}): Promise<{outputs}>;"
    if item.carries_state:
        yield "  /** Return what carries the state from one call to the next, from zeros on. */"
        yield f"  sequence(): {item.kind}.Sequence;"
    yield "  /** Free the memory of the model. */"
    yield "  release(): Promise<void>;"
    yield "}"
    yield f"export declare namespace {item.kind} {{"
    yield "  interface Inputs {"
    for port in item.interface.inputs:
        yield from _comment([f"{port.in_words}.", *port.steps], "    ")
        array = _ARRAYS[port.dtype]
        bare = f"{array} | " if port.fixed is not None else ""
        yield f"    readonly {item.inputs[port.name]}: {bare}Value<{array}>;"
    yield "  }"
    yield "  interface Outputs {"
    for port in item.interface.outputs:
        yield from _comment([f"{port.in_words}.", *port.steps], "    ")
        yield f"    readonly {item.outputs[port.name]}: Value<{_ARRAYS[port.dtype]}>;"
    yield "  }"
    if item.carries_state:
        states = [item.inputs[port.name] for port in item.interface.inputs if port.state]
        without = " | ".join(_literal(name) for name in states)
        yield "  interface Sequence {"
        yield "    /** Begin again, from zeros. */"
        yield "    reset(): void;"
        yield "    /** Return the values of the next step; await one before asking for another. */"
        yield f"    run(inputs: Omit<Inputs, {without}>): Promise<Outputs>;"
        yield "  }"
    yield "}"


def _comment(lines: Sequence[str], indent: str) -> Iterator[str]:
    """Yield a documentation comment; names from outside cannot end it."""
    safe = [line.replace("*/", "* /") for text in lines for line in text.splitlines()]
    if len(safe) == 1:
        yield f"{indent}/** {safe[0]} */"
        return
    yield f"{indent}/**"
    for line in safe:
        yield f"{indent} * {line}"
    yield f"{indent} */"
