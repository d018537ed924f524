"""Optimisation profiles hold for what the profile's dims allow, and no more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedeploy.backends.trt.profiles import MOST_PROFILES, Sizes, optimisation_profiles
from edgedeploy.errors import BuildError
from edgedeploy.profile.dims import takes
from edgedeploy.profile.types import DimSpec
from edgedeploy.signature import Dim, TensorSpec


def spec(name: str, *dims: Dim) -> TensorSpec:
    return TensorSpec(name=name, dtype="float32", dims=dims)


IMAGE = spec("x", 1, 3, 48, "W")


def test_fixed_sizes_need_no_profile() -> None:
    assert optimisation_profiles([spec("x", 1, 3), spec("s")], {}) == ()


def test_a_range_is_tuned_for_its_middle_on_its_steps() -> None:
    dim = DimSpec(low=160, high=640, step=32)
    (made,) = optimisation_profiles([IMAGE, spec("n", 4)], {"W": dim})
    assert made["x"] == Sizes(low=(1, 3, 48, 160), opt=(1, 3, 48, 384), high=(1, 3, 48, 640))
    assert made["n"] == Sizes(low=(4,), opt=(4,), high=(4,))
    assert made["x"].to_json()["opt"] == [1, 3, 48, 384]


def test_the_size_to_tune_for_can_be_named() -> None:
    dims = {"W": DimSpec(low=160, high=640)}
    (made,) = optimisation_profiles([IMAGE], dims, {"W": 320})
    assert made["x"].opt == (1, 3, 48, 320)


def test_buckets_give_a_profile_each() -> None:
    inputs = [spec("x", "n", "W"), spec("y", "W")]
    dims = {"n": DimSpec(low=1, high=4), "W": DimSpec(buckets=(160, 320))}
    first, second = optimisation_profiles(inputs, dims)
    assert first["x"] == Sizes(low=(1, 160), opt=(2, 160), high=(4, 160))
    assert second["y"] == Sizes(low=(320,), opt=(320,), high=(320,))


def refused(dims: dict[str, DimSpec], opt: dict[str, object], *inputs: TensorSpec) -> list[str]:
    with pytest.raises(BuildError) as caught:
        optimisation_profiles(inputs or [IMAGE], dims, opt)
    assert {item.code for item in caught.value.diagnostics} == {"E335"}
    return [item.message for item in caught.value.diagnostics]


def test_what_has_no_limits_is_named_all_at_once() -> None:
    found = refused({}, {"V": 3}, spec("x", "W", None), TensorSpec(name="t", dtype="x", dims=None))
    assert found == [
        "axis 0 of 'x' has no limits",
        "axis 1 of 'x' has no limits",
        "the rank of 't' is not known",
        "`opt` names 'V', which is no dim with a range",
    ]


@pytest.mark.parametrize("size", [159, 641, 161, "320", True])
def test_sizes_outside_of_the_range_are_refused(size: object) -> None:
    (told,) = refused({"W": DimSpec(low=160, high=640, step=32)}, {"W": size})
    assert "160..640/32" in told


def test_opt_of_buckets_is_refused() -> None:
    (told,) = refused({"W": DimSpec(buckets=(160, 320))}, {"W": 160})
    assert "no dim with a range" in told


def test_too_many_profiles_are_refused() -> None:
    dims = {"a": DimSpec(buckets=tuple(range(1, 6))), "b": DimSpec(buckets=(1, 2, 3, 4))}
    (told,) = refused(dims, {}, spec("x", "a", "b"))
    assert "20 optimisation profiles" in told and str(MOST_PROFILES) in told


ranges = st.builds(
    lambda low, step, steps: DimSpec(low=low, high=low + step * steps, step=step),
    st.integers(1, 500),
    st.integers(1, 64),
    st.integers(1, 20),
)
buckets = st.lists(st.integers(1, 900), min_size=2, max_size=2, unique=True).map(
    lambda sizes: DimSpec(buckets=tuple(sorted(sizes)))
)


@given(st.dictionaries(st.sampled_from("abcd"), ranges | buckets, max_size=3), st.data())
def test_every_profile_lies_within_the_dims(dims: dict[str, DimSpec], data: st.DataObject) -> None:
    axes = st.lists(st.sampled_from([*dims, 7, 1]), max_size=4)
    inputs = [spec(name, *data.draw(axes)) for name in ("x", "y")]
    found = optimisation_profiles(inputs, dims)
    used = {axis for item in inputs for axis in item.dims or () if isinstance(axis, str)}
    wanted = 1 if used else 0
    for name in used:
        wanted *= len(dims[name].buckets) or 1
    assert len(found) == wanted
    for made in found:
        for item in inputs:
            sizes = made[item.name]
            for axis, *three in zip(item.dims or (), sizes.low, sizes.opt, sizes.high, strict=True):
                assert three == sorted(three)
                assert all(
                    takes(dims[axis], it) if isinstance(axis, str) else it == axis for it in three
                )
