"""Stage ``preprocessing``: whether the float model answers better to another than the declared one.

It makes nothing that other stages take; where the declaration seems to be wrong it fails, so that
nothing else is built of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from edgedeploy.errors import DataError
from edgedeploy.stage import Made, StageKind, Work
from edgedeploy.steps.reference import model_decoder, model_metadata, state_zeros
from edgedeploy.steps.samples import model_signature

if TYPE_CHECKING:
    import numpy as np

    from edgedeploy.data.alternatives import Alternative
    from edgedeploy.data.pack import Sample
    from edgedeploy.parity.metrics import Metric
    from edgedeploy.parity.preprocessing import Tried
    from edgedeploy.signature import Signature, TensorSpec

CODES = {"image": "E840", "audio": "E841"}


def run(work: Work) -> Made:
    """Write what the float model is worth with other preprocessings than ``params.fed`` says.

    Raises:
        DataError: One of them is better, and not by accident (E840 of images, E841 of sound), or
            the samples are not what is declared (E842).
    """
    from edgedeploy.backends.ortmobile.reference import reference_runner
    from edgedeploy.data.pack import PackReader
    from edgedeploy.parity.evaluation import Evaluation
    from edgedeploy.parity.metrics import Options, make_metric
    from edgedeploy.parity.preprocessing import chosen_samples, try_alternatives
    from edgedeploy.profile.expand import metric_from_data

    spec = metric_from_data(work.params["metric"])
    if spec is None:
        raise ValueError("the plan asks for no check without a metric")
    if spec.runs_user_code:
        work.observe()
    units = chosen_samples(_unbaked(work, PackReader(work.inputs["samples"])))
    kinds = list(_alternatives(work, model_signature(work.inputs["model"]), units))
    score = json.loads((work.inputs["score"] / "evaluation.json").read_text(encoding="utf-8"))
    state = [(given, made) for given, made in work.params["state"]]
    with reference_runner(work.inputs["model"] / "model.onnx") as runner:
        options = Options(
            spec=spec,
            default_output=runner.signature.outputs[0].name,
            metadata=model_metadata(work.inputs["facts"]),
            folder=work.project,
            decoder=model_decoder(work, runner.signature),
        )

        def metric() -> Metric:
            return make_metric(options)

        tried = try_alternatives(
            runner,
            units,
            Evaluation.from_json(score).scores,
            [alternative for _, alternative in kinds],
            metric,
            state=state,
            zeros=state_zeros(model_signature(work.inputs["model"]), state),
            progress=lambda done, total: work.progress(done, total, "preprocessings"),
        )
    refuse_better(
        [(kind, item) for (kind, _), item in zip(kinds, tried, strict=True)], spec.name, metric()
    )
    data = [item.to_json() for item in tried]
    text = json.dumps(data, sort_keys=True, ensure_ascii=False, indent=1)
    (work.outputs["tried"] / "preprocessing.json").write_text(text + "\n", encoding="utf-8")
    return Made(summary={"tried": data})


def _unbaked(work: Work, samples: Iterable[Sample]) -> Iterator[Sample]:
    """Yield samples as the model takes them that has nothing baked into it."""
    from edgedeploy.data.unbaked import UnbakedSample
    from edgedeploy.profile.expand import baked_images

    images = baked_images(work.params["inputs"])
    dtypes = {spec.name: spec.dtype for spec in model_signature(work.inputs["model"]).inputs}
    for sample in samples:
        yield UnbakedSample(sample, images, dtypes) if images else sample


def _alternatives(
    work: Work, signature: Signature, units: Sequence[Sequence[Sample]]
) -> Iterator[tuple[str, Alternative]]:
    """Yield what is tried, each with the key of the profile that it would change.

    Inputs that are declared alike are changed together: two pictures that a model compares went
    the same way in its training.
    """
    from edgedeploy.data.alternatives import (
        audio_alternatives,
        check_loudness,
        image_alternatives,
        pixel_statistics,
    )
    from edgedeploy.profile.expand import input_from_data

    alike: dict[tuple[str, str], list[TensorSpec]] = {}
    for given in signature.inputs:
        words = work.params["fed"].get(given.name)
        if words is not None:
            kind = "image" if words["image"] else "audio"
            alike.setdefault((kind, _numbers(words[kind])), []).append(given)
    for (kind, _), inputs in alike.items():
        spec = input_from_data(inputs[0].name, work.params["fed"][inputs[0].name])
        if spec.image is not None:
            image = replace(spec.image, bake=())
            seen = [
                pixel_statistics(name, _tensors(units, name), image)
                for name in (given.name for given in inputs)
            ]
            found = image_alternatives(inputs, image, seen[0])
        elif spec.audio is not None:
            for given in inputs:
                check_loudness(given.name, _tensors(units, given.name), spec.audio)
            found = audio_alternatives([given.name for given in inputs], spec.audio)
        yield from ((kind, alternative) for alternative in found)


def _tensors(units: Sequence[Sequence[Sample]], name: str) -> Iterator[np.ndarray]:
    for unit in units:
        for sample in unit:
            yield sample.tensors()[name]


def _numbers(words: Mapping[str, Any]) -> str:
    """Return what of a preprocessing makes tensors of pixels: not how a picture is fitted."""
    names = ("colour", "layout", "scale", "mean", "std")
    return json.dumps({name: words[name] for name in names if name in words})


def refuse_better(tried: Sequence[tuple[str, Tried]], name: str, metric: Metric) -> None:
    """Refuse a declaration that another one beats.

    Args:
        tried: Every alternative with the key of the profile that it would change.
        name: The metric's name.
        metric: The metric.

    Raises:
        DataError: There is one (E840, E841); of several, the best is told.
    """
    sign = 1 if metric.higher_is_better else -1
    better = [(kind, item) for kind, item in tried if item.is_better]
    if not better:
        return
    kind, best = max(better, key=lambda pair: sign * (pair[1].value or 0.0))
    (first, *_), what = best.alternative.inputs, best.alternative.what

    def shown(value: float | None) -> str:
        number = value or 0.0
        return f"{100 * number:.1f} %" if metric.unit == "fraction" else f"{number:.4g}"

    raise DataError(
        f"the float model answers better {what} than as `{kind}:` of input '{first}' declares: "
        f"{name} {shown(best.value)} instead of {shown(best.declared)} on {best.samples} samples "
        f"(p = {best.p:.1g})",
        code=CODES[kind],
        subject=first,
        hint=f"if it was trained so, {best.alternative.write} under `{kind}`, and let a data "
        "function do the same; if it was not, write `checked: false` there",
    )


STAGE = StageKind(
    kind="preprocessing",
    run=run,
    outputs=("tried",),
    tools=("onnxruntime", "numpy"),
    code=(
        "backends/ortmobile",
        "data/alternatives",
        "data/pack",
        "data/pixels",
        "data/preprocess",
        "data/unbaked",
        "decode",
        "parameters",
        "parity",
        "profile/classes",
        "profile/types",
        "runner",
        "steps/reference",
        "steps/samples",
    ),
)
