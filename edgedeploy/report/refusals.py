"""What gates refused, as findings at the lines of the profile that ask for it."""

from __future__ import annotations

from collections.abc import Mapping

from edgedeploy.errors import Diagnostic, Place
from edgedeploy.report import figures
from edgedeploy.report.document import BuildDocument


def refusals(document: BuildDocument, places: Mapping[str, Place]) -> list[Diagnostic]:
    """Return a finding (E001) for every refused target, in the order of the report.

    Args:
        document: The build.
        places: Where each target stands in the profile.
    """
    judged = [(model.name, target) for model in document.models for target in model.targets]
    if document.pipeline is not None:
        judged += [("the pipeline", target) for target in document.pipeline.targets]
    found = []
    for name, target in judged:
        if target.verdict != "refused":
            continue
        why = [figures.gate(gate) for gate in target.gates if gate.state == "refused"]
        found.append(
            Diagnostic(
                code="E001",
                message=f"{name} for {target.target} is refused: {'; '.join(why)}",
                place=places.get(target.target),
                hint="`edgedeploy report` shows all figures; what was built is kept",
            )
        )
    return found
