"""``edgedeploy schema``: the JSON Schema of profiles, for editors."""

from __future__ import annotations

import json

import click

from edgedeploy.cli.output import Output, verb


@click.command()
@verb
def command(output: Output) -> int:
    """Print the JSON Schema of profiles (point your editor's YAML plug-in at it)."""
    from edgedeploy.profile.reference import json_schema

    schema = json_schema()
    return output.result(json.dumps(schema, indent=2, ensure_ascii=False), {"profile": schema})
