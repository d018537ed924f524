"""The report as one HTML file: no request, no script, same bytes for the same document."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from edgedeploy.report import figures, plots
from edgedeploy.report.details import target_card
from edgedeploy.report.document import BenchSummary, BuildDocument, Interval, ModelReport
from edgedeploy.report.style import STYLE
from edgedeploy.report.table import Row, Table, counted, model_table

# Nothing may be loaded or run even if a name slipped through unescaped.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def html_report(document: BuildDocument) -> str:
    """Return the report as the text of a self-contained HTML file."""
    title = html.escape(f"{document.profile}: edgedeploy report")
    body = [_header(document), "<main>"]
    for number, model in enumerate(document.models):
        body.append(_model(f"m{number}", model))
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
    verdicts = [target.verdict for model in document.models for target in model.targets]
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


def _model(identity: str, model: ModelReport) -> str:
    name = html.escape(model.name)
    parts = [f'<section aria-labelledby="{identity}"><h2 id="{identity}">Model {name}</h2>']
    parts.append(f'<div class="card">{_table(model_table(model), model)}{_reading()}</div>')
    shown = [
        part for part in (*_bar_plots(identity, model), _distribution(identity, model)) if part
    ]
    if shown:
        parts.append(f'<div class="grid">{"".join(shown)}</div>')
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


def _table(table: Table, model: ModelReport) -> str:
    head = "".join(f'<th scope="col">{html.escape(title)}</th>' for title in table.columns)
    rows = "".join(_row(table, row, number) for number, row in enumerate(table.rows))
    caption = f"Results of model {model.name} by target"
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


def _bar_plots(identity: str, model: ModelReport) -> Iterable[str]:
    reference = model.float
    sizes = [("float model", reference.size_bytes, 0)]
    latencies = [("float model", reference.bench, 0)]
    metrics = [("float model", reference.metric, 0)]
    for number, target in enumerate(model.targets):
        sizes.append((target.target, target.size_bytes, series(number)))
        latencies.append((target.target, target.bench, series(number)))
        evaluated = target.evaluation.metric if target.evaluation else None
        metrics.append((target.target, evaluated, series(number)))
    found = [
        plots.Bar(
            label=name,
            value=None if size is None else Interval(value=float(size)),
            text=figures.size(size),
            series=colour,
        )
        for name, size, colour in sizes
    ]
    yield _plot(f"{identity}-size", "Size", found)
    found = [_latency_bar(name, bench, colour) for name, bench, colour in latencies]
    yield _plot(f"{identity}-latency", "Latency (p50)", found)
    found, title = [], "Metric"
    for name, report, colour in metrics:
        if report is None or report.value is None:
            found.append(plots.Bar(label=name, value=None, text=figures.NONE, series=colour))
            continue
        unit, factor = figures.scale(report)
        better = "higher" if report.higher_is_better else "lower"
        title = f"{figures.metric_name(report.name)} ({better} is better)"
        value = Interval(value=report.value, low=report.low, high=report.high)
        text = figures.interval_parts(value, unit, factor)[0]
        found.append(plots.Bar(label=name, value=value, text=text, series=colour))
    yield _plot(f"{identity}-metric", title, found)


def _latency_bar(name: str, bench: BenchSummary | None, colour: int) -> plots.Bar:
    if bench is None:
        return plots.Bar(label=name, value=None, text=figures.NONE, series=colour)
    if bench.p50_ms is None:
        return plots.Bar(label=name, value=None, text=f"n/a (n={bench.n})", series=colour)
    text = figures.interval_parts(bench.p50_ms, "ms")[0]
    doubt = "" if bench.validity == "valid" else " (unreliable)"
    return plots.Bar(label=f"{name}{doubt}", value=bench.p50_ms, text=text, series=colour)


def _plot(identity: str, title: str, items: Sequence[plots.Bar]) -> str:
    if all(item.value is None for item in items):
        return ""
    drawn = plots.bars(identity, title, items)
    return f'<div class="card"><h3>{html.escape(title)}</h3>{drawn}</div>'


def _distribution(identity: str, model: ModelReport) -> str:
    benches = [("float model", model.float.bench, 0)]
    for number, target in enumerate(model.targets):
        benches.append((target.target, target.bench, series(number)))
    curves = [
        plots.Curve(label=name, quantiles_ms=bench.quantiles_ms, series=colour)
        for name, bench, colour in benches
        if bench is not None and len(bench.quantiles_ms) == 101
    ]
    if not curves:
        return ""
    title = "Latency distribution: share of inferences within a time"
    legend = "".join(
        f'<li><span class="key s{curve.series}" aria-hidden="true"></span>'
        f"{html.escape(curve.label)}</li>"
        for curve in curves
    )
    drawn = plots.distribution(f"{identity}-distribution", title, curves)
    return f'<div class="card"><h3>{title}</h3><ul class="legend">{legend}</ul>{drawn}</div>'


def _signature(model: ModelReport) -> str:
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
