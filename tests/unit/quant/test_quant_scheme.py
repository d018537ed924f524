"""Schemes and the candidates of `auto`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import get_args, get_type_hints

import pytest

from edgedeploy.errors import ProfileError
from edgedeploy.errors.codes import catalogue
from edgedeploy.profile.types import QuantizeMode, QuantizeSpec
from edgedeploy.quant.candidates import LEAST_SHARE, Candidate, candidates
from edgedeploy.quant.scheme import MODES, RUNTIME_DEFAULTS, Scheme, scheme_for
from edgedeploy.target.library import TargetLibrary

LEGAL = ("none", "fp16", "w8a8", "w8a16", "w8", "w4", "dynamic")
FAST = ("w8a8", "dynamic", "w4")


def test_quant_the_profile_overrides_the_target_and_adds_exclusions():
    target = {**RUNTIME_DEFAULTS["tensorrt"], "keep_float_ops": ["Gemm"], "ops": ["Conv", "Gemm"]}
    spec = QuantizeSpec(
        symmetric_activations=False,
        activation_dtype="uint8",
        per_channel=False,
        weight_bits=7,
        ranges="minmax",
        bias_correction=False,
        smooth=False,
        keep_float=("head*",),
        keep_float_ops=("MatMul",),
    )
    found = scheme_for(spec, target)
    assert found == Scheme(
        activation_dtype="uint8",
        symmetric=False,
        per_channel=False,
        weight_bits=7,
        ranges="minmax",
        rounding="second-order",
        quantize_bias=False,
        ops=("Conv", "Gemm"),
        gather=False,
        recurrent="float",
        quantized_outputs=(),
        keep_float=("head*",),
        keep_float_ops=("Gemm", "MatMul"),
    )
    assert hash(found) == hash(scheme_for(spec, target))


@pytest.mark.parametrize("runtime", RUNTIME_DEFAULTS)
def test_quant_an_empty_spec_takes_the_targets_defaults(runtime):
    assert scheme_for(QuantizeSpec(), RUNTIME_DEFAULTS[runtime]) == Scheme(
        **RUNTIME_DEFAULTS[runtime], rounding="second-order", bias_correction=True, smooth=True
    )


def test_quant_an_unknown_field_of_a_target_is_refused():
    with pytest.raises(ProfileError) as caught:
        scheme_for(QuantizeSpec(), {"per_chanel": True})
    assert caught.value.diagnostics[0].code == "E265"
    assert "per_channel" in str(caught.value.diagnostics[0].hint)


MODE_SCHEMES = {
    "auto": ("int8", "static8", True),
    "w8a8": ("int8", "static8", True),
    "w8a16": ("int8", "static16", True),
    "w8": ("int8", "float", False),
    "w4": ("int4", "float", False),
    "dynamic": ("int8", "dynamic", False),
}


@pytest.mark.parametrize("runtime", RUNTIME_DEFAULTS)
@pytest.mark.parametrize("mode", MODE_SCHEMES)
def test_quant_a_mode_says_what_is_integer(mode, runtime):
    found = scheme_for(QuantizeSpec(mode=mode), RUNTIME_DEFAULTS[runtime])
    assert (found.weights, found.activations, found.calibrated) == MODE_SCHEMES[mode]
    assert (found.block is not None) == (mode == "w4")
    assert Scheme.from_json(json.loads(json.dumps(asdict(found)))) == found


def test_quant_every_mode_of_a_profile_has_a_scheme_or_needs_none():
    assert {*MODES, "none", "fp16"} == set(get_args(QuantizeMode))


def test_quant_every_legal_mode_of_a_target_is_rated_with_a_source():
    library = TargetLibrary()
    everything = [*map(library.load, library.targets())]
    assert len(everything) > 15
    for target in everything:
        rated = set()
        for speed in ("fast", "slow"):
            for place, row in enumerate(target.get(f"runtime.{speed}") or ()):
                rated.add(row["mode"])
                assert len(target.sources[f"runtime.{speed}.{place}"]) > 8
        assert rated | {"none"} == set(target.get("runtime.quantize")), target.id


@pytest.mark.parametrize("name", ["jetson-orin-nano/tensorrt", "rtx-40/tensorrt-rtx"])
def test_quant_tensorrt_schemes_are_what_its_table_allows(name):
    stated = TargetLibrary().load(name).get("runtime.scheme")
    scheme = scheme_for(QuantizeSpec(), RUNTIME_DEFAULTS["tensorrt"])
    assert scheme.activation_dtype == stated["activation_dtype"]
    assert scheme.symmetric == stated["symmetric_activations"]
    assert scheme.per_channel == stated["per_channel"]
    assert not scheme.quantize_bias


def test_quant_keep_float_takes_names_and_patterns():
    scheme = Scheme(keep_float=("conv_1", "head/*"))
    assert scheme.keeps("conv_1")
    assert scheme.keeps("head/cls")
    assert not scheme.keeps("conv_10")
    assert not scheme.keeps("Conv_1")


@pytest.mark.parametrize(
    ("mode", "kinds"),
    [
        ("none", ["float"]),
        *((mode, [mode]) for mode in ("fp16", "w8a8", "w8a16", "w8", "w4", "dynamic")),
    ],
)
def test_quant_a_fixed_mode_gives_one_candidate(mode, kinds):
    found = candidates({}, QuantizeSpec(mode=mode), LEGAL, FAST)
    assert [item.kind for item in found] == kinds


def test_quant_auto_goes_from_all_integer_to_float():
    found = candidates({}, QuantizeSpec(keep_float=("a",)), LEGAL, FAST)
    assert [item.name for item in found] == ["w8a8", "dynamic", "w4", "fp16", "float"]
    assert all(item.reason for item in found)
    assert all("a" in item.scheme.keep_float for item in found if item.scheme)


def test_quant_auto_prefers_what_is_fast_and_tries_what_is_legal_alone():
    found = candidates({}, QuantizeSpec(), ["none", "fp16", "w8a8", "w8"], ["fp16"])
    assert [item.name for item in found] == ["fp16", "w8a8", "float"]
    assert "No fast kernels" in found[1].reason
    assert [item.name for item in candidates({}, QuantizeSpec(), ["none"], [])] == ["float"]


def test_quant_every_code_is_explained():
    explained = catalogue()
    for number in (*range(260, 269), 270):
        assert len(explained[f"E{number}"].text) > 80


def test_quant_the_least_size_of_every_mode_is_known():
    kinds = get_args(get_type_hints(Candidate)["kind"])
    assert set(LEAST_SHARE) == {*get_args(QuantizeMode), *kinds} - {"auto"}


@pytest.mark.parametrize("mode", MODES)
def test_quant_moments_are_gathered_for_calibrated_schemes_alone(mode):
    found = scheme_for(QuantizeSpec(mode=mode), {})
    assert found.needs_moments == (found.calibrated and mode != "fp8")
    plain = scheme_for(QuantizeSpec(mode=mode, rounding="nearest"), {})
    assert not plain.needs_moments
    assert not scheme_for(QuantizeSpec(mode="w8", rounding="second-order"), {}).needs_moments
