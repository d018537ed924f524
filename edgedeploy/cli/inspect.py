"""``edgedeploy inspect``: what a model file is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgedeploy.cli.output import Output, verb
from edgedeploy.intake import model_facts

SHOWN_OPS = 20


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@verb
def command(output: Output, model: Path) -> int:
    """Say what MODEL (an ONNX file) is: inputs, outputs, operators, weights."""
    facts = model_facts(model)
    return output.result(_text(model, facts), {"model": facts})


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
