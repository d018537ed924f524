"""``edgedeploy inspect``: what a model file is, and how the layers of a build take to 8 bits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgedeploy.cli.output import Output, verb
from edgedeploy.errors import UsageError
from edgedeploy.intake import model_facts
from edgedeploy.places import DOCUMENT

if TYPE_CHECKING:
    from edgedeploy.report.document import BuildDocument

SHOWN_OPS = 20


@click.command()
@click.argument("what", metavar="MODEL|BUILD", type=click.Path(path_type=Path))
@verb
def command(output: Output, what: Path) -> int:
    """Say what MODEL (an ONNX file) is: inputs, outputs, operators, weights.

    For a BUILD folder: the layers of every model, ranked by what 8 bits cost them, as far as the
    build looked at that (`edgedeploy build --sensitivity`).
    """
    if what.is_dir():
        return _build(output, what)
    facts = model_facts(what)
    return output.result(_text(what, facts), {"model": facts})


def _build(output: Output, folder: Path) -> int:
    from edgedeploy.report.document import read_document

    document = read_document(folder / DOCUMENT)
    tables = [
        {"model": model.name, "target": target["target"], "sensitivity": target["sensitivity"]}
        for model, data in zip(document.models, document.to_json()["models"], strict=True)
        for target in data["targets"]
        if target["sensitivity"] is not None
    ]
    if not tables:
        raise UsageError(
            f"the build in {folder} did not look at the sensitivity of layers",
            code="E372",
            subject=str(folder),
            hint="run `edgedeploy build PROFILE --sensitivity`; it needs `calibrate` samples",
        )
    return output.result(_sensitivity(document), {"layers": tables})


def _sensitivity(document: BuildDocument) -> str:
    from edgedeploy.report import figures
    from edgedeploy.report.terminal import columns

    parts = []
    for model in document.models:
        for target in model.targets:
            found = target.sensitivity
            if found is None:
                continue
            titles = ("Layer", "Operator", *figures.SENSITIVITY)
            rows = [(layer.node, layer.op, *figures.sensitive(layer)) for layer in found.layers]
            head = (
                f"{model.name} -> {target.target}: each layer alone with 8 bits, "
                f"{found.samples} calibration samples, ranges by {found.ranges}"
            )
            parts.append("\n".join([head, *columns([titles, *rows])]))
    return figures.printable("\n\n".join(parts))


def _text(model: Path, facts: dict[str, Any]) -> str:
    opsets = ", ".join(
        f"{domain or 'ai.onnx'} {version}" for domain, version in facts["opsets"].items()
    )
    lines = [
        f"{model.name}: ONNX IR {facts['ir_version']}, opset {opsets}",
        f"  made by  {facts['producer'] or 'an unnamed producer'}",
        f"  sha256   {facts['sha256']}",
        f"  nodes    {facts['nodes']}",
        f"  weights  {facts['weights']} tensors, {facts['weight_bytes'] / 1e6:.2f} MB",
    ]
    for part in ("inputs", "outputs"):
        for spec in facts["signature"][part]:
            dims = "unknown rank"
            if spec["dims"] is not None:
                dims = f"[{', '.join('?' if dim is None else str(dim) for dim in spec['dims'])}]"
            lines.append(f"  {part[:-1]:<7}  {spec['name']}: {spec['dtype']} {dims}")
    ranked = sorted(facts["ops"].items(), key=lambda item: (-item[1], item[0]))
    shown = ", ".join(f"{name} {count}" for name, count in ranked[:SHOWN_OPS])
    more = f" and {len(ranked) - SHOWN_OPS} more" if len(ranked) > SHOWN_OPS else ""
    lines.append(f"  ops      {shown}{more}")
    return "\n".join(lines)
