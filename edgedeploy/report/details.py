"""One target of the HTML report in full: gates, trail, parity, latency, layers, files."""

from __future__ import annotations

import html
from collections.abc import Iterable

from edgedeploy.report import figures, plots
from edgedeploy.report.document import (
    ArithmeticReport,
    BenchSummary,
    EvaluationReport,
    HalfReport,
    SensitivityReport,
    TargetReport,
    UnitsReport,
)

SHOWN_LAYERS = 20


def target_card(identity: str, target: TargetReport, colour: int) -> str:
    """Return the card of one target.

    Args:
        identity: Prefix of element ids within the page.
        target: What to show.
        colour: Series colour of the target.
    """
    scheme = f'<span class="soft">{html.escape(target.chosen)}</span>' if target.chosen else ""
    simulated = '<span class="badge refused">simulated</span>' if target.simulated else ""
    parts = [
        f'<div class="card"><div class="head"><span class="key s{colour}"'
        f' aria-hidden="true"></span><h3>{html.escape(target.target)}</h3>'
        f'<span class="badge {target.verdict}">{target.verdict}</span>{simulated}{scheme}</div>',
        _diagnostics(target),
        _gates(target),
        _candidates(target),
        _folded("Sensitivity of the layers to 8 bits", _sensitivity(target.sensitivity)),
        _folded("Outputs against the float model", _evaluation(target.evaluation)),
        _folded("Error along sequences", _drift(target.evaluation)),
        _folded("Latency, load and memory", _bench(target.bench)),
        _folded("Time per layer", _layers(identity, target, colour)),
        _arithmetic(target.arithmetic, target.simulated),
        _folded("In float32", _half(target.half)),
        _folded("Placement", _placement(target)),
        _units(target.units),
        _folded("Engines", _engines(target)),
        _folded("Files", _files(target)),
    ]
    return "".join([*parts, "</div>"])


def _folded(title: str, content: str) -> str:
    return f"<details><summary>{title}</summary>{content}</details>" if content else ""


def _diagnostics(target: TargetReport) -> str:
    """Return the findings and doubts; gates and schemes have tables of their own."""
    notes = []
    for item in target.diagnostics:
        hint = f'<br><span class="soft">{html.escape(item.hint)}</span>' if item.hint else ""
        notes.append(html.escape(figures.diagnostic(item)) + hint)
    notes += map(html.escape, (*target.wider, *target.notes))
    if target.bench is not None:
        notes += [html.escape(f"latency unreliable: {why}") for why in target.bench.reasons]
    items = "".join(f"<li>{note}</li>" for note in notes)
    return f'<ul class="notes">{items}</ul>' if items else ""


def _rows(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a table of cells that are HTML already; the first of each row is its header."""
    head = "".join(f'<th scope="col">{title}</th>' for title in columns)
    body = ""
    for first, *rest in rows:
        cells = "".join(
            f'<td{"" if cell else " class=none"} data-title="{title}"><div>{cell}</div></td>'
            for title, cell in zip(columns[1:], rest, strict=True)
        )
        body += f'<tr><th scope="row"><div>{first}</div></th>{cells}</tr>'
    if not body:
        return ""
    return f'<table class="stack"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _badge(state: str) -> str:
    return f'<span class="badge {state.replace(" ", "-")}">{state}</span>'


def _gates(target: TargetReport) -> str:
    rows = _rows(
        ("Gate", "State", "Value", "Limit", "Evidence", "Reason"),
        (
            (
                html.escape(gate.gate),
                _badge(gate.state),
                html.escape(gate.value or ""),
                html.escape(gate.limit or ""),
                gate.evidence if gate.evidence != "none" else "",
                html.escape(gate.reason),
            )
            for gate in target.gates
        ),
    )
    return f"<h4>Gates</h4>{rows}" if rows else ""


def _candidates(target: TargetReport) -> str:
    rows = _rows(
        ("Scheme tried", "State", "What it is", "Reason"),
        (
            (
                html.escape(item.name),
                _badge(item.state),
                html.escape(item.about),
                html.escape(item.reason),
            )
            for item in target.candidates
        ),
    )
    return f"<h4>Schemes</h4>{rows}" if rows else ""


def _sensitivity(found: SensitivityReport | None) -> str:
    if found is None:
        return ""
    note = (
        f'<p class="sub">Each layer alone with 8 bits, {found.samples} calibration samples, ranges '
        f"by <code>{html.escape(found.ranges)}</code>; the {SHOWN_LAYERS} most sensitive.</p>"
    )
    return note + _rows(
        ("Layer", "Operator", *figures.SENSITIVITY),
        (
            (
                f"<code>{html.escape(layer.node)}</code>",
                html.escape(layer.op),
                *map(html.escape, figures.sensitive(layer)),
            )
            for layer in found.layers[:SHOWN_LAYERS]
        ),
    )


def _evaluation(evaluated: EvaluationReport | None) -> str:
    if evaluated is None:
        return ""
    names = sorted({name for item in evaluated.parity for name in item.stats})
    table = _rows(
        ("Output", *(html.escape(name) for name in names)),
        (
            (
                f"<code>{html.escape(item.output)}</code>",
                *(_stat(item.stats.get(name)) for name in names),
            )
            for item in evaluated.parity
        ),
    )
    if not evaluated.flipped_ids:
        return table
    shown = ", ".join(f"<code>{html.escape(item)}</code>" for item in evaluated.flipped_ids)
    return f"{table}<p>Answered differently ({evaluated.flipped_count}): {shown}</p>"


def _drift(evaluated: EvaluationReport | None) -> str:
    """Return the error of each output by position in the sequence."""
    if evaluated is None:
        return ""
    return "".join(
        f"<p><code>{html.escape(item.output)}</code>, {item.steps} steps of {item.sequences} "
        "sequences</p>"
        + _rows(
            ("Steps", "Error (RMS)", "Float output (RMS)"),
            (
                (f"{part.first}-{part.last}", _stat(part.rmse), _stat(part.reference_rms))
                for part in item.parts
            ),
        )
        for item in evaluated.drift
    )


def _stat(value: float | None) -> str:
    if value is None:
        return figures.NONE
    # A cosine of 0.999991 must not read as 1.
    return f"{value:.6f}" if 0.99 <= value < 1 else figures.number(value)


def _bench(bench: BenchSummary | None) -> str:
    if bench is None:
        return ""
    facts = [
        *((name.upper(), figures.latency(bench, f"{name}_ms")) for name in ("p50", "p90", "p99")),
        ("mean", f"{figures.number(bench.mean_ms)} ms"),
        *((("on the GPU", on_gpu),) if (on_gpu := figures.on_gpu(bench)) else ()),
        ("first inference", figures.milliseconds(bench.first_inference_ms)),
        ("load, cold", figures.milliseconds(bench.load_cold_ms)),
        ("load, warm", figures.milliseconds(bench.load_warm_ms)),
        ("memory", figures.memory(bench)),
        *((("energy", figures.energy(bench)),) if bench.energy_j else ()),
        ("energy from", bench.energy),
        *((("state", bench.state),) if bench.state else ()),
        ("evidence", figures.evidence(bench)),
        *((("emulated", bench.emulated),) if bench.emulated else ()),
        *((("device", bench.device),) if bench.device else ()),
        ("measured", f"{bench.created}, {bench.runtime}, {bench.cpu or 'unknown CPU'}"),
        ("validity", ": ".join([bench.validity, *bench.reasons])),
    ]
    items = "".join(f"<dt>{name}</dt><dd>{html.escape(text)}</dd>" for name, text in facts)
    return f"<dl>{items}</dl>"


def _layers(identity: str, target: TargetReport, colour: int) -> str:
    if not target.layers:
        return ""
    title = f"Time per layer of {target.target}"
    note = (
        '<p class="sub">From a profiling run apart from the measurement; it slows layers down.</p>'
    )
    return note + plots.layers(f"{identity}-layers", title, target.layers, colour)


def _arithmetic(report: ArithmeticReport | None, simulated: bool) -> str:
    if report is None:
        return ""
    converting = f'<p class="sub">{report.conversions} nodes only convert to or from integers.</p>'
    table = _rows(
        ("In float", "Kernel", "Multiply-adds"),
        (
            (
                f"<code>{html.escape(item.name)}</code>",
                html.escape(item.op),
                figures.NONE if item.macs is None else f"{item.macs:,}",
            )
            for item in report.float_layers
        ),
    )
    title = html.escape(figures.arithmetic(report, simulated=simulated))
    return _folded(title, converting + table)


def _half(report: HalfReport | None) -> str:
    if report is None or not report.nodes:
        return ""
    return _rows(
        ("Node", "Stays in float32 for"),
        (
            (f"<code>{html.escape(item.node)}</code>", html.escape(item.reason))
            for item in report.nodes
        ),
    )


def _units(report: UnitsReport | None) -> str:
    if report is None:
        return ""
    note = (
        f'<p class="sub">The plan of the device, which is no measurement. Compiled there in '
        f"{report.compile_ms:.0f} ms, first loaded in {report.first_load_ms:.0f} ms.</p>"
    )
    ranked = sorted(report.operations, key=lambda item: -(item.cost or 0.0))
    table = _rows(
        ("Operation", "Kind", "Unit", "Could run on", "Estimated cost"),
        (
            (
                f"<code>{html.escape(item.name)}</code>",
                html.escape(item.op),
                html.escape(item.preferred or figures.NONE),
                html.escape(", ".join(item.supported)),
                figures.NONE if item.cost is None else f"{item.cost:.1%}",
            )
            for item in ranked[:SHOWN_LAYERS]
        ),
    )
    return _folded(html.escape(figures.units(report)), note + table)


def _placement(target: TargetReport) -> str:
    return _rows(
        ("Provider", "Nodes", "Left out"),
        (
            (
                html.escape(item.provider),
                f"{item.nodes} of {item.total}",
                "<br>".join(html.escape(text) for text in item.left),
            )
            for item in target.placement
        ),
    )


def _engines(target: TargetReport) -> str:
    return _rows(
        ("Engine", "Of", "SHA-256"),
        (
            (
                f"<code>{html.escape(item.entry)}</code>",
                html.escape(figures.engine(item)),
                f"<code>{html.escape(item.sha256)}</code>",
            )
            for item in target.engines
        ),
    )


def _files(target: TargetReport) -> str:
    return _rows(
        ("File", "Size", "SHA-256"),
        (
            (
                f"<code>{html.escape(item.path)}</code>",
                figures.size(item.size_bytes),
                f"<code>{html.escape(item.sha256)}</code>",
            )
            for item in target.files
        ),
    )
