"""The report as one HTML file: no request, no script, same bytes for the same document."""

from __future__ import annotations

import html
from collections.abc import Sequence

from edgedeploy.report import figures, plots
from edgedeploy.report.details import target_card
from edgedeploy.report.document import (
    BenchSummary,
    BuildDocument,
    Interval,
    ModelReport,
    TargetReport,
)
from edgedeploy.report.style import STYLE
from edgedeploy.report.table import Row, Table, counted, model_table

# Nothing may be loaded or run even if a name slipped through unescaped.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def html_report(document: BuildDocument) -> str:
    """Return the report as the text of a self-contained HTML file."""
    title = html.escape(f"{document.profile}: edgedeploy report")
    body = [_header(document), "<main>"]
    for number, (heading, model) in enumerate(document.sections):
        body.append(_section(f"m{number}", heading, model))
    body += [_stages(document), "</main>", _footer(document)]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in body if part)
        + "\n</body>\n</html>\n"
    )


def _header(document: BuildDocument) -> str:
    verdicts = [target.verdict for _, model in document.sections for target in model.targets]
    badges = "".join(
        f'<li class="badge {verdict}">{counted([verdict] * verdicts.count(verdict))}</li>'
        for verdict in ("accepted", "refused", "failed")
        if verdict in verdicts
    )
    host = html.escape(figures.host(document.host))
    return (
        f"<header><h1>{html.escape(document.profile)}</h1>"
        f'<p class="soft">Built <time>{html.escape(document.created)}</time> by edgedeploy'
        f" {html.escape(document.version)}{f' on {host}' if host else ''}</p>"
        f'<ul class="badges">{badges}</ul></header>'
    )


def _section(identity: str, title: str, model: ModelReport) -> str:
    name = html.escape(title)
    parts = [f'<section aria-labelledby="{identity}"><h2 id="{identity}">{name}</h2>']
    parts.append(f'<div class="card">{_table(model_table(model), title)}{_reading()}</div>')
    drawn = "".join(plot(identity, model) for plot in _PLOTS)
    parts.append(f'<div class="grid">{drawn}</div>' if drawn else "")
    for number, target in enumerate(model.targets):
        parts.append(target_card(f"{identity}t{number}", target, series(number)))
    parts.append(_signature(model))
    return "\n".join([*parts, "</section>"])


def _reading() -> str:
    return (
        '<p class="sub">Brackets hold 95 % confidence intervals. Latency is per inference; xR is'
        " its ratio to the float model, measured interleaved in one session.</p>"
    )


def series(number: int) -> int:
    """Return the colour of a target by its place; the float model has colour 0."""
    return 1 + number % (plots.SERIES - 1)


def _table(table: Table, title: str) -> str:
    head = "".join(f'<th scope="col">{html.escape(title)}</th>' for title in table.columns)
    rows = "".join(_row(table, row, number) for number, row in enumerate(table.rows))
    caption = f"Results of {title[0].lower()}{title[1:]} by target"
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{html.escape(caption)}">'
        f'<table class="stack"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _row(table: Table, row: Row, number: int) -> str:
    colour = 0 if row.standing == "float" else series(number - 1)
    cells = []
    for at, (title, cell) in enumerate(zip(table.columns, row.cells, strict=True)):
        first, *rest = (html.escape(line) for line in cell)
        small = "".join(f'<span class="sub">{line}</span>' for line in rest)
        if at == 0:
            key = f'<span class="key s{colour}" aria-hidden="true"></span>'
            cells.append(f'<th scope="row"><div>{key}{first}{small}</div></th>')
            continue
        if at == len(table.columns) - 1:
            first = f'<span class="badge {row.standing}">{first}</span>'
        kind = ' class="none"' if cell == (figures.NONE,) else ""
        shown = f"<div><b>{first}</b>{small}</div>"
        cells.append(f'<td{kind} data-title="{html.escape(title)}">{shown}</td>')
    return f'<tr class="{row.standing}">{"".join(cells)}</tr>'


def _rows_of(model: ModelReport) -> list[tuple[str, TargetReport | None, int]]:
    """Return what the plots show: name, target (None: the float model) and colour."""
    found: list[tuple[str, TargetReport | None, int]] = [("float model", None, 0)]
    for number, target in enumerate(model.targets):
        found.append((target.target, target, series(number)))
    return found


def _benches(model: ModelReport) -> list[tuple[str, BenchSummary | None, int]]:
    return [
        (name, model.float.bench if target is None else target.bench, colour)
        for name, target, colour in _rows_of(model)
    ]


def _size_plot(identity: str, model: ModelReport) -> str:
    found = []
    for name, target, colour in _rows_of(model):
        size = model.float.size_bytes if target is None else target.size_bytes
        found.append(_amount(name, size, figures.size(size), colour))
    return _plot(f"{identity}-size", "Size", found)


def _latency_plot(identity: str, model: ModelReport) -> str:
    found = []
    for name, bench, colour in _benches(model):
        if bench is None or bench.p50_ms is None:
            text = figures.NONE if bench is None else f"n/a (n={bench.n})"
            found.append(plots.Bar(label=name, value=None, text=text, series=colour))
            continue
        text = figures.interval_parts(bench.p50_ms, "ms")[0]
        label = name if bench.validity == "valid" else f"{name} (unreliable)"
        found.append(plots.Bar(label=label, value=bench.p50_ms, text=text, series=colour))
    return _plot(f"{identity}-latency", "Latency (p50)", found)


def _metric_plot(identity: str, model: ModelReport) -> str:
    found, title = [], "Metric"
    for name, target, colour in _rows_of(model):
        report = model.float.metric
        if target is not None:
            report = target.evaluation.metric if target.evaluation else None
        if report is None or report.value is None:
            found.append(plots.Bar(label=name, value=None, text=figures.NONE, series=colour))
            continue
        better = "higher" if report.higher_is_better else "lower"
        title = f"{figures.metric_name(report.name)} ({better} is better)"
        value = Interval(value=report.value, low=report.low, high=report.high)
        text = figures.interval_parts(value, *figures.scale(report))[0]
        found.append(plots.Bar(label=name, value=value, text=text, series=colour))
    return _plot(f"{identity}-metric", title, found)


def _load_plot(identity: str, model: ModelReport) -> str:
    found = []
    for name, bench, colour in _benches(model):
        time_ms = bench.load_warm_ms if bench else None
        text = figures.NONE if time_ms is None else f"{figures.number(time_ms)} ms"
        found.append(_amount(name, time_ms, text, colour))
    return _plot(f"{identity}-load", "Load time (files in memory)", found)


def _memory_plot(identity: str, model: ModelReport) -> str:
    found = []
    for name, bench, colour in _benches(model):
        added = figures.added_memory(bench) if bench else None
        found.append(_amount(name, added, figures.size(added), colour))
    return _plot(f"{identity}-memory", "Peak memory above the runtime", found)


def _amount(name: str, value: float | None, text: str, colour: int) -> plots.Bar:
    shown = None if value is None else Interval(value=float(value))
    return plots.Bar(label=name, value=shown, text=text, series=colour)


def _plot(identity: str, title: str, items: Sequence[plots.Bar]) -> str:
    if all(item.value is None for item in items):
        return ""
    drawn = plots.bars(identity, title, items)
    return f'<div class="card"><h3>{html.escape(title)}</h3>{drawn}</div>'


def _distribution(identity: str, model: ModelReport) -> str:
    curves = [
        plots.Curve(label=name, quantiles_ms=bench.quantiles_ms, series=colour)
        for name, bench, colour in _benches(model)
        if bench is not None and len(bench.quantiles_ms) == 101
    ]
    if not curves:
        return ""
    title = "Share of inferences within a time"
    legend = "".join(
        f'<li><span class="key s{curve.series}" aria-hidden="true"></span>'
        f"{html.escape(curve.label)}</li>"
        for curve in curves
    )
    drawn = plots.distribution(f"{identity}-distribution", title, curves)
    return f'<div class="card"><h3>{title}</h3><ul class="legend">{legend}</ul>{drawn}</div>'


_PLOTS = (_size_plot, _latency_plot, _metric_plot, _distribution, _load_plot, _memory_plot)


def _signature(model: ModelReport) -> str:
    if not model.source_sha256:  # a pipeline has no interface but its function's
        return ""
    rows = []
    for role in ("inputs", "outputs"):
        for spec in model.signature.get(role, ()):
            dims = spec.get("dims")
            shape = "any rank" if dims is None else f"[{', '.join(str(d or '?') for d in dims)}]"
            rows.append(
                f"<dt>{role[:-1]}</dt><dd><code>{html.escape(str(spec['name']))}</code>"
                f" {html.escape(str(spec['dtype']))} {html.escape(shape)}</dd>"
            )
    rows.append(f"<dt>source</dt><dd><code>sha256:{html.escape(model.source_sha256)}</code></dd>")
    return f'<div class="card"><h3>Interface</h3><dl>{"".join(rows)}</dl></div>'


def _stages(document: BuildDocument) -> str:
    if not document.stages:
        return ""
    rows = "".join(
        f'<tr><th scope="row"><code>{html.escape(stage.id)}</code></th>'
        f'<td data-title="State"><span class="badge {stage.state}">{stage.state}</span></td>'
        f'<td data-title="Time">{figures.number(stage.seconds)} s</td>'
        f'<td data-title="Why">{html.escape(stage.why)}</td></tr>'
        for stage in document.stages
    )
    head = "".join(f'<th scope="col">{title}</th>' for title in ("Stage", "State", "Time", "Why"))
    return (
        '<section aria-labelledby="stages"><h2 id="stages">Stages</h2><div class="card">'
        f'<table class="stack"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
        "</div></section>"
    )


def _footer(document: BuildDocument) -> str:
    tools = ", ".join(f"{name} {version}" for name, version in sorted(document.tools.items()))
    shown = f"Made with {html.escape(tools)}. " if tools else ""
    return f"<footer>{shown}Build document schema {document.schema}.</footer>"
