"""``edgedeploy accept``: judge the gates again, and insist on evidence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from edgedeploy import api
from edgedeploy.building import BuildResult
from edgedeploy.cli.output import Output, verb
from edgedeploy.cli.progress import watch
from edgedeploy.cli.request import profile_options, request_of
from edgedeploy.errors import ExitCode, UsageError
from edgedeploy.events import EventLog
from edgedeploy.parity.gates import ON_DEVICE, GateVerdict
from edgedeploy.runner import EVIDENCE_ORDER


@click.command()
@profile_options
@click.option(
    "--require",
    multiple=True,
    metavar="GATE:EVIDENCE",
    help="A gate that must be judged by such evidence or better, such as latency:device.",
)
@click.option("-o", "--output", "folder", type=click.Path(path_type=Path), default=Path("build"))
@click.option("--store", type=click.Path(path_type=Path), help="Store folder (EDGEDEPLOY_STORE).")
@verb
def command(
    output: Output, require: tuple[str, ...], folder: Path, store: Path | None, **rest: Any
) -> int:
    """Judge every gate of PROFILE by what is built and measured; measure nothing.

    Exit status 1 when a gate refuses or a required one is not judged.
    """
    wanted = [_requirement(text) for text in require]
    listener = watch(output)
    try:
        result = api.build(
            request_of(rest),
            api.BuildOptions(output=folder, store=store, measure="known"),
            EventLog(listener),
        )
    finally:
        listener.close()
    lines: list[str] = []
    rows: list[dict[str, Any]] = []
    code = result.exit_code
    for name, state, gates, holds in _rows(result):
        lines.append(f"{name}: {state}")
        lines += [f"  {_line(gate)}" for gate in gates]
        missing = [t for t, gate, why in wanted if holds(gate) and not _met(gates, gate, why)]
        lines += [f"  required {text}: not met{_absent(gates, text)}" for text in missing]
        if missing and code == ExitCode.DONE:
            code = ExitCode.REFUSED
        rows.append(
            {
                "item": name,
                "state": state,
                "gates": [gate.to_json() for gate in gates],
                "unmet": missing,
            }
        )
    return output.result("\n".join(lines), {"items": rows}, code)


def _rows(
    result: BuildResult,
) -> Iterator[tuple[str, str, tuple[GateVerdict, ...], Callable[[str], bool]]]:
    """Yield name, state and gates of each item, and which requirements it has to meet.

    Where there is a pipeline, its metric is held by the models of a target together.
    """
    whole = bool(result.combinations)
    for out in result.outcomes:
        gates = out.chosen.gates if out.chosen else ()
        yield out.item.name, out.state, gates, lambda gate: not (whole and gate == "metric")
    for found in result.combinations:
        name = f"pipeline -> {found.use.target}"
        yield name, found.state, found.gates, lambda gate: gate == "metric"


def _requirement(text: str) -> tuple[str, str, str]:
    gate, colon, evidence = text.partition(":")
    if not colon or evidence not in EVIDENCE_ORDER:
        raise UsageError(
            f"--require {text!r} is no GATE:EVIDENCE",
            code="E100",
            hint=f"evidence is one of {', '.join(EVIDENCE_ORDER[:-1])}; such as latency:device",
        )
    return text, gate, evidence


def _met(gates: tuple[GateVerdict, ...], name: str, evidence: str) -> bool:
    """Whether every gate of that name (``latency`` means all its statistics) passed so.

    Of a gate that was judged here and on a device, the device's verdict counts for ``device``.
    """
    found = [gate for gate in gates if gate.gate == name or gate.gate.startswith(f"{name}_")]
    if evidence == "device":
        twins = {gate.gate.removesuffix(ON_DEVICE) for gate in found if ON_DEVICE in gate.gate}
        found = [gate for gate in found if gate.gate not in twins]
    return bool(found) and all(
        gate.state == "passed"
        and EVIDENCE_ORDER.index(gate.evidence) <= EVIDENCE_ORDER.index(evidence)
        for gate in found
    )


def _absent(gates: tuple[GateVerdict, ...], text: str) -> str:
    """Return, as the end of a sentence, that there is no gate of a required name."""
    name = text.partition(":")[0]
    there = any(gate.gate == name or gate.gate.startswith(f"{name}_") for gate in gates)
    return "" if there else f"; the profile has no gate `{name}`"


def _line(gate: GateVerdict) -> str:
    state = gate.state.replace("_", " ")
    value = f"{gate.value} (limit {gate.limit})" if gate.value else f"limit {gate.limit}"
    return f"{gate.gate:<12} {state:<10} {value}  [{gate.evidence}] {gate.reason}"
