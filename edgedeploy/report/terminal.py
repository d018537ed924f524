"""The report for a terminal: coloured tables there, plain text of any width elsewhere."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterable, Sequence

from edgedeploy.report import figures
from edgedeploy.report.document import BuildDocument, TargetReport
from edgedeploy.report.table import Row, Standing, Table, counted, model_table

_GAP = "  "
_STYLES: dict[Standing, str] = {
    "float": "dim",
    "accepted": "green",
    "refused": "yellow",
    "failed": "red",
}


def terminal_report(document: BuildDocument, *, width: int = 110, colour: bool = False) -> str:
    """Return the report as text that ends in a line feed.

    Args:
        document: What to show.
        width: Columns of the terminal. A table that does not fit becomes a list.
        colour: Whether the text may hold ANSI escapes (stdout is a terminal).
    """
    parts = [_head(document)]
    for title, model in document.sections:
        table = model_table(model)
        parts.append(figures.printable(f"{title}\n"))
        rich = colour and sum(_widths(table)) + 2 * len(table.columns) <= width
        parts.append(
            _rich_table(table, width) if rich else figures.printable(plain_table(table, width))
        )
        parts += [
            block
            for target in model.targets
            if (block := _target_notes(target, width, document.created))
        ]
    parts.append(_foot(document))
    return "\n".join(parts)


def _head(document: BuildDocument) -> str:
    lines = [f"{document.profile}: built {document.created} by edgedeploy {document.version}"]
    host = figures.host(document.host)
    return figures.printable("\n".join([*lines, f"on {host}"] if host else lines) + "\n")


def _foot(document: BuildDocument) -> str:
    verdicts = [target.verdict for _, model in document.sections for target in model.targets]
    ran = [stage for stage in document.stages if stage.state == "ran"]
    hits = sum(stage.state == "hit" for stage in document.stages)
    failed = sum(stage.state == "failed" for stage in document.stages)
    stages = [f"{len(ran)} run", f"{hits} from the store"] + [f"{failed} failed"] * bool(failed)
    lines = [f"Verdict: {counted(verdicts) or 'no targets'}"]
    if document.stages:
        lines.append(f"Stages: {', '.join(stages)}")
    lines.append("[a, b]: 95 % confidence interval; latency: per inference, xR: ratio to the")
    lines.append("float artifact of the same target, both measured in turns")
    evaluated = [target.evaluation for _, model in document.sections for target in model.targets]
    if any(found is not None and found.evidence == "interpreted" for found in evaluated):
        lines.append("interpreted: run by an interpreter here, not by the target's own runtime")
    return "\n".join(lines) + "\n"


def _target_notes(target: TargetReport, width: int, created: str) -> str:
    lines = []
    for note in figures.notes(target, created):
        lines += textwrap.wrap(
            note,
            max(width, 20),
            initial_indent="  - ",
            subsequent_indent="    ",
            break_on_hyphens=False,
        )
    for diagnostic in target.diagnostics:
        if diagnostic.hint:
            lines += textwrap.wrap(diagnostic.hint, max(width, 20), initial_indent="    hint: ")
    return figures.printable("\n".join([f"{target.target}:", *lines]) + "\n") if lines else ""


def plain_table(table: Table, width: int) -> str:
    """Return a table as plain text, or as a list where it is wider than ``width``."""
    widths = _widths(table)
    if sum(widths) + len(_GAP) * (len(widths) - 1) > width:
        return _plain_list(table)
    lines = [_joined(table.columns, widths), _joined(("-" * size for size in widths), widths)]
    for row in table.rows:
        for number in range(max(map(len, row.cells))):
            cells = (cell[number] if number < len(cell) else "" for cell in row.cells)
            lines.append(_joined(cells, widths))
    return "\n".join(lines) + "\n"


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows of cells as lines, each column as wide as its widest cell."""
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    return [_joined(row, widths) for row in rows]


def _widths(table: Table) -> list[int]:
    return [
        max(len(line) for line in (title, *(line for row in table.rows for line in row.cells[at])))
        for at, title in enumerate(table.columns)
    ]


def _joined(cells: Iterable[str], widths: list[int]) -> str:
    padded = (cell.ljust(size) for cell, size in zip(cells, widths, strict=True))
    return _GAP.join(padded).rstrip()


def _plain_list(table: Table) -> str:
    return "\n".join(_plain_item(table, row) for row in table.rows)


def _plain_item(table: Table, row: Row) -> str:
    lines = [row.cells[0][0]]
    for title, cell in zip(table.columns[1:], row.cells[1:], strict=True):
        if cell != (figures.NONE,):
            lines.append(f"  {title}: {cell[0]}")
            lines += [f"    {line}" for line in cell[1:]]
    return "\n".join(lines) + "\n"


def _rich_table(table: Table, width: int) -> str:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=width, color_system="standard")
    shown = RichTable(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    for title in table.columns:
        shown.add_column(title, overflow="fold")
    for row in table.rows:
        cells = []
        for at, cell in enumerate(row.cells):
            style = _STYLES[row.standing] if at == len(row.cells) - 1 else "bold"
            text = Text()
            text.append(figures.printable(cell[0]), style=style)
            text.append("".join(f"\n{figures.printable(line)}" for line in cell[1:]), style="dim")
            cells.append(text)
        shown.add_row(*cells, end_section=row.standing == "float")
    console.print(shown)
    return out.getvalue()
