"""Surveys of GPUs and TensorRT: parsers on transcripts, and the script on real shells.

The transcripts are composed by us. Their formats are those of: NVIDIA/TensorRT,
``samples/common/logger.cpp`` (banner) and ``include/NvInferVersion.h``; public logs of trtexec
8.6.1, 10.3.0 and 10.16.2 (NVIDIA/TensorRT issue 4494, OE4T/meta-tegra pull request 2243); NVIDIA,
Jetson Linux Developer Guide (``nv_tegra_release``, ``nvpmodel``, ``jetson_clocks --show``); Linux,
``Documentation/devicetree/bindings/arm/tegra.yaml``; ``nvidia-smi --help-query-gpu``;
dpkg-query(1).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedeploy.devices.facts.transcript import script, split
from edgedeploy.devices.gpu_facts import GpuSurvey, Way, probe_gpu
from edgedeploy.devices.gpu_parse import banner_version, survey_of
from edgedeploy.devices.gpu_transcript import commands
from edgedeploy.devices.local import LocalRemote
from edgedeploy.errors import DeviceError

BANNER = "&&&& RUNNING TensorRT.trtexec [TensorRT v{}]{} # {} --help\n=== Model Options ===\n"
TRTEXEC = "/usr/src/tensorrt/bin/trtexec"
SMI_ORIN = "0, GPU-5c1f, Orin (nvgpu), 540.4.0, 8.7\n"
HEADER_8 = """\
#define NV_TENSORRT_MAJOR 8 //!< TensorRT major version.
#define NV_TENSORRT_MINOR 6 //!< TensorRT minor version.
#define NV_TENSORRT_PATCH 2 //!< TensorRT patch version.
#define NV_TENSORRT_BUILD 3 //!< TensorRT build number.
"""
HEADER_10 = """\
#define TRT_MAJOR_ENTERPRISE 10
#define TRT_MINOR_ENTERPRISE 13
#define TRT_PATCH_ENTERPRISE 3
#define TRT_BUILD_ENTERPRISE 9
#define NV_TENSORRT_MAJOR TRT_MAJOR_ENTERPRISE //!< TensorRT major version.
#define NV_TENSORRT_MINOR TRT_MINOR_ENTERPRISE //!< TensorRT minor version.
#define NV_TENSORRT_PATCH TRT_PATCH_ENTERPRISE //!< TensorRT patch version.
#define NV_TENSORRT_BUILD TRT_BUILD_ENTERPRISE //!< TensorRT build number.
"""
JETPACK_6: Mapping[str, str] = {
    "uname": "Linux\n5.15.148-tegra\naarch64\n",
    "bits": "64\n",
    "compatible": "nvidia,p3768-0000+p3767-0005-super\nnvidia,p3767-0005\nnvidia,tegra234\n",
    "l4t": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n",
    "nvidia-smi": SMI_ORIN,
    "cuda-json": '{\n "cuda" : {\n  "name" : "CUDA SDK",\n  "version" : "12.6.11"\n }\n}\n',
    "python-trt": "loads tensorrt 10.3.0 real /usr/bin/python3\n",
    "trtexec": f"path {TRTEXEC}\n" + BANNER.format("100300", "", TRTEXEC),
    "dpkg": "libnvinfer-bin 10.3.0.30-1+cuda12.5\nlibnvinfer10 10.3.0.30-1+cuda12.5\n",
    "nvpmodel": "NV Power Mode: MAXN_SUPER\n2\n",
    "devfreq": "15340000.vic 115200000 729600000\n17000000.gpu 306000000 1020000000\n",
}
JETPACK_5: Mapping[str, str] = {
    **JETPACK_6,
    "uname": "Linux\n5.10.192-tegra\naarch64\n",
    "compatible": "nvidia,p2972-0000\nnvidia,tegra194\n",
    "l4t": "# R35 (release), REVISION: 5.0, GCID: 35550185, BOARD: t186ref, EABI: aarch64\n",
    "nvidia-smi": "",
    "cuda-json": "",
    "cuda-text": "CUDA Version 11.4.315\n",
    "python-trt": "",
    "trtexec": f"path {TRTEXEC}\n" + BANNER.format("8602", "", TRTEXEC),
    "dpkg": "",
    "header": HEADER_8,
    "devfreq": "17000000.gv11b 1377000000 1377000000\n",
}
SERVER: Mapping[str, str] = {
    "uname": "Linux\n6.8.0-48-generic\nx86_64\n",
    "bits": "64\n",
    "nvidia-smi": "0, GPU-aa11, NVIDIA L4, 560.35.03, 8.9\n"
    "1, GPU-bb22, NVIDIA L4, 560.35.03, 8.9\n",
    "visible": "devices \norder \n",
    "nvcc": "nvcc: NVIDIA (R) Cuda compiler driver\n"
    "Cuda compilation tools, release 12.9, V12.9.41\n",
    "trtexec": "path /opt/tensorrt/bin/trtexec\n"
    + BANNER.format("101303", " [b9]", "/opt/tensorrt/bin/trtexec"),
    "header": HEADER_10,
}


def survey(sections: Mapping[str, str], **changes: str) -> GpuSurvey:
    """Return the survey of a transcript with some sections changed."""
    named = {name.replace("_", "-"): text for name, text in changes.items()}
    return survey_of("box", {**sections, **named})


def test_a_jetson_with_jetpack_6() -> None:
    """The module names the GPU: for `nvidia-smi` every Orin is the same."""
    found = survey(JETPACK_6)
    assert (found.gpu, found.compute_capability) == ("Orin Nano 8GB", "8.7")
    assert (found.arch, found.jetpack, found.cuda) == ("arm64", "R36.4.3", "12.6.11")
    assert (found.power_mode, found.clocks) == ("MAXN_SUPER", "free")
    assert [way.kind for way in found.ways] == ["python", "trtexec"]
    assert not found.conflicts and not found.simulated
    platform = found.platform()
    assert platform.tensorrt == "10.3.0.30"  # with the build that the package tells
    assert platform.id.startswith("orin-nano-8gb-sm87-trt10.3.0.30-")
    assert GpuSurvey.from_json(found.to_json()) == found


def test_an_older_jetson_without_python_tensorrt_and_nvidia_smi() -> None:
    found = survey(JETPACK_5)
    assert (found.gpu, found.compute_capability) == ("Xavier p2972-0000", "7.2")
    assert found.driver is None
    (way,) = found.ways
    assert way == Way(kind="trtexec", path=TRTEXEC, version="8.6.2")
    assert (found.platform().tensorrt, found.cuda) == ("8.6.2.3", "11.4.315")
    assert found.clocks == "locked"


def test_a_server_with_two_equal_cards() -> None:
    found = survey(SERVER)
    assert found.gpus == ("NVIDIA L4", "NVIDIA L4")
    platform = found.platform()
    assert (platform.gpu, platform.compute_capability) == ("NVIDIA L4", "8.9")
    assert (platform.tensorrt, platform.driver) == ("10.13.3.9", "560.35.03")
    assert (platform.cuda, platform.jetpack, platform.arch) == ("12.9.41", None, "x86-64")


@pytest.mark.parametrize(
    ("compatible", "gpu", "capability"),
    [
        ("nvidia,p3737-0000+p3701-0005 nvidia,p3701-0005 nvidia,tegra234", "AGX Orin 64GB", "8.7"),
        ("nvidia,p3768-0000+p3767-0000 nvidia,p3767-0000 nvidia,tegra234", "Orin NX 16GB", "8.7"),
        ("acme,carrier nvidia,p9999-0001 nvidia,tegra234", "Orin p9999-0001", "8.7"),
        ("acme,carrier nvidia,tegra234", "Orin", "8.7"),
        ("nvidia,tegra264", "Thor", "11.0"),
        ("nvidia,p3509-0000+p3668-0001 nvidia,tegra194", "Xavier p3668-0001", "7.2"),
    ],
)
def test_modules_of_jetsons(compatible: str, gpu: str, capability: str) -> None:
    """Two modules with one chip have GPUs of different size, and are two platforms."""
    found = survey(JETPACK_6, compatible=compatible.replace(" ", "\n"))
    assert (found.gpu, found.compute_capability) == (gpu, capability)


@pytest.mark.parametrize(
    ("banner", "version"),
    [
        ("[TensorRT v8601]", "8.6.1"),
        ("[TensorRT v8205]", "8.2.5"),
        ("[TensorRT v8612]", "8.6.12"),
        ("[TensorRT v100001]", "10.0.1"),
        ("[TensorRT v100300]", "10.3.0"),
        ("[TensorRT v101300]", "10.13.0"),
        ("[TensorRT v101602] [b10]", "10.16.2.10"),
        ("[TensorRT v110400] [b106]", "11.4.0.106"),
        ("[TensorRT v1]", None),
        ("[TensorRT vNaN]", None),
        ("trtexec: error while loading shared libraries: libnvinfer.so.10", None),
    ],
)
def test_banners(banner: str, version: str | None) -> None:
    assert banner_version(f"&&&& RUNNING TensorRT.trtexec {banner} # trtexec") == version


@given(st.integers(8, 99), st.integers(0, 9), st.integers(0, 99))
def test_banners_hold_what_the_header_computes(major: int, minor: int, patch: int) -> None:
    """NV_TENSORRT_VERSION, by the formula of either time."""
    number = major * (1000 if major < 10 else 10000) + minor * 100 + patch
    assert banner_version(f"[TensorRT v{number}]") == f"{major}.{minor}.{patch}"


def test_python_and_trtexec_of_two_versions() -> None:
    """What agrees with the installed library is used, and the other one is told of."""
    old = f"path {TRTEXEC}\n" + BANNER.format("8602", "", TRTEXEC)
    found = survey(JETPACK_6, trtexec=old)
    assert (found.ways[0].kind, found.platform().tensorrt) == ("python", "10.3.0.30")
    (told,) = found.conflicts
    assert "trtexec" in told and "8.6.2" in told and "10.3.0" in told

    found = survey(JETPACK_6, trtexec=old, dpkg="libnvinfer8 8.6.2.3-1+cuda12.2\n")
    assert (found.ways[0].kind, found.platform().tensorrt) == ("trtexec", "8.6.2.3")

    found = survey(JETPACK_6, dpkg="libnvinfer10 10.7.0.23-1+cuda12.6\n")
    assert found.platform().tensorrt == "10.3.0"  # not the build of another version
    assert any("dpkg says 10.7.0.23" in text for text in found.conflicts)


def test_what_stands_in_says_so() -> None:
    banner = f"path {TRTEXEC}\n" + BANNER.format("100300", "", TRTEXEC).replace(
        "\n", " (edgedeploy stand-in)\n", 1
    )
    found = survey(JETPACK_6, python_trt="", trtexec=banner)
    assert found.simulated and found.platform().simulated
    real = survey(JETPACK_6, python_trt="").platform()
    assert found.platform().id != real.id
    found = survey(JETPACK_6, python_trt="loads tensorrt 10.3.0 stand-in /usr/bin/python3\n")
    assert found.platform().simulated
    assert found.conflicts == (
        f"python (/usr/bin/python3) stands in for TensorRT, trtexec ({TRTEXEC}) does not",
    )


TWO = "0, GPU-aa11, NVIDIA L4, 560.35.03, 8.9\n1, GPU-bb22, NVIDIA A10, 560.35.03, 8.6\n"


@pytest.mark.parametrize(
    ("visible", "gpu"),
    [
        ("devices \norder \n", None),
        ("devices 1\norder \n", None),  # by speed, in an order that only CUDA knows
        ("devices \norder PCI_BUS_ID\n", "NVIDIA L4"),
        ("devices 1\norder PCI_BUS_ID\n", "NVIDIA A10"),
        ("devices GPU-bb\norder \n", "NVIDIA A10"),
        ("devices GPU-bb22,GPU-aa11\norder \n", "NVIDIA A10"),
        ("devices GPU-\norder \n", None),
        ("devices 7\norder PCI_BUS_ID\n", None),
    ],
)
def test_cards_of_two_kinds(visible: str, gpu: str | None) -> None:
    """Never a guess: the engine would be built for one card and named after the other."""
    found = survey(SERVER, nvidia_smi=TWO, visible=visible)
    if gpu is not None:
        assert found.platform().gpu == gpu
        return
    with pytest.raises(DeviceError) as caught:
        found.platform()
    (item,) = caught.value.diagnostics
    assert item.code == "E485" and "NVIDIA L4, NVIDIA A10" in item.message


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"nvidia-smi": ""}, "E485", "no GPU of NVIDIA"),
        ({"nvidia-smi": 'Field "compute_cap" is not a valid field to query.\n'}, "E485", "no GPU"),
        ({"nvidia-smi": "0, GPU-a, Tesla K80, 470.1.2, [N/A]\n"}, "E485", "driver is too old"),
        ({"trtexec": ""}, "E486", "no TensorRT"),
        (
            {
                "trtexec": "",
                "python-trt": "broken tensorrt ImportError 'libnvinfer.so.10: cannot open'\n",
            },
            "E486",
            "libnvinfer.so.10",
        ),
    ],
)
def test_what_is_missing(changes: dict[str, str], code: str, words: str) -> None:
    with pytest.raises(DeviceError) as caught:
        survey_of("box", {**SERVER, **changes}).platform()
    assert caught.value.diagnostics[0].code == code
    assert words in caught.value.diagnostics[0].message


def test_tensorrt_for_rtx_by_its_module_or_its_library() -> None:
    assert survey(SERVER).rtx is None
    library = "/usr/lib/x86_64-linux-gnu/libtensorrt_rtx.so.1.7.1\n"
    assert survey(SERVER, rtx_library=library).rtx == "1.7.1"
    module = "loads tensorrt_rtx 1.7.1.116 real /usr/bin/python3\n"
    assert survey(SERVER, python_rtx=module, rtx_library=library).rtx == "1.7.1.116"


@given(st.dictionaries(st.sampled_from(sorted(commands(None))), st.text(max_size=300)))
def test_no_answer_of_a_device_breaks_the_parser(sections: dict[str, str]) -> None:
    found = survey_of("box", {"uname": "Linux\n", **sections})
    assert GpuSurvey.from_json(found.to_json()) == found
    for way in found.ways:
        assert way.path.startswith("/") and len(way.path) <= 301


def write_program(path: Path, text: str) -> None:
    """Write a shell program."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of programs that come first on the PATH, as on a server with one card."""
    folder = tmp_path / "programs"
    folder.mkdir()
    write_program(folder / "nvidia-smi", "echo '0, GPU-aa11, NVIDIA L4, 560.35.03, 8.9'")
    # As the real one: the banner, then pages of help until nobody reads any more.
    write_program(
        folder / "trtexec",
        "echo '&&&& RUNNING TensorRT.trtexec [TensorRT v100300] # (edgedeploy stand-in)'\n"
        "while echo help; do :; done",
    )
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"):
        monkeypatch.delenv(name, raising=False)
    return folder


SHELLS = [
    pytest.param(shell, marks=pytest.mark.skipif(not shutil.which(shell[0]), reason=shell[0]))
    for shell in (["dash"], ["bash", "--posix"], ["busybox", "sh"])
]


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_on_real_shells(box: Path, shell: list[str]) -> None:
    """Every section ends, whatever is missing, and a program that never ends is not waited for."""
    text = script("7", "~", None, commands(sys.executable))
    done = subprocess.run([*shell, "-s"], input=text.encode(), capture_output=True, check=False)
    sections = split(done.stdout.decode(), "7")
    assert list(sections) == [*commands(None), "end"]
    found = survey_of("box", sections)
    assert [way.path for way in found.ways if way.kind == "trtexec"] == [str(box / "trtexec")]
    assert found.platform().tensorrt == "10.3.0" and found.simulated


def test_a_python_that_has_tensorrt_is_found(box: Path, tmp_path: Path) -> None:
    """A module of the name, with the version that it says, in the interpreter that is named."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "tensorrt.py").write_text("__version__ = '10.3.0'\n__edgedeploy_stand_in__ = True\n")
    python = tmp_path / "python"
    write_program(python, f'PYTHONPATH={site} exec {sys.executable} "$@"')
    found = probe_gpu(LocalRemote("box"), str(python))
    assert [(way.kind, way.version) for way in found.ways] == [
        ("python", "10.3.0"),
        ("trtexec", "10.3.0"),
    ]
    assert found.simulated and found.ways[0].path == sys.executable
    (site / "tensorrt.py").write_text("raise OSError('libnvinfer.so.10: cannot open')\n")
    found = probe_gpu(LocalRemote("box"), str(python))
    assert [way.kind for way in found.ways] == ["trtexec"]
    assert "libnvinfer.so.10: cannot open" in found.trouble[0]


def test_what_people_read_of_a_survey() -> None:
    old = f"path {TRTEXEC}\n" + BANNER.format("8602", "", TRTEXEC)
    assert survey(JETPACK_6, trtexec=old).in_words() == [
        ("gpu", "Orin Nano 8GB, 8.7"),
        ("driver", "540.4.0"),
        ("cuda", "12.6.11"),
        ("jetpack", "R36.4.3"),
        ("tensorrt", f"10.3.0.30: python 10.3.0 (/usr/bin/python3), trtexec 8.6.2 ({TRTEXEC})"),
        ("power mode", "MAXN_SUPER, clocks free"),
        (
            "conflict",
            f"trtexec ({TRTEXEC}) has TensorRT 8.6.2, python (/usr/bin/python3) 10.3.0: the latter "
            "is used",
        ),
    ]
    assert survey({"uname": "Linux\n"}).in_words() == []
