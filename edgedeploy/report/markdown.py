"""The report as GitHub-flavoured Markdown, for a pull request."""

from __future__ import annotations

import html
import re

from edgedeploy.report import figures
from edgedeploy.report.document import BuildDocument, TargetReport
from edgedeploy.report.table import Table, counted, model_table

_MARKS = {"accepted": "✅ ", "refused": "⛔ ", "failed": "❌ "}


def markdown_report(document: BuildDocument) -> str:
    """Return the report as Markdown that ends in a line feed; all texts are escaped."""
    verdicts = [target.verdict for _, model in document.sections for target in model.targets]
    lines = [f"## edgedeploy: {escape(document.profile)}, {counted(verdicts) or 'no targets'}", ""]
    for title, model in document.sections:
        lines += [f"### {escape(title)}", "", *_table(model_table(model)), ""]
        for target in model.targets:
            lines += _notes(target, document.created)
    about = [f"edgedeploy {document.version}", document.created, figures.host(document.host)]
    lines.append(f"<sub>{escape(', '.join(part for part in about if part))}</sub>")
    lines.append("<sub>Brackets hold 95 % confidence intervals; xR is the ratio to float.</sub>")
    return "\n".join(lines) + "\n"


def _table(table: Table) -> list[str]:
    lines = [_line([escape(title) for title in table.columns])]
    lines.append(_line(["---"] * len(table.columns)))
    for row in table.rows:
        cells = []
        for cell in row.cells:
            first, *rest = (escape(line) for line in cell)
            small = f"<br><sub>{'<br>'.join(rest)}</sub>" if rest else ""
            cells.append(first + small)
        cells[-1] = _MARKS.get(row.standing, "") + cells[-1]
        lines.append(_line(cells))
    return lines


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _notes(target: TargetReport, created: str) -> list[str]:
    notes = figures.notes(target, created)
    if not notes:
        return []
    lines = [f"**{escape(target.target)}**", "", *(f"- {escape(note)}" for note in notes)]
    return [*lines, *(f"- Hint: {escape(d.hint)}" for d in target.diagnostics if d.hint), ""]


def escape(text: str) -> str:
    """Return text that Markdown and its HTML show as it stands, on one line."""
    flat = " ".join(text.split())
    return re.sub(r"([\\`*_{}\[\]|#~@])", r"\\\1", html.escape(flat, quote=False))
