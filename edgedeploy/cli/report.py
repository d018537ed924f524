"""``edgedeploy report``: the last build as a table, JSON, Markdown or HTML."""

from __future__ import annotations

from pathlib import Path

import click

from edgedeploy.cli.output import Output, verb
from edgedeploy.places import DOCUMENT, TEXT
from edgedeploy.report.document import read_document
from edgedeploy.report.files import build_folder


@click.command()
@click.argument("build", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "markdown", "html"]),
    default="text",
    show_default=True,
)
@verb
def command(output: Output, build: Path, form: str) -> int:
    """Show BUILD: a build folder, its build.json, or a profile that was built here."""
    folder = build_folder(build)
    document = read_document(folder / DOCUMENT)
    if form == "markdown":
        from edgedeploy.report.markdown import markdown_report

        text = markdown_report(document)
    elif form == "html":
        from edgedeploy.report.page import html_report

        text = html_report(document)
    else:
        text = (folder / TEXT).read_text(encoding="utf-8")
    return output.result(text.rstrip("\n"), {"build": document.to_json()})
