"""The reference page of all diagnostic codes, made from the catalogue."""

from __future__ import annotations

from collections.abc import Mapping

from edgedeploy.errors.codes import Explanation, catalogue

# First digit of a code -> what its range is about and the exit status that such failures mostly
# have.
AREAS: Mapping[str, str] = {
    "0": "Verdicts (exit 1)",
    "1": "Command line, profiles and targets (exit 2)",
    "2": "Models, data and metrics (exit 2)",
    "3": "Building and measuring (exit 3)",
    "4": "Devices (exit 4)",
    "5": "Tools (exit 5)",
    "6": "Store and local disk (exit 6)",
    "7": "Integrity (exit 7)",
    "8": "Applications (exit 2)",
    "9": "Bugs of ours (exit 70)",
}

_HEAD = """\
# Diagnostic codes

Made from the catalogue by `edgedeploy.errors.reference`; change `edgedeploy/errors/codes/`, not
this file. `edgedeploy check --explain CODE` prints one entry.

A code never changes its meaning and is never used again for another one. The exit status in a
heading is the usual one of its range; with several failures in a run the gravest decides, see
[faults](faults.md#exit-codes).
"""


def diagnostics_markdown() -> str:
    """Return the reference page: one table per area, codes ascending."""
    parts = [_HEAD]
    known = catalogue()
    for digit, title in AREAS.items():
        codes = {code: known[code] for code in known if code[1] == digit}
        if codes:
            parts += [f"\n## {title}\n\n| code | what | cause and way out |\n|---|---|---|\n"]
            parts += [_row(code, explanation) for code, explanation in codes.items()]
    return "".join(parts)


def _row(code: str, explanation: Explanation) -> str:
    return f"| `{code}` | {_cell(explanation.title)} | {_cell(explanation.text)} |\n"


def _cell(text: str) -> str:
    """Return text as it can stand in a cell: on one line, without the cell's own mark."""
    return " ".join(text.split()).replace("|", "\\|")
