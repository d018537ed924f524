"""Random forms of operators through the whole Core ML path, against ONNX Runtime.

Many nodes go into one model, because a conversion costs more than a node. ``python -m
tests.coreml.sweeps [FAMILY ...] [--rounds N] [--seed N]`` runs as many rounds as wanted.
"""

from __future__ import annotations

import argparse
import collections
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime

from edgedeploy.errors import BuildError
from tests.coreml.harness import Converted

Random = np.random.Generator


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """One node with sample inputs.

    Attributes:
        op: The operator.
        inputs: Arrays that are fed, None for one that is left out.
        constants: Those of the inputs, by place, that are constants of the model.
        attributes: Of the node.
        outputs: How many outputs are wanted.
    """

    op: str
    inputs: Sequence[np.ndarray | None]
    constants: frozenset[int] = frozenset()
    attributes: dict[str, Any] = field(default_factory=dict)
    outputs: int = 1

    def told(self) -> str:
        """Return the form in words."""
        shapes = [None if item is None else item.shape for item in self.inputs]
        values = [
            item.tolist() for item in self.inputs if item is not None and item.dtype.kind == "i"
        ]
        return f"{self.op}{shapes} {self.attributes} {values or ''}"


Draw = Callable[[Random], Form]


@dataclass(slots=True)
class Found:
    """What became of many forms.

    Attributes:
        passed: Forms that give what ONNX Runtime gives.
        refused: Forms that are refused, and why.
        wrong: Forms that give something else, and what.
        invalid: Forms that ONNX Runtime does not run.
        kinds: MIL operations of the package.
    """

    passed: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    invalid: list[str] = field(default_factory=list)
    kinds: set[str] = field(default_factory=set)


def model_of(forms: Sequence[Form], opset: int) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """Return a model of one node per form, and its inputs."""
    nodes, entries, initializers, exits, feeds = [], [], [], [], {}
    for number, form in enumerate(forms):
        names = []
        for place, array in enumerate(form.inputs):
            name = f"i{number}_{place}"
            names.append("" if array is None else name)
            if array is None:
                continue
            if place in form.constants:
                initializers.append(onnx.numpy_helper.from_array(array, name))
                continue
            kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
            entries.append(onnx.helper.make_tensor_value_info(name, kind, array.shape))
            feeds[name] = array
        made = [f"o{number}_{place}" for place in range(form.outputs)]
        nodes.append(
            onnx.helper.make_node(form.op, names, made, name=f"n{number}", **form.attributes)
        )
        exits.extend(onnx.helper.make_empty_tensor_value_info(name) for name in made)
    graph = onnx.helper.make_graph(nodes, "sweep", entries, exits, initializers)
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=10
    )
    return onnx.shape_inference.infer_shapes(model, data_prop=True), feeds


def typed(model: onnx.ModelProto, made: dict[str, np.ndarray]) -> onnx.ModelProto:
    """Return a model that declares the types and shapes of these outputs.

    ONNX infers none for ``Mean`` and ``InvStdDev`` of LayerNormalization.
    """
    for place, (name, array) in enumerate(made.items()):
        kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        told = onnx.helper.make_tensor_value_info(name, kind, array.shape)
        model.graph.output[place].CopyFrom(told)
    return model


def expected(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the outputs of ONNX Runtime without optimisation."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [item.name for item in model.graph.output]
    return dict(zip(names, session.run(names, feeds), strict=True))


def sweep(draws: Sequence[Draw], *, count: int, seed: int, opset: int = 22, ios: int = 17) -> Found:
    """Run random forms.

    Args:
        draws: What makes a form; taken in turn.
        count: How many forms that ONNX Runtime runs.
        seed: Of the generator.
        opset: Version of the standard domain.
        ios: Major version of iOS.
    """
    random, invalid = np.random.default_rng(seed), []
    forms: list[Form] = []
    while len(forms) < count:
        form = draws[len(forms) % len(draws)](random)
        try:
            expected(*model_of([form], opset))
        except Exception as error:
            invalid.append(f"{form.told()}: {str(error)[:200]}")
            if len(invalid) > 20 * count:
                raise
            continue
        forms.append(form)
    found = compare(forms, opset=opset, ios=ios)
    found.invalid += invalid
    return found


def compare(forms: Sequence[Form], *, opset: int = 22, ios: int = 17) -> Found:
    """Run forms that ONNX Runtime runs."""
    found = Found()
    kept, converted = _converted(list(forms), found, opset, ios)
    if converted is None:
        return found
    model, feeds = model_of(kept, opset)
    wanted, made = expected(model, feeds), converted.run(feeds)
    for number, form in enumerate(kept):
        said = [
            _difference(made[name], wanted[name])
            for name in (f"o{number}_{place}" for place in range(form.outputs))
        ]
        told = next((item for item in said if item), "")
        (found.wrong if told else found.passed).append(f"{form.told()}: {told}")
    found.kinds = converted.kinds()
    return found


def _converted(
    forms: list[Form], found: Found, opset: int, ios: int
) -> tuple[list[Form], Converted | None]:
    """Return the forms that translate, and the model of all of them; None of none."""
    model, feeds = model_of(forms, opset)
    try:
        return forms, Converted(typed(model, expected(model, feeds)), ios=ios)
    except BuildError as error:
        refused = {item.subject: item.message for item in error.diagnostics if item.code == "E340"}
        if not refused:
            raise
    kept = []
    for number, form in enumerate(forms):
        if f"n{number}" in refused:
            found.refused.append(f"{form.told()}: {refused[f'n{number}']}")
        else:
            kept.append(form)
    return _converted(kept, found, opset, ios) if kept else ([], None)


def _difference(made: np.ndarray, wanted: np.ndarray) -> str:
    """Return how two arrays differ, or nothing."""
    if made.shape != wanted.shape:
        return f"shape {made.shape}, not {wanted.shape}"
    if wanted.dtype.kind != "f":
        return "" if np.array_equal(made, wanted) else f"{made.tolist()}, not {wanted.tolist()}"
    scale = np.abs(wanted[np.isfinite(wanted)]).max(initial=1e-3)
    if np.allclose(made, wanted, rtol=1e-4, atol=1e-5 * scale, equal_nan=True):
        return ""
    return f"off by {np.nanmax(np.abs(made - wanted)):.3g} of {scale:.3g}"


def floats(random: Random, *shape: int) -> np.ndarray:
    """Return normal numbers, float32."""
    return random.standard_normal(shape).astype(np.float32)


def pick(random: Random, *choices: Any) -> Any:
    """Return one of several."""
    return choices[random.integers(len(choices))]


def several(random: Random, count: int, low: int, high: int) -> list[int]:
    """Return whole numbers from ``low`` to ``high``."""
    return [int(item) for item in random.integers(low, high + 1, count)]


def main(words: list[str]) -> None:
    """Run sweeps and print what was wrong or refused."""
    from tests.coreml.forms import FAMILIES

    parser = argparse.ArgumentParser()
    parser.add_argument("families", nargs="*")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--count", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ios", type=int, default=17)
    chosen = parser.parse_args(words)
    for name in chosen.families or FAMILIES:
        sums: collections.Counter[str] = collections.Counter()
        for number in range(chosen.rounds):
            found = sweep(
                FAMILIES[name], count=chosen.count, seed=chosen.seed + number, ios=chosen.ios
            )
            for told in found.wrong:
                print(f"wrong    {told}", flush=True)
            for told in found.refused:
                print(f"refused  {told}", flush=True)
            for kind in ("passed", "refused", "wrong", "invalid"):
                sums[kind] += len(getattr(found, kind))
        print(name, dict(sums), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
