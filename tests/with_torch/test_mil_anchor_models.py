"""Whole networks, float16, states and compressed weights, anchored as test_mil_anchor.py does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from apple_front_end import Probe, compare, convert, kinds, model, saved
from torch import nn


def image(*sizes: int) -> torch.Tensor:
    return torch.randn(*sizes, generator=torch.Generator().manual_seed(3))


class Small(nn.Module):
    """Layers whose weights Core ML can hold in every compressed form."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.body = nn.Sequential(
            nn.Conv2d(4, 32, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 32, 3, padding=1, groups=4),
            nn.SiLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(32, 16),
        )

    def forward(self, x: torch.Tensor) -> Any:
        return self.body(x).softmax(-1)


@pytest.mark.slow
def test_efficientnet_is_torch(efficientnet: nn.Module, tmp_path: Path) -> None:
    inputs = (image(1, 3, 224, 224),)
    with torch.no_grad():
        machine = convert(efficientnet, Probe(efficientnet, inputs), tmp_path)
        assert {"conv", "clip", "linear"} <= kinds(machine)
        compare(machine, efficientnet, inputs)


@pytest.mark.slow
def test_a_transformer_is_torch_at_other_lengths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(5)
    # The fused form of evaluation is none that Apple's front end knows.
    monkeypatch.setattr(torch.backends.mha, "_is_fastpath_enabled", False)
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True).eval()
    probe = Probe(layer, (image(1, 6, 16),), ranges=((1, 32),))
    with torch.no_grad():
        machine = convert(layer, probe, tmp_path)
        for length in (6, 1, 32):
            compare(machine, layer, (image(1, length, 16),))


def test_a_float16_program_drifts_as_float16_does(tmp_path: Path) -> None:
    net, inputs = Small().eval(), (image(1, 4, 12, 12),)
    with torch.no_grad():
        machine = convert(net, Probe(net, inputs), tmp_path, precision="FLOAT16")
        compare(machine, net, inputs, rtol=1e-2, atol=1e-3)
        # It is rounded on the way: it cannot be as near as a float32 program.
        with pytest.raises(AssertionError):
            compare(machine, net, inputs, rtol=1e-6, atol=1e-8)


class Sum(nn.Module):
    """Keeps the sum of what it has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(2, 3, dtype=torch.float16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.total.add_(x.half())
        return self.total.float() * 2


def test_a_state_lasts_from_run_to_run(tmp_path: Path) -> None:
    import coremltools as ct

    net = Sum()
    inner = ct.TensorType(shape=(2, 3), dtype=np.float16)
    machine = convert(
        Sum(),
        Probe(net, (torch.ones(2, 3),), ios=18),
        tmp_path,
        states=[ct.StateType(wrapped_type=inner, name="total")],
    )
    assert "read_state" in kinds(machine)
    for step in range(3):
        compare(machine, net, (torch.full((2, 3), step + 0.5),))


@pytest.fixture(scope="module")
def originals() -> dict[int, Any]:
    """The small network as converted for each iOS that has other compressed forms."""
    net = Small().eval()
    with torch.no_grad():
        return {ios: model(net, Probe(net, (image(1, 4, 12, 12),), ios=ios)) for ios in (16, 18)}


def compressed(original: Any, form: str) -> Any:
    """Return a model with its weights in a compressed form."""
    from coremltools.optimize import coreml as cto

    def options(config: Any) -> Any:
        return cto.OptimizationConfig(global_config=config)

    if form == "linear":
        config = cto.OpLinearQuantizerConfig(mode="linear", weight_threshold=0)
        return cto.linear_quantize_weights(original, options(config))
    if form == "int4":
        config = cto.OpLinearQuantizerConfig(
            dtype="int4", granularity="per_block", block_size=8, weight_threshold=0
        )
        return cto.linear_quantize_weights(original, options(config))
    if form.startswith("palette"):
        more = {"granularity": "per_grouped_channel", "group_size": 8} if "group" in form else {}
        config = cto.OpPalettizerConfig(
            mode="uniform", nbits=int(form[7]), weight_threshold=0, **more
        )
        return cto.palettize_weights(original, options(config))
    config = cto.OpMagnitudePrunerConfig(target_sparsity=0.6, weight_threshold=0)
    pruned = cto.prune_weights(original, options(config))
    if form == "sparse":
        return pruned
    config = cto.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=0)
    return cto.linear_quantize_weights(pruned, options(config), joint_compression=True)


@pytest.mark.parametrize(
    ("ios", "form", "kind"),
    [
        (16, "linear", "constexpr_affine_dequantize"),
        (16, "palette4", "constexpr_lut_to_dense"),
        (16, "palette6", "constexpr_lut_to_dense"),
        (16, "sparse", "constexpr_sparse_to_dense"),
        (18, "linear", "constexpr_blockwise_shift_scale"),
        (18, "int4", "constexpr_blockwise_shift_scale"),
        (18, "palette2", "constexpr_lut_to_dense"),
        (18, "palette4 grouped", "constexpr_lut_to_dense"),
        (18, "sparse", "constexpr_sparse_to_dense"),
        (18, "sparse and linear", "constexpr_sparse_blockwise_shift_scale"),
    ],
)
def test_compressed_weights_are_those_that_coremltools_decompresses(
    ios: int, form: str, kind: str, originals: dict[int, Any], tmp_path: Path
) -> None:
    from coremltools.optimize import coreml as cto

    small = compressed(originals[ios], form)
    machine = saved(small, tmp_path)
    assert kind in kinds(machine)
    (tmp_path / "plain").mkdir()
    plain = saved(cto.decompress_weights(small), tmp_path / "plain")
    assert not any(name.startswith("constexpr_") for name in kinds(plain))
    given = {"x0": image(1, 4, 12, 12).numpy()}
    for found, wanted in zip(machine.run(given).values(), plain.run(given).values(), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
