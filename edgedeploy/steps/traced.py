"""Stage ``traced``: the part of a pipeline's trace that one model was fed, as its samples."""

from __future__ import annotations

from edgedeploy.stage import Made, StageKind, Work


def run(work: Work) -> Made:
    """Join the packs ``params.packs`` of ``inputs.traces``; there must be enough in them.

    Raises:
        DataError: The model was called too seldom (E885), or has a state, ``params.state``, and no
            call followed another (E865).
    """
    from edgedeploy.data.pack import PackReader, PackWriter, longest_sequence, single_samples
    from edgedeploy.errors import DataError

    params = work.params
    packs = [PackReader(work.inputs["traces"] / name) for name in params["packs"]]
    count = sum(map(len, packs))
    least = 2 if params["role"] == "calibrate" else 1
    if count < least:
        calls = "never" if count == 0 else "only once"
        raise DataError(
            f"the pipeline called {params['model']} {calls} on its `{params['role']}` data",
            code="E885",
            subject=params["model"],
            hint="give the pipeline samples on which it calls the model, or give the model "
            f"`data: {{{params['role']}: ...}}` of its own",
        )
    if params["state"] and max(map(longest_sequence, packs)) < 2:
        what = f"what the pipeline feeds {params['model']} on its `{params['role']}` data"
        raise single_samples(params["model"], what, params["state"][0])
    with PackWriter(work.outputs["samples"]) as writer:
        for pack in packs:
            for sample in pack:
                writer.add(sample.id, sample.tensors(), sequence=sample.sequence)
    return Made(summary={"samples": count})


STAGE = StageKind(
    kind="traced",
    run=run,
    outputs=("samples",),
    tools=("numpy",),
    code=("data/pack",),
)
