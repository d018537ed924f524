"""Stage ``paired``: two evaluations on the same samples, held against each other group by group."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

from edgedeploy.errors import DataError
from edgedeploy.stage import Made, StageKind, Work
from edgedeploy.steps.reference import model_decoder, model_metadata
from edgedeploy.steps.samples import model_signature

if TYPE_CHECKING:
    from pathlib import Path

    from edgedeploy.data.pack import PackReader
    from edgedeploy.parity.evaluation import Evaluation
    from edgedeploy.parity.metrics import Metric
    from edgedeploy.parity.pairing import Slicing

MOST_SLICES = 64
"""Values of one column or function: every one is a hypothesis that makes all others harder."""


def run(work: Work) -> Made:
    """Write how ``inputs.before`` and ``inputs.after`` compare."""
    from edgedeploy.data.pack import PackReader
    from edgedeploy.parity.pairing import pair_artifacts

    if work.params["project"] is not None:
        work.observe()
    pack = PackReader(work.inputs["samples"])
    paired = pair_artifacts(
        work.params["metric"]["name"],
        _metric(work),
        _evaluation(work.inputs["before"]),
        _evaluation(work.inputs["after"]),
        [_slicing(name, work, pack) for name in work.params["slices"]],
        work.params["comparisons"],
    )
    text = json.dumps(paired.to_json(), sort_keys=True, ensure_ascii=False)
    (work.outputs["paired"] / "paired.json").write_text(text + "\n", encoding="utf-8")
    return Made(summary={"groups": len(paired.groups), "flips": len(paired.flips)})


def _evaluation(folder: Path) -> Evaluation:
    from edgedeploy.parity.evaluation import Evaluation

    return Evaluation.from_json(json.loads((folder / "evaluation.json").read_text("utf-8")))


def _metric(work: Work) -> Metric:
    """Return the metric that both were scored with; here it only reads its own records."""
    from edgedeploy.parity.metrics import Options, make_metric
    from edgedeploy.profile.expand import metric_from_data

    spec = metric_from_data(work.params["metric"])
    if spec is None:  # nobody pairs without a metric
        raise _refused("the profile names no metric", "metric", "add `metric:`")
    if "model" not in work.inputs:  # a pipeline's outputs have no decoder and no metadata
        return make_metric(Options(spec=spec, default_output="", folder=work.project))
    signature = model_signature(work.inputs["model"])
    return make_metric(
        Options(
            spec=spec,
            default_output=signature.outputs[0].name,
            metadata=model_metadata(work.inputs["facts"]),
            folder=work.project,
            decoder=model_decoder(work, signature),
        )
    )


def _slicing(name: str, work: Work, pack: PackReader) -> Slicing:
    """Return the samples by a column of the labels, or by a function of their names.

    Raises:
        DataError: There is no such column, it says nothing of any sample, or has too many values
            (E857); or the function cannot be used (E282, E857).
    """
    from edgedeploy.parity.pairing import Slicing

    found = _by_function(name, work, pack) if ".py:" in name else _by_column(name, work, pack)
    values = set(found.values())
    if not values or len(values) > MOST_SLICES:
        raise _refused(
            f"{name} parts the samples into {len(values)} slices, not 1 to {MOST_SLICES}",
            name,
            "give a column or a function with few values, such as the place or the device",
        )
    return Slicing(name=name.rpartition(":")[2], value=found)


def _by_column(name: str, work: Work, pack: PackReader) -> dict[str, str]:
    """Return the value of a column by sample; of a sequence's samples, that of the sequence."""
    with work.inputs["labels"].open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        columns = [column for column in reader.fieldnames or () if column not in ("file", "label")]
        if name not in columns:
            raise _refused(
                f"the table of labels has no column {name!r}",
                name,
                f"it has: {', '.join(columns) or 'none besides file and label'}",
            )
        rows = {row["file"]: row[name] for row in reader if row[name]}
    named = {sample.id: rows.get(sample.id, rows.get(sample.sequence or "")) for sample in pack}
    return {sample: value for sample, value in named.items() if value is not None}


def _by_function(name: str, work: Work, pack: PackReader) -> dict[str, str]:
    """Return what the function says of each sample's name; None puts a sample in no slice."""
    from edgedeploy.data.usercode import check_call, load_function, user_errors

    function = load_function(name, work.project, code="E857")
    check_call(name, function, 1, {})
    file = work.project / name.rpartition(":")[0]
    found: dict[str, str] = {}
    with user_errors(name, file, work.project, "E857"):
        for sample in pack:
            value: Any = function(sample.id)
            if value is not None:
                found[sample.id] = str(value)
    return found


def _refused(message: str, subject: str, hint: str) -> DataError:
    return DataError(message, code="E857", subject=subject, hint=hint)


STAGE = StageKind(
    kind="paired",
    run=run,
    outputs=("paired",),
    tools=("numpy",),
    code=(
        "data/pack",
        "data/usercode",
        "decode",
        "parameters",
        "parity",
        "profile/classes",
        "profile/expand",
        "steps/reference",
        "steps/samples",
    ),
)
