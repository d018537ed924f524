"""Apple's torch front end, up to the interpreter: the helpers of the anchor tests."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from edgedeploy.mil.interpreter import Interpreter, operations
from edgedeploy.mil.read import read_package

RTOL, ATOL = 1e-4, 1e-5


@dataclass(frozen=True, slots=True)
class Probe:
    """A function whose conversion has the operation.

    Attributes:
        run: A function of tensors, or a module.
        inputs: What it is traced and compared with.
        ios: Deployment target.
        ranges: Axes of the first input that are open, with the size to compare with as well.
    """

    run: Callable[..., Any]
    inputs: tuple[torch.Tensor, ...]
    ios: int = 17
    ranges: tuple[tuple[int, int], ...] = ()


def model(module: nn.Module, probe: Probe, *, precision: str = "FLOAT32", **options: Any) -> Any:
    """Return a module as Apple's front end converts it."""
    import coremltools as ct

    logging.getLogger("coremltools").setLevel(logging.ERROR)
    types = {torch.float32: np.float32, torch.int32: np.int32}
    shapes: list[Any] = [tuple(item.shape) for item in probe.inputs]
    for axis, largest in probe.ranges:
        shapes[0] = tuple(
            ct.RangeDim(1, largest, default=size) if place == axis else size
            for place, size in enumerate(shapes[0])
        )
    scripted = isinstance(module, torch.jit.ScriptModule)
    return ct.convert(
        module if scripted else torch.jit.trace(module, probe.inputs, check_trace=False),
        inputs=[
            ct.TensorType(name=f"x{place}", shape=shape, dtype=types[item.dtype])
            for place, (shape, item) in enumerate(zip(shapes, probe.inputs, strict=True))
        ],
        minimum_deployment_target=getattr(ct.target, f"iOS{probe.ios}"),
        compute_precision=getattr(ct.precision, precision),
        skip_model_load=True,
        **options,
    )


def convert(module: nn.Module, probe: Probe, folder: Path, **options: Any) -> Interpreter:
    """Return a module as Apple's front end converts and saves it, ready to run."""
    return saved(model(module, probe, **options), folder)


def saved(converted: Any, folder: Path) -> Interpreter:
    """Return a converted model as its saved package computes it."""
    converted.save(str(folder / "model.mlpackage"))
    return Interpreter(read_package(folder / "model.mlpackage"))


def kinds(machine: Interpreter) -> set[str]:
    """Return the operations of a package."""
    return {item.kind for item in operations(machine.program.body)}


def compare(
    machine: Interpreter,
    module: nn.Module,
    inputs: Sequence[torch.Tensor],
    *,
    rtol: float = RTOL,
    atol: float = ATOL,
) -> None:
    """Hold what the package computes to what torch computes."""
    given = {f"x{place}": item.numpy() for place, item in enumerate(inputs)}
    # A module that writes into an argument must not write into ours.
    wanted = module(*(item.clone() for item in inputs))
    nested = wanted if isinstance(wanted, (tuple, list)) else [wanted]
    flat = list(itertools.chain(*(item if isinstance(item, tuple) else [item] for item in nested)))
    made = list(machine.run(given).values())
    for found, item in zip(made, flat, strict=True):
        value = item.detach().numpy()
        # Core ML has no output of rank 0.
        assert found.shape == value.shape or (found.shape, value.shape) == ((1,), ())
        found = found.astype(np.float64).reshape(value.shape)
        np.testing.assert_allclose(found, value, rtol=rtol, atol=atol)
