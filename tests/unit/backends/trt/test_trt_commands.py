"""Command lines of trtexec, by release, and read back as trtexec reads them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trt_commands import ONE, arguments, recipe, shapes

from edgedeploy.backends.trt.option_table import GROUPS, RELEASES, ROWS, SOURCES
from edgedeploy.backends.trt.options import argument, parse_version, table, text
from edgedeploy.backends.trt.reference import PAGE, options_markdown
from edgedeploy.backends.trt.trtexec import bench_command, build_command
from edgedeploy.errors import BuildError

DOCS = Path(__file__).parents[4] / "docs"
FILES = {"model": "model.onnx", "engine": "model.engine"}


def refusal(version: str, case: dict, **files: str) -> tuple[str, str]:
    with pytest.raises(BuildError) as raised:
        build_command(version, case, **{**FILES, **files})
    item = raised.value.diagnostics[0]
    return item.code, item.message


def test_one_program_three_lines_of_releases() -> None:
    """Whole commands, so that a change of any of them is seen."""
    case = recipe("float16", 1, workspace=1 << 30)
    files = {**FILES, "timing_cache": "t.cache", "layers": "layers.json"}
    sizes = [
        "--minShapes=x:1x3x48x48",
        "--optShapes=x:1x3x48x320",
        "--maxShapes=x:1x3x48x960",
        "--memPoolSize=workspace:1024",
        "--builderOptimizationLevel=3",
        "--timingCacheFile=t.cache",
        "--profilingVerbosity=detailed",
        "--exportLayerInfo=layers.json",
        "--verbose",
        "--skipInference",
    ]
    start = ["trtexec", "--onnx=model.onnx", "--saveEngine=model.engine", "--noTF32"]
    weak = ["--fp16", "--precisionConstraints=obey", "--layerPrecisions=*:fp16,/norm/Pow:fp32"]
    assert build_command("8.6.1", case, **files) == [*start, *weak, *sizes]
    assert build_command("10.3.0.30", case, **files) == [*start, "--stronglyTyped", *sizes]
    assert build_command("11.3.0", case, **files) == [*start, *sizes]


def test_a_float32_graph_allows_nothing_else() -> None:
    for version in ("8.6.1", "10.16.1", "11.5.0"):
        sent = {flag for flag, _ in arguments(build_command(version, recipe(), **FILES))}
        assert not sent & {"--fp16", "--int8", "--best", "--precisionConstraints"}
        assert "--noTF32" in sent
    loose = build_command("10.3.0", recipe(tf32=True), **FILES)
    assert "--noTF32" not in loose


def test_what_weak_typing_cannot_hold_is_refused() -> None:
    for types in (["bfloat16"], ["float8e4m3fn", "float16"], ["float16", "int8"]):
        case = {**recipe("float16"), "precision": types}
        assert refusal("8.6.1", case)[0] == "E336"
        assert build_command("10.3.0", case, **FILES)


def test_dla_by_release() -> None:
    """It was there up to 10.7, then nowhere, and again from 11.4.1 on."""
    case = recipe("float16", dla=1, dla_fallback=True)
    old = build_command("10.3.0", case, **FILES)
    assert {"--useDLACore=1", "--allowGPUFallback", "--fp16"} <= set(old)
    assert "--stronglyTyped" not in old
    new = build_command("11.4.1", case, **FILES)
    assert {"--useDLACore=1", "--allowGPUFallback"} <= set(new) and "--fp16" not in new
    code, message = refusal("11.3.0", case)
    assert code == "E336" and message.startswith("dla: TensorRT 11.3.0")
    assert refusal("10.8.0", case)[0] == "E336"
    assert "--useDLACore=1" in bench_command("10.3.0", case, **RUN)


RUN = {"engine": "e", "shapes": {}, "warm_up_ms": 200, "duration_s": 3, "iterations": 10}


def test_several_profiles_need_a_flag_that_8_lacks() -> None:
    case = recipe("float32", 2)
    assert refusal("8.6.1", case) == ("E336", "several profiles: TensorRT 8.6.1 has no --profile")
    found = arguments(build_command("10.3.0", case, **FILES))
    wanted = [item for item in found if item[0] in ("--profile", "--minShapes", "--maxShapes")]
    assert [flag for flag, _ in wanted] == ["--profile", "--minShapes", "--maxShapes"] * 2
    assert [value for flag, value in wanted if flag == "--profile"] == ["0", "1"]
    assert shapes(wanted[5][1]) == {"x": [1, 3, 48, 1920]}


NAMES = st.text(st.characters(codec="utf-8", exclude_characters=",'*\0"), min_size=1, max_size=30)


@given(st.dictionaries(NAMES, st.lists(st.integers(1, 9999), min_size=1, max_size=6), min_size=1))
def test_sizes_are_read_back_whatever_the_names(sizes: dict[str, list[int]]) -> None:
    profile = {name: {"min": size, "opt": size, "max": size} for name, size in sizes.items()}
    command = build_command("10.3.0", {**recipe(), "profiles": [profile]}, **FILES)
    found = dict(arguments(command))
    assert shapes(found["--minShapes"]) == sizes == shapes(found["--maxShapes"])


@pytest.mark.parametrize("name", ["a,b", "it's", "*", ""])
def test_a_name_that_trtexec_cannot_be_told_is_refused(name: str) -> None:
    case = {**recipe(), "profiles": [{name: ONE["x"]}]}
    assert refusal("10.3.0", case)[0] == "E338"


def test_too_many_exceptions_do_not_fit_a_command() -> None:
    """Linux takes arguments of 128 KiB at most."""
    names = {f"/encoder/layer.{number}/attention/Add": "float32" for number in range(3000)}
    case = {**recipe("float16"), "layers": {"default": "float16", "exceptions": names}}
    assert refusal("8.6.1", case)[0] == "E338"
    assert build_command("10.3.0", case, **FILES)


def test_running_means_the_same_for_every_release() -> None:
    """11 copies nothing and uses a CUDA graph unless it is told otherwise."""

    def sent(version: str, **more: bool) -> set[str]:
        return {flag for flag, _ in arguments(bench_command(version, recipe(), **RUN, **more))}

    same = {"--loadEngine", "--warmUp", "--duration", "--iterations"}
    assert sent("10.3.0") == same
    assert sent("11.0.0") - same == {"--includeDataTransfers", "--noCudaGraph", "--noSpinWait"}
    other = {"transfers": False, "cuda_graph": True, "spin_wait": True}
    assert sent("8.6.1", **other) - same == {
        "--noDataTransfers",
        "--useCudaGraph",
        "--useSpinWait",
    }
    assert sent("11.0.0", **other) == same


@pytest.mark.parametrize("version", ["8.5.2", "9.3.0", "12.0.0", "10", "", "10.3; rm", "1" * 400])
def test_other_lines_of_releases_are_refused(version: str) -> None:
    with pytest.raises(BuildError) as raised:
        parse_version(version)
    assert raised.value.diagnostics[0].code == "E337"


def test_values_belong_to_the_release_too() -> None:
    case = recipe(hardware_compatible="same-compute-capability")
    assert refusal("10.3.0", case)[0] == "E336"
    level = "--hardwareCompatibilityLevel=sameComputeCapability"
    assert level in build_command("10.14.1", case, **FILES)


def test_the_table_is_whole() -> None:
    """Every row has an origin, spans that are not empty, and a name of its own."""
    assert len(ROWS) == len(table()) > 150
    for row in ROWS:
        assert row.what and row.flag.startswith("--")
        assert text(row.known.first) in SOURCES, row
        for span in (row.known, *row.works):
            assert span.end is None or span.first < span.end
        assert any(row.is_effective(release) for release in RELEASES), row
        assert all(row.known.holds(span.first) for span in row.works)
    assert sum(len(rows) for rows in GROUPS.values()) == len(ROWS)
    with pytest.raises(KeyError):
        argument("--noSuchFlag", (10, 3))


def test_the_page_of_options_is_the_generated_one() -> None:
    committed = (DOCS / PAGE).read_text(encoding="utf-8")
    assert committed == options_markdown(), "make it anew as its first lines say"
    assert all(f"`{row.flag}`" in committed for row in ROWS)
