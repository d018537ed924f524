"""Which machines load an engine: the vendor's rules, case by case, and laws over all of them.

Cases are worked out by hand from NVIDIA's documentation (``edgedeploy/gpu.py`` names the pages).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedeploy.gpu import EngineNeeds, GpuPlatform, engine_needs, same_version, version_numbers

NANO = GpuPlatform(
    system="linux",
    arch="arm64",
    gpu="Orin Nano 8GB",
    compute_capability="8.7",
    tensorrt="10.3.0.30",
    driver="540.4.0",
    cuda="12.6.11",
    jetpack="R36.4.3",
)
CARD = GpuPlatform(
    system="linux",
    arch="x86-64",
    gpu="NVIDIA GeForce RTX 4090",
    compute_capability="8.9",
    tensorrt="10.7.0.23",
    driver="560.35.03",
)
RTX = EngineNeeds(
    runtime="tensorrt-rtx",
    version="1.7.1.116",
    system="linux",
    arch="x86-64",
    compute_capabilities=("8.6", "8.9"),
)


def test_the_words_name_both_sides() -> None:
    """What people read is which version and GPU it was built with, and what is there."""
    newer = replace(NANO, tensorrt="10.7.0")
    assert newer.refuses(NANO) == (
        "engine built with 10.3.0.30 for SM87, device has 10.7.0 / SM87: TensorRT loads engines of "
        "its own version alone"
    )
    xavier = replace(NANO, compute_capability="7.2")
    assert xavier.refuses(NANO) == (
        "engine built with 10.3.0.30 for SM87, device has 10.3.0.30 / SM72: it holds code for "
        "another GPU"
    )


@pytest.mark.parametrize(
    ("change", "loads"),
    [
        ({}, True),
        ({"tensorrt": "10.3.0"}, True),  # a banner without the build
        ({"tensorrt": "10.3.0.26"}, False),  # the build counts where both name it
        ({"tensorrt": "10.3.1"}, False),
        ({"tensorrt": "8.6.2"}, False),
        ({"compute_capability": "8.9"}, False),
        ({"compute_capability": "8.6"}, False),
        ({"gpu": "Orin NX 16GB"}, True),  # the same code; a note tells
        ({"driver": "540.5.0"}, True),
        ({"cuda": "12.7.0"}, True),
        ({"jetpack": "R36.4.4"}, True),
        ({"arch": "x86-64"}, False),
        ({"system": "windows"}, False),
        ({"simulated": True}, False),
    ],
)
def test_what_an_engine_is_tied_to(change: dict[str, Any], loads: bool) -> None:
    assert (replace(NANO, **change).refuses(NANO) is None) is loads


@pytest.mark.parametrize(
    ("built", "has", "loads"),
    [
        ("8.6.1", "8.6.2", True),
        ("10.3.0", "10.7.0", True),
        ("10.7.0", "10.3.0", False),  # forward alone
        ("8.6.1", "10.3.0", True),
        ("10.3.0", "11.1.0", True),
        ("8.6.1", "11.1.0", False),  # one major version at a time, by the support matrix of 11.4
        ("9.2.0", "10.3.0", False),
        ("11.0.0", "11.1.0", True),
        ("11.1.0", "10.9.0", False),
    ],
)
def test_version_compatible_engines_load_in_newer_versions(
    built: str, has: str, loads: bool
) -> None:
    engine, device = replace(NANO, tensorrt=built), replace(NANO, tensorrt=has)
    assert (device.refuses(engine, version_compatible=True) is None) is loads
    assert device.refuses(engine) is not None


@pytest.mark.parametrize(
    ("built", "has", "level", "loads"),
    [
        ("8.0", "8.9", "ampere+", True),
        ("8.9", "8.0", "ampere+", True),
        ("8.6", "12.0", "ampere+", True),
        ("8.6", "7.5", "ampere+", False),
        ("8.9", "8.6", "same-compute-capability", False),
        ("8.9", "8.9", "same-compute-capability", True),
        ("8.9", "8.6", "none", False),
    ],
)
def test_hardware_compatible_engines_load_on_other_gpus(
    built: str, has: str, level: Any, loads: bool
) -> None:
    engine, device = (replace(CARD, compute_capability=item) for item in (built, has))
    assert (device.refuses(engine, hardware=level) is None) is loads


def test_hardware_compatibility_does_not_exist_on_a_jetson() -> None:
    thor = replace(NANO, compute_capability="11.0", gpu="Thor")
    why = thor.refuses(NANO, hardware="ampere+")
    assert why is not None and "Jetson" in why
    assert NANO.refuses(NANO, hardware="ampere+") is None


def test_what_differs_and_loads_is_told() -> None:
    needs = EngineNeeds.of(NANO)
    assert needs.differences(NANO) == ()
    gpu, driver = needs.differences(replace(NANO, gpu="Orin NX 16GB", driver=None))
    assert "Orin Nano 8GB" in gpu and "Orin NX 16GB" in gpu
    assert "540.4.0" in driver and "does not say" in driver


@pytest.mark.parametrize(
    ("version", "change", "why"),
    [
        ("1.7.1", {}, None),
        ("1.7.1.116", {"compute_capability": "8.6", "arch": "arm64", "system": "windows"}, None),
        ("1.6.0", {}, "own version alone"),
        ("1.7.1", {"compute_capability": "12.0"}, "another GPU"),
        (None, {}, "the device has no TensorRT for RTX"),
        ("1.7.1", {"simulated": True}, "stands in"),
    ],
)
def test_engines_of_tensorrt_for_rtx(
    version: str | None, change: dict[str, Any], why: str | None
) -> None:
    """Not compatible between releases; for the compute capabilities that it was built for."""
    found = RTX.unmet(replace(CARD, **change), version)
    assert found is None if why is None else why in str(found)


VERSIONS = st.from_regex(r"(8\.6|10\.[0-9]|11\.[0-4])\.[0-3](\.[0-9]{1,3})?", fullmatch=True)
PLATFORMS = st.builds(
    GpuPlatform,
    system=st.sampled_from(["linux", "windows"]),
    arch=st.sampled_from(["x86-64", "arm64"]),
    gpu=st.sampled_from(["Orin Nano 8GB", "NVIDIA L4"]),
    compute_capability=st.sampled_from(["7.5", "8.6", "8.7", "8.9", "12.0"]),
    tensorrt=VERSIONS,
    jetpack=st.sampled_from([None, "R36.4.3"]),
    simulated=st.booleans(),
)
LEVELS = st.sampled_from(["none", "ampere+", "same-compute-capability"])


@given(PLATFORMS, PLATFORMS, st.booleans(), LEVELS)
def test_compatibility_only_ever_adds_machines(
    device: GpuPlatform, engine: GpuPlatform, newer: bool, level: Any
) -> None:
    """A machine loads what it built; what loads without an option loads with it."""
    assert engine.refuses(engine, version_compatible=newer, hardware=level) is None
    if device.refuses(engine) is None:
        assert device.refuses(engine, version_compatible=newer, hardware=level) is None
    if device.simulated != engine.simulated:
        assert device.refuses(engine, version_compatible=newer, hardware=level) is not None


@given(PLATFORMS, st.booleans(), LEVELS)
def test_needs_travel_as_json(platform: GpuPlatform, newer: bool, level: Any) -> None:
    options = {"version_compatible": newer, "hardware_compatible": level}
    needs = engine_needs(platform, options)
    assert EngineNeeds.from_json(needs.to_json()) == needs
    assert (needs.version_compatible, needs.hardware) == (newer, level)


@pytest.mark.parametrize(
    "change",
    [
        {"runtime": "onnx"},
        {"runtime": ["tensorrt"]},
        {"version": ""},
        {"version": 10},
        {"gpu": "x" * 101},
        {"gpu": "a\nb"},
        {"compute_capabilities": []},
        {"compute_capabilities": ["8.7"] * 33},
        {"compute_capabilities": ["SM87"]},
        {"compute_capabilities": "8.7"},
        {"hardware": "all"},
        {"simulated": 1},
        {"version_compatible": None},
        {"more": 1},
    ],
)
def test_needs_that_a_device_made_up_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        EngineNeeds.from_json({**EngineNeeds.of(NANO).to_json(), **change})


def test_versions_as_packages_and_banners_write_them() -> None:
    assert version_numbers("10.3.0.30-1+cuda12.5") == (10, 3, 0, 30)
    assert version_numbers("none") == ()
    assert same_version("10.3.0", "10.3.0.30-1+cuda12.5")
    assert not same_version("10.3", "10.3.0")  # too little to tell
    assert not same_version("", "")
