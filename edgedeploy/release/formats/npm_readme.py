"""The README of an npm package: how it is used, and what its models take and give."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgedeploy.release.bundle import Release
from edgedeploy.release.formats.npm_sources import Wrapped
from edgedeploy.release.interface import Port

_TELEMETRY = """\
## What it sends

Nothing. It fetches its model from where the page has it, and the runtime fetches its own
WebAssembly file. The build of the runtime that is imported (`onnxruntime-web/wasm`) was looked
through at version 1.30.0: it holds no address to send anything to.
"""


def readme(release: Release, models: Sequence[Wrapped], peer: str) -> str:
    """Return ``README.md``.

    Args:
        release: What is packaged.
        models: Its models.
        peer: Name of the runtime's package.
    """
    first = models[0]
    lines = [
        f"# {release.name} {release.version}",
        "",
        f"Release {release.counter} of {release.name}, SHA-256 `{release.digest}`, as a package",
        f"for browsers. Made by {release.made_by}; not to be edited.",
        "",
        "```js",
        f'import {{ {first.kind} }} from "{release.name}";',
        "",
        f"const model = await {first.kind}.create();",
        f"const outputs = await model.run({{ {_example(first)} }});",
        "```",
        "",
        f"The runtime is `{peer}`, which your app depends on; its WebAssembly backend is used. A",
        "bundler that knows `new URL(..., import.meta.url)` takes the model along; elsewhere name",
        "its place with `create({ model: url })`. Before it is opened the model is compared with",
        "its SHA-256, for which the page has to come over https or from localhost.",
        "",
        "More threads need a page that is isolated (headers `Cross-Origin-Opener-Policy:",
        "same-origin` and `Cross-Origin-Embedder-Policy: require-corp`); their number is",
        "`env.wasm.numThreads`.",
    ]
    if release.unaccepted:
        lines += ["", "## Not accepted", "", *(f"- {why}" for why in release.unaccepted)]
    for item in models:
        lines += ["", *_about(item)]
    lines += ["", *_TELEMETRY.splitlines(), "", *_files(release)]
    return "\n".join(lines) + "\n"


def _example(item: Wrapped) -> str:
    return ", ".join(
        name if port.fixed is not None else f"{name}: {{ data, dims }}"
        for port in item.interface.inputs
        for name in [item.inputs[port.name]]
    )


def _about(item: Wrapped) -> Iterator[str]:
    yield f"## `{item.kind}`"
    yield ""
    yield "| input | type and shape | how data becomes it |"
    yield "|---|---|---|"
    for port in item.interface.inputs:
        steps = " ".join(port.steps) or "as it is"
        yield f"| `{item.inputs[port.name]}` | {_cell(port)} | {steps} |"
    yield ""
    yield "| output | type and shape | how it becomes the answer |"
    yield "|---|---|---|"
    for port in item.interface.outputs:
        steps = " ".join(port.steps) or "as it is"
        yield f"| `{item.outputs[port.name]}` | {_cell(port)} | {steps.replace('|', '/')} |"
    if item.labels is not None:
        yield ""
        yield f"`{item.kind}.labels` are the classes in the order of the output."
    if item.carries_state:
        yield ""
        yield f"`{item.kind}.sequence()` carries the state from one call to the next."


def _cell(port: Port) -> str:
    return port.in_words.replace("|", "\\|")


def _files(release: Release) -> Iterator[str]:
    yield "## What vouches for it"
    yield ""
    yield "`release/manifest.json` lists every file of the release with its SHA-256, and"
    yield "`release/manifest.dsse.json` holds the signatures over it. The files of the release that"
    yield "this package has lie below `release/` under the paths of the manifest; those for other"
    yield "targets and the golden samples are left out."
    for licence in release.licences:
        place = "" if licence.file is None else f", `release/{licence.file}`"
        yield ""
        yield f"Licence of {licence.part}: {licence.spdx}{place}."
