"""Stage ``onefile``: a file of the user's as samples of a model, or of a pipeline."""

from __future__ import annotations

from edgedeploy.stage import Made, StageKind, Work
from edgedeploy.steps.samples import model_signature, named_axes


def run(work: Work) -> Made:
    """Write ``inputs.file`` as a pack: conformed to ``inputs.model``, or as it is without one.

    The pack is empty where the model is of one bucket and the file of another bucket's size.
    """
    from edgedeploy.data.conform import Conformer
    from edgedeploy.data.onefile import read_file, read_plain_file
    from edgedeploy.data.pack import PackWriter
    from edgedeploy.profile.dims import parse_dim
    from edgedeploy.profile.expand import input_from_data

    file, kind = work.inputs["file"], work.params["kind"]
    with PackWriter(work.outputs["samples"]) as writer:
        if "model" not in work.inputs:
            plain = read_plain_file(file, kind)
            writer.add(plain.id, plain.tensors)
            return Made(summary={"samples": 1})
        state = {given for given, _ in work.params["state"]}
        signature = model_signature(work.inputs["model"])
        inputs = [spec for spec in signature.inputs if spec.name not in state]
        words = work.params["inputs"]
        specs = {
            spec.name: input_from_data(spec.name, words[spec.name])
            for spec in inputs
            if spec.name in words
        }
        dims = {name: parse_dim(text) for name, text in work.params["dims"].items()}
        conformer = Conformer(inputs, specs, named_axes(work), dims)
        count = 0
        for sample in read_file(file, kind, conformer.wanted, specs):
            if conformer.is_of_other_bucket(sample.tensors):
                continue
            tensors = conformer.conform(sample.id, sample.tensors)
            writer.add(sample.id, tensors, sequence=sample.sequence, geometry=sample.geometry)
            count += 1
    return Made(summary={"samples": count})


STAGE = StageKind(kind="onefile", run=run, outputs=("samples",), tools=("numpy", "pillow"))
