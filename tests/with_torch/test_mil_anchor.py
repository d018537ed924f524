"""The MIL interpreter against torch: torch module, Apple's torch front end, saved package, ours.

Nothing of our own front end takes part, so the two cannot share a misreading of MIL. There is one
probe per operation that Apple's front end emits and ours can emit too, named after it; an
operation with several forms has more.
"""

from __future__ import annotations

import ast
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from apple_front_end import Probe, compare, convert, kinds
from torch import nn

import edgedeploy.backends.apple
from edgedeploy.mil.registry import entries


class Wrapped(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self.function(*inputs)


def draw(*sizes: int) -> torch.Tensor:
    """Return values of a normal distribution, others with every call."""
    return torch.randn(*sizes, generator=_GENERATOR)


_GENERATOR = torch.Generator().manual_seed(7)


def positive(*sizes: int) -> torch.Tensor:
    return draw(*sizes).abs() + 0.1


def unit(*sizes: int) -> torch.Tensor:
    """Return values between -1 and 1."""
    return torch.tanh(draw(*sizes)) * 0.95


def whole(*sizes: int, high: int = 9) -> torch.Tensor:
    return torch.randint(0, high, sizes, generator=_GENERATOR, dtype=torch.int32)


def lstm(**options: Any) -> nn.Module:
    return nn.LSTM(3, 4, **options)


def seeded(module: nn.Module) -> nn.Module:
    """Return a module with running statistics and affine parameters that are not trivial."""
    with torch.no_grad():
        for name, value in itertools.chain(module.named_parameters(), module.named_buffers()):
            if value.dtype.is_floating_point:
                value.copy_(positive(*value.shape) if "var" in name else draw(*value.shape))
    return module


def sliding_update(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    z = x * 1.0
    z[:, 1:3] = y
    return z


class Branching(nn.Module):
    """A choice that depends on a value: scripted, for a trace has but one side of it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2 if bool(x.sum() > 0) else x - 1


THETA = torch.tensor([[[0.7, -0.3, 0.2], [0.4, 0.9, -0.5]]])
X, Y = draw(2, 3, 4, 5), draw(2, 3, 4, 5)
IMAGE = draw(1, 4, 9, 8)
ROWS, GRID = torch.tensor([2, 0, 1], dtype=torch.int32), unit(1, 6, 7, 2) * 1.4

PROBES: dict[str, Probe] = {
    # Element by element.
    "abs": Probe(torch.abs, (X,)),
    "acos": Probe(torch.acos, (unit(3, 4),)),
    "add": Probe(torch.add, (X, Y[:, :1])),
    "asin": Probe(torch.asin, (unit(3, 4),)),
    "atan": Probe(torch.atan, (X,)),
    "atanh": Probe(torch.atanh, (unit(3, 4),)),
    "cast": Probe(lambda x: (x * 3).to(torch.int32), (X,)),
    "ceil": Probe(torch.ceil, (X,)),
    "clip": Probe(lambda x: x.clamp(-0.5, 0.7), (X,)),
    "cos": Probe(torch.cos, (X,)),
    "cosh": Probe(torch.cosh, (X,)),
    "equal": Probe(lambda x, y: (x == y).float(), (whole(4, 5, high=3), whole(4, 5, high=3))),
    "erf": Probe(torch.erf, (X,)),
    "exp": Probe(torch.exp, (X,)),
    "exp2": Probe(torch.exp2, (X,)),
    "floor": Probe(torch.floor, (X,)),
    "floor_div": Probe(lambda x, y: torch.floor_divide(x, y), (X * 9, positive(2, 3, 4, 5))),
    "greater": Probe(lambda x, y: (x > y).float(), (X, Y)),
    "greater_equal": Probe(lambda x, y: (x >= y).float(), (X, Y)),
    # Apple's front end leaves the epsilon at its default of 1e-4.
    "inverse": Probe(torch.reciprocal, (positive(3, 4) + 9,)),
    "less": Probe(lambda x, y: (x < y).float(), (X, Y)),
    "less_equal": Probe(lambda x, y: (x <= y).float(), (X, Y)),
    "log": Probe(torch.log, (positive(3, 4),)),
    "logical_and": Probe(lambda x, y: ((x > 0) & (y > 0)).float(), (X, Y)),
    "logical_not": Probe(lambda x: (~(x > 0)).float(), (X,)),
    "logical_or": Probe(lambda x, y: torch.logical_or(x > 0, y > 0).float(), (X, Y)),
    "logical_xor": Probe(lambda x, y: torch.logical_xor(x > 0, y > 0).float(), (X, Y)),
    "maximum": Probe(torch.maximum, (X, Y)),
    "minimum": Probe(torch.minimum, (X, Y)),
    "mod": Probe(lambda x: torch.roll(x, 3, 0), (X,), ranges=((0, 9),)),
    "floor_div remainder": Probe(torch.remainder, (X * 9, positive(2, 3, 4, 5))),
    "mul": Probe(torch.mul, (X, Y[:1])),
    "not_equal": Probe(lambda x, y: (x != y).float(), (whole(4, 5, high=3), whole(4, 5, high=3))),
    "pow": Probe(lambda x: x**2.5, (positive(3, 4),)),
    "real_div": Probe(torch.div, (X, positive(2, 3, 4, 5))),
    "round": Probe(torch.round, (torch.arange(-8, 8) / 2,)),
    "rsqrt": Probe(torch.rsqrt, (positive(3, 4),)),
    "select": Probe(lambda x, y: torch.where(x > y, x, y * 2), (X, Y)),
    "sign": Probe(torch.sign, (X.round(),)),
    "sin": Probe(torch.sin, (X,)),
    "sinh": Probe(torch.sinh, (X,)),
    "sqrt": Probe(torch.sqrt, (positive(3, 4),)),
    "square": Probe(lambda x: x.var(1), (X,)),
    "sub": Probe(torch.sub, (X, Y)),
    "tan": Probe(torch.tan, (unit(3, 4),)),
    # Activations.
    "elu": Probe(nn.ELU(0.7), (X,)),
    "gelu": Probe(nn.GELU(), (X,)),
    "gelu tanh": Probe(nn.GELU("tanh"), (X,)),
    "leaky_relu": Probe(nn.LeakyReLU(0.2), (X,)),
    "prelu": Probe(seeded(nn.PReLU(3)), (X,)),
    "relu": Probe(nn.ReLU(), (X,)),
    "clip relu6": Probe(nn.ReLU6(), (X * 9,)),
    "sigmoid": Probe(nn.Sigmoid(), (X,)),
    "sigmoid_hard": Probe(nn.Hardsigmoid(), (X * 3,)),
    "silu": Probe(nn.SiLU(), (X,)),
    "softmax": Probe(lambda x: F.softmax(x, 1), (X,)),
    "softplus": Probe(nn.Softplus(), (X,)),
    "softplus_parametric": Probe(nn.Softplus(beta=2.0), (X,)),
    "tanh": Probe(torch.tanh, (X,)),
    "thresholded_relu": Probe(nn.Hardswish(), (X * 3,)),
    "linear_activation": Probe(nn.Threshold(0.3, 0.7), (X,)),
    "threshold": Probe(nn.Threshold(0.3, 0.3), (X,)),
    # Windows.
    "avg_pool": Probe(nn.AvgPool2d(3, 2, 1), (IMAGE,)),
    "avg_pool ceil": Probe(nn.AvgPool2d(3, 2, 1, ceil_mode=True), (IMAGE,)),
    "avg_pool without padding": Probe(nn.AvgPool2d(3, 2, 1, True, False), (IMAGE,)),
    "avg_pool 1d": Probe(nn.AvgPool1d(4, 3, 2), (draw(2, 3, 10),)),
    "avg_pool 3d": Probe(nn.AvgPool3d(2, 1, 1), (draw(1, 2, 4, 5, 3),)),
    "conv": Probe(seeded(nn.Conv2d(4, 6, 3, 2, 1)), (IMAGE,)),
    "conv 1d": Probe(seeded(nn.Conv1d(4, 6, 3, padding="same", dilation=2)), (draw(2, 4, 11),)),
    "conv 3d": Probe(seeded(nn.Conv3d(2, 4, (1, 2, 3), groups=2)), (draw(1, 2, 4, 5, 6),)),
    "conv dilated": Probe(seeded(nn.Conv2d(4, 6, 3, dilation=(2, 1), groups=2)), (IMAGE,)),
    "conv depthwise": Probe(seeded(nn.Conv2d(4, 8, (3, 5), 2, (1, 2), groups=4)), (IMAGE,)),
    "conv open": Probe(seeded(nn.Conv2d(4, 6, 3, 2, 1)), (IMAGE,), ranges=((2, 40), (3, 40))),
    "conv_transpose": Probe(seeded(nn.ConvTranspose2d(4, 6, 3, 2, 1)), (IMAGE,)),
    "conv_transpose 1d": Probe(seeded(nn.ConvTranspose1d(4, 6, 4, 3)), (draw(2, 4, 5),)),
    "conv_transpose 3d": Probe(seeded(nn.ConvTranspose3d(2, 4, 2, 2)), (draw(1, 2, 3, 4, 2),)),
    "conv_transpose groups": Probe(
        seeded(nn.ConvTranspose2d(4, 6, (2, 3), 2, groups=2, dilation=2)), (IMAGE,)
    ),
    "crop": Probe(seeded(nn.ConvTranspose2d(4, 6, 3, 2, 1, output_padding=1)), (IMAGE,)),
    "max_pool": Probe(nn.MaxPool2d(3, 2, 1), (IMAGE,)),
    "max_pool ceil": Probe(nn.MaxPool2d(2, 2, ceil_mode=True), (IMAGE,)),
    "max_pool 1d": Probe(nn.MaxPool1d(3, 2), (draw(2, 3, 10),)),
    "max_pool 3d": Probe(nn.MaxPool3d(2, 2), (draw(1, 2, 4, 5, 6),)),
    # Normalization and products.
    "batch_norm": Probe(seeded(nn.BatchNorm2d(4)), (IMAGE,)),
    "batch_norm 1d": Probe(seeded(nn.BatchNorm1d(4)), (draw(2, 4, 6),)),
    "instance_norm": Probe(seeded(nn.InstanceNorm2d(4, affine=True)), (IMAGE,)),
    "layer_norm": Probe(seeded(nn.LayerNorm([4, 5])), (X,)),
    "reduce_l2_norm": Probe(lambda x: torch.linalg.norm(x, dim=1), (X,)),
    "einsum": Probe(lambda x, y: torch.einsum("nchw,nwhu->nchu", x, y), (X, draw(2, 5, 4, 6))),
    "linear": Probe(seeded(nn.Linear(5, 6)), (X[0],)),
    "matmul": Probe(torch.matmul, (X, draw(3, 5, 6))),
    "matmul transposed": Probe(lambda x, y: x @ y.transpose(-1, -2), (X, Y)),
    # Shapes.
    "concat": Probe(lambda x, y: torch.cat([x, y], 2), (X, Y)),
    "expand_dims": Probe(lambda x: x.unsqueeze(1), (X[0],)),
    "fill": Probe(lambda x: torch.full(x.shape[:2], 3.0) + x[..., 0, 0], (X,), ranges=((0, 9),)),
    "identity": Probe(lambda x: x, (X,)),
    "pad": Probe(lambda x: F.pad(x, (1, 2, 0, 3), value=4.0), (X,)),
    "pad reflect": Probe(lambda x: F.pad(x, (1, 2, 3, 0), "reflect"), (X,)),
    "pad replicate": Probe(lambda x: F.pad(x, (1, 2, 3, 0), "replicate"), (X,)),
    "pixel_shuffle": Probe(nn.PixelShuffle(2), (draw(1, 8, 3, 4),)),
    "pixel_unshuffle": Probe(nn.PixelUnshuffle(2), (draw(1, 2, 4, 6),)),
    "reshape": Probe(lambda x: x.reshape(x.shape[0], -1), (X,), ranges=((0, 9),)),
    "reverse": Probe(lambda x: x.flip([1, 3]), (X,)),
    "shape": Probe(lambda x: x * x.shape[3], (X,), ranges=((3, 30),)),
    "slice_by_index": Probe(lambda x: x[:, 1:, ::2, -1], (X,)),
    "slice_by_index narrow": Probe(lambda x: x.narrow(3, 1, 3), (X,)),
    "split": Probe(lambda x: torch.split(x, [1, 4], 3), (X,)),
    "squeeze": Probe(lambda x: x.squeeze(0), (IMAGE,)),
    "stack": Probe(lambda x, y: torch.stack([x, y], 1), (X[0], Y[0])),
    "tile": Probe(lambda x: x.repeat(2, 1, 3, 1), (X,)),
    "transpose": Probe(lambda x: x.permute(3, 0, 2, 1), (X,)),
    # Reductions, sorting, making.
    "argsort": Probe(lambda x: torch.argsort(x, -1, descending=True), (X,)),
    "band_part": Probe(torch.tril, (X,)),
    "band_part upper": Probe(lambda x: torch.triu(x, 1), (X,)),
    "cumsum": Probe(lambda x: torch.cumsum(x, 2), (X,)),
    "fill_like": Probe(lambda x: torch.full_like(x, 2.0) * x, (X,), ranges=((0, 9),)),
    "non_zero": Probe(torch.nonzero, (X.round(),)),
    "one_hot": Probe(lambda x: F.one_hot(x.long(), 9).float(), (whole(3, 4),)),
    "range_1d": Probe(lambda x: torch.arange(x.shape[3]) + x, (X,), ranges=((3, 30),)),
    "reduce_argmax": Probe(lambda x: torch.argmax(x, 1), (X,)),
    "reduce_argmin": Probe(lambda x: torch.argmin(x, 1, keepdim=True), (X,)),
    "reduce_max": Probe(lambda x: torch.amax(x, 1), (X,)),
    "reduce_mean": Probe(lambda x: x.mean((1, 3), keepdim=True), (X,)),
    "reduce_min": Probe(lambda x: torch.amin(x, 1), (X,)),
    "reduce_prod": Probe(lambda x: x / x.numel(), (X,), ranges=((0, 9),)),
    "reduce_sum": Probe(lambda x: x.sum((0, 2)), (X,)),
    "topk": Probe(lambda x: torch.topk(x, 3, -1), (X,)),
    "topk smallest": Probe(lambda x: torch.topk(x, 2, 1, largest=False)[0], (X,)),
    # Gathering.
    "gather": Probe(lambda x, i: torch.index_select(x, 1, i), (X, ROWS)),
    "gather embedding": Probe(seeded(nn.Embedding(9, 4)), (whole(2, 5),)),
    "gather_along_axis": Probe(
        lambda x, i: torch.gather(x, 1, i.long()), (X, whole(2, 3, 4, 5, high=3))
    ),
    "gather_nd": Probe(lambda x, i, j: x[i, j], (X, whole(4, high=2), whole(4, high=3))),
    "scatter": Probe(nn.GRU(3, 4), (draw(5, 1, 3),)),
    "scatter_along_axis": Probe(
        lambda x, i, y: torch.scatter(x, 2, i.long(), y),
        (X[0], torch.argsort(Y[1]).int(), Y[0]),
    ),
    "scatter_along_axis add": Probe(
        lambda x, i, y: torch.scatter_add(x, 0, i.long(), y),
        (X[0, 0], whole(4, 5, high=4), Y[0, 0]),
    ),
    "scatter_nd": Probe(
        lambda x, i, y: torch.index_put(x, (i.long(), i.long()), y), (X, ROWS[1:], Y[:, 0])
    ),
    "scatter_nd add": Probe(
        lambda x, i, y: torch.index_put(x, (i.long(), i.long()), y, accumulate=True),
        (X, ROWS[1:] * 0, Y[:, 0]),
    ),
    "scatter slice": Probe(sliding_update, (X, Y[:, 1:])),
    "slice_update": Probe(sliding_update, (X, Y[:, 1:]), ios=18),
    # Resampling.
    "affine": Probe(
        lambda x: F.grid_sample(
            x, F.affine_grid(THETA, [1, 4, 6, 7], align_corners=True), align_corners=True
        ),
        (IMAGE,),
    ),
    "resample": Probe(lambda x, g: F.grid_sample(x, g, align_corners=False), (IMAGE, GRID)),
    "resample aligned": Probe(lambda x, g: F.grid_sample(x, g, align_corners=True), (IMAGE, GRID)),
    "resample nearest": Probe(
        lambda x, g: F.grid_sample(x, g, "nearest", "border", False), (IMAGE, GRID)
    ),
    "resample reflection": Probe(
        lambda x, g: F.grid_sample(x, g, "bilinear", "reflection", True), (IMAGE, GRID)
    ),
    "resample symmetric": Probe(
        lambda x, g: F.grid_sample(x, g, "bilinear", "reflection", False), (IMAGE, GRID)
    ),
    "upsample_bilinear": Probe(
        lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), (IMAGE,)
    ),
    "upsample_bilinear aligned": Probe(
        lambda x: F.interpolate(x, size=(13, 20), mode="bilinear", align_corners=True), (IMAGE,)
    ),
    "upsample_bilinear sized": Probe(
        lambda x: F.interpolate(x, size=(18, 12), mode="bilinear"), (IMAGE,)
    ),
    "upsample_nearest_neighbor": Probe(lambda x: F.interpolate(x, scale_factor=3), (IMAGE,)),
    "upsample_nearest_neighbor fraction": Probe(
        lambda x: F.interpolate(x, scale_factor=1.5), (draw(1, 2, 8, 6),)
    ),
    # Recurrent layers, attention, control.
    "lstm": Probe(lstm(), (draw(5, 2, 3),)),
    "lstm batches": Probe(lstm(batch_first=True, num_layers=2), (draw(2, 5, 3),)),
    "lstm bidirectional": Probe(lstm(bidirectional=True), (draw(5, 2, 3),)),
    "rnn": Probe(nn.RNN(3, 4), (draw(5, 2, 3),)),
    "rnn relu": Probe(nn.RNN(3, 4, nonlinearity="relu", bias=False), (draw(5, 2, 3),)),
    "while_loop": Probe(nn.GRU(3, 4, bidirectional=True), (draw(5, 1, 3),)),
    "cond": Probe(torch.jit.script(Branching()), (positive(3, 4),)),
    "cond other side": Probe(torch.jit.script(Branching()), (-positive(3, 4),)),
    "scaled_dot_product_attention": Probe(F.scaled_dot_product_attention, (X, Y, X), ios=18),
    "scaled_dot_product_attention masked": Probe(
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True), (X, Y, X), ios=18
    ),
    # Quantization.
    "quantize": Probe(
        lambda x: torch.quantize_per_tensor(x, 0.05, 3, torch.qint8).dequantize(), (X,)
    ),
    "dequantize": Probe(
        lambda x: torch.quantize_per_channel(
            x, torch.tensor([0.1, 0.2, 0.05]), torch.tensor([0, 5, 9]), 1, torch.quint8
        ).dequantize(),
        (X,),
    ),
}


@pytest.mark.parametrize("name", PROBES)
def test_the_interpreter_is_torch(name: str, tmp_path: Path) -> None:
    probe = PROBES[name]
    module = probe.run if isinstance(probe.run, nn.Module) else Wrapped(probe.run)
    module = module.eval()
    with torch.no_grad():
        machine = convert(module, probe, tmp_path)
        assert name.split()[0] in kinds(machine)
        compare(machine, module, probe.inputs)
        if probe.ranges:
            sizes = dict(probe.ranges)
            larger = [sizes.get(place, size) for place, size in enumerate(probe.inputs[0].shape)]
            compare(machine, module, (draw(*larger), *probe.inputs[1:]))


# Of the operations that our front end emits, Apple's torch front end emits these in no form, or
# needs more than a trace. They are held to ONNX Runtime in tests/unit/mil and to Apple's own tests
# in tests/coreml; states and compressed weights to test_mil_anchor_models.py.
ELSEWHERE = {
    "constexpr_affine_dequantize",
    "constexpr_blockwise_shift_scale",
    "depth_to_space",
    "gru",
    "l2_pool",
    "local_response_norm",
    "read_state",
    "reduce_l1_norm",
    "reduce_log_sum",
    "reduce_log_sum_exp",
    "reduce_sum_square",
    "resize_bilinear",
    "reverse_sequence",
    "scaled_tanh",
    "slice_by_size",
    "softsign",
    "space_to_depth",
}


def test_every_operation_that_our_front_end_emits_is_anchored() -> None:
    """The words of its source that name an operation, as ``mb.conv`` or in a table."""
    words: set[object] = set()
    for path in Path(edgedeploy.backends.apple.__file__).parent.rglob("*.py"):
        for item in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(item, ast.Attribute) and getattr(item.value, "id", "") == "mb":
                words.add(item.attr)
            if isinstance(item, ast.Constant):
                words.add(item.value)
    emitted = words & entries().keys()
    assert len(emitted) > 100
    assert emitted - {name.split()[0] for name in PROBES} == ELSEWHERE
