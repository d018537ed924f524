"""No flag that 11 removed is ever sent to 11, whatever the profile asks for.

The list of removed flags is written down here from the vendor's pages, apart from the table that
commands are made of.
"""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trt_commands import CHOICES, DEFAULTS, TYPES, arguments, every_recipe, recipe

from edgedeploy.backends.trt.option_table import RELEASES
from edgedeploy.backends.trt.options import known_flags, table, text
from edgedeploy.backends.trt.trtexec import bench_command, build_command
from edgedeploy.errors import BuildError

# https://docs.nvidia.com/deeplearning/tensorrt/11.4.1/api/migration/tensorrt-10x-to-11x-trtexec.html
# names the flags of types and of calibration and says that --stronglyTyped is no longer needed;
# those for single layers, --weightless and --restricted are in 10.14's sampleOptions.cpp and not in
# that of 11.0.
REMOVED_IN_11 = frozenset(
    (
        *("--fp16", "--int8", "--bf16", "--fp8", "--int4", "--best", "--calib", "--stronglyTyped"),
        *("--precisionConstraints", "--layerPrecisions", "--layerOutputTypes"),
        *("--minShapesCalib", "--optShapesCalib", "--maxShapesCalib", "--calibProfile"),
        *("--weightless", "--restricted"),
    )
)
# https://docs.nvidia.com/deeplearning/tensorrt/11.4.1/api/migration/tensorrt-8x-to-10x-trtexec.html
REMOVED_IN_10 = frozenset(
    (
        *("--deploy", "--output", "--model", "--uff", "--uffInput", "--uffNHWC"),
        *("--batch", "--maxBatch", "--minTiming", "--workspace", "--buildOnly", "--heuristic"),
        *("--explicitBatch", "--explicitPrecision", "--nvtxMode"),
    )
)
# Taken by 11 and without effect there (its sampleOptions.cpp).
IDLE_IN_11 = frozenset(
    ("--noDataTransfers", "--useSpinWait", "--useCudaGraph", "--separateProfileRun")
)
ELEVENS = [text(release) for release in RELEASES if release[0] == 11]
# NVIDIA: DLA was unavailable from 11.0 to 11.3, and 11.4.0 has it on Windows alone.
WITHOUT_DLA = {"11.0", "11.1", "11.2", "11.3", "11.4"}
FILES = {"model": "model.onnx", "engine": "model.engine"}


def flags(command: list[str]) -> set[str]:
    return {flag for flag, _ in arguments(command)}


def test_the_lists_are_those_of_the_table() -> None:
    """Two readings of the same pages agree."""
    gone = known_flags((10, 16)) - known_flags((11, 0))
    assert gone | {"--stronglyTyped"} == REMOVED_IN_11
    assert known_flags((8, 6)) - known_flags((10, 0)) == REMOVED_IN_10


@pytest.mark.parametrize("version", ELEVENS)
def test_no_removed_flag_is_sent_to_11(version: str) -> None:
    forbidden = REMOVED_IN_11 | REMOVED_IN_10 | IDLE_IN_11
    built = refused = 0
    for case in every_recipe():
        try:
            command = build_command(version, case, **FILES, timing_cache="t", layers="l")
        except BuildError as error:
            assert case["options"]["dla"] is not None and version in WITHOUT_DLA
            assert [item.code for item in error.diagnostics] == ["E336"]
            refused += 1
            continue
        assert not flags(command) & forbidden, command
        built += 1
    assert built > 1000
    assert (refused > 0) is (version in WITHOUT_DLA)


@pytest.mark.parametrize("version", ELEVENS)
def test_nor_to_an_11_that_runs_an_engine(version: str) -> None:
    for transfers in (False, True):
        for graph in (False, True):
            for spin in (False, True):
                command = bench_command(
                    version,
                    recipe("float16", 2),
                    engine="e",
                    shapes={"x": [1, 3, 48, 48]},
                    warm_up_ms=200,
                    duration_s=3,
                    iterations=10,
                    profile=1,
                    transfers=transfers,
                    cuda_graph=graph,
                    spin_wait=spin,
                    times="t",
                    outputs="o",
                    layer_times="p",
                )
                sent = flags(command)
                assert not sent & (REMOVED_IN_11 | REMOVED_IN_10 | IDLE_IN_11)
                assert ("--includeDataTransfers" in sent) is transfers
                assert ("--noCudaGraph" in sent) is not graph
                assert ("--noSpinWait" in sent) is not spin


def test_the_same_flags_are_sent_where_they_are_needed() -> None:
    """Else the tests above would hold for commands that say nothing."""
    old = flags(build_command("8.6.1", recipe("float16"), **FILES))
    assert {"--fp16", "--precisionConstraints", "--layerPrecisions"} <= old
    assert "--int8" in flags(build_command("8.6.1", recipe("int8"), **FILES))
    assert "--stronglyTyped" in flags(build_command("10.3.0", recipe("float16"), **FILES))


RECIPES = st.builds(
    recipe,
    st.sampled_from(sorted(TYPES)),
    st.integers(0, 2),
    **{name: st.sampled_from(values) for name, values in CHOICES.items()},
)
VERSIONS = st.one_of(
    st.sampled_from([text(release) for release in RELEASES]),
    st.builds("10.{}.{}.{}".format, st.integers(0, 30), st.integers(0, 9), st.integers(0, 99)),
    st.builds("11.{}.{}".format, st.integers(0, 30), st.integers(0, 9)),
    st.builds("8.6.{}".format, st.integers(0, 9)),
)


@settings(max_examples=300, deadline=None)
@given(RECIPES, VERSIONS)
def test_every_flag_that_is_sent_is_known_and_works(case: dict, version: str) -> None:
    release = tuple(map(int, version.split(".")))
    try:
        command = build_command(version, case, **FILES, timing_cache="t", layers="l")
    except BuildError as error:
        assert {item.code for item in error.diagnostics} == {"E336"}
        return
    for item, flag in zip(command[1:], [flag for flag, _ in arguments(command)], strict=True):
        row = table().get(item) or table()[flag]
        assert row.sent
        assert row.is_known(release) and row.is_effective(release), (item, version)


@settings(max_examples=100, deadline=None)
@given(RECIPES, VERSIONS)
def test_a_refusal_is_never_for_nothing(case: dict, version: str) -> None:
    """Without DLA, one profile and plain engines, every release builds what it can hold."""
    plain = {**case, "options": dict(DEFAULTS), "profiles": case["profiles"][:1]}
    assert build_command(version, plain, **FILES)


def test_what_is_marked_as_sent_is_sent() -> None:
    """The page says `sent` of nothing else."""
    sent: set[str] = set()
    for version in ("8.6.1", "10.16.0", "11.5.0"):
        for case in every_recipe():
            with contextlib.suppress(BuildError):
                sent.update(build_command(version, case, **FILES, timing_cache="t", layers="l"))
        for on in (False, True):
            sent.update(
                bench_command(
                    version,
                    recipe(),
                    engine="e",
                    shapes={"x": [1]},
                    warm_up_ms=1,
                    duration_s=1,
                    iterations=1,
                    profile=0 if version.startswith("8") else 1,
                    transfers=on,
                    cuda_graph=on,
                    spin_wait=on,
                    inputs={"x": "x.raw"},
                    times="t",
                    outputs="o",
                    layer_times="p",
                )
            )
    names = sent | {item.partition("=")[0] for item in sent}
    assert {row.flag for row in table().values() if row.sent} <= names
