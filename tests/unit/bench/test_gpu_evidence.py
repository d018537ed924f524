"""Clocks, throttling and power of GPUs: Jetsons by the kernel and tegrastats, cards by NVML.

Files and lines are composed by us. Their forms: devfreq and hwmon of the Linux kernel (ABI/testing,
sysfs-class-devfreq; hwmon/sysfs-interface), NVIDIA Jetson Linux Developer Guide ("tegrastats
Utility"; r36.3, "Jetson Orin Nano Series, Jetson Orin NX Series and Jetson AGX Orin Series"), and
public logs of tegrastats of L4T 32, 35 and 36. None of it was held against a board.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgedeploy.bench import environment, power
from edgedeploy.bench.job import BenchArtifact, BenchInputs, BenchJob, BenchPlan
from edgedeploy.bench.record import build_record
from edgedeploy.bench.validity import _counters, _gpu, judge
from tests.unit.bench.gpu_stand_in import (
    FLOAT,
    artifact,
    build,
    engine_of,
    model_of,
    onboard,
    pack_of,
    script,
)
from tests.unit.bench.gpu_stand_in import environment as variables

GPU = "sys/class/devfreq/{}/"


@pytest.fixture(scope="session")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the stand-ins for the driver and for NVML."""
    folder = tmp_path_factory.mktemp("driver")
    build(folder, "libcuda.c", "libcuda.so.1")
    build(folder, "libnvml.c", "libnvidia-ml.so.1")
    return folder


def jetson(machine: Any, name: str = "17000000.gpu", mhz: int = 1020) -> None:
    for file, value in (("cur", mhz), ("min", 306), ("max", 1020)):
        machine.write(GPU.format(name) + f"{file}_freq", value * 1_000_000)
    machine.write(GPU.format(name) + "governor", "nvhost_podgov")


def seen(machine: Any) -> environment.Environment:
    return environment.Environment(str(machine.sysfs), str(machine.procfs))


# -- clocks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["17000000.gpu", "17000000.ga10b", "17000000.gv11b", "gpu-gpc-0"])
def test_the_clock_of_a_jetsons_gpu(name: str, machine: Any) -> None:
    """Other devfreq devices are not the GPU: video engines, memory."""
    jetson(machine, name, 612)
    for other in ("15480000.nvdec", "gpu-nvd-0", "bwmgr"):
        jetson(machine, other)
    found = seen(machine)
    about = {"name": name, "governor": "nvhost_podgov", "min_khz": 306_000, "max_khz": 1_020_000}
    assert found.facts()["gpus"] == [about]
    sample = found.sample()
    assert (sample["gpu_khz"], sample["gpu_reasons"]) == ([612_000], [])


@pytest.mark.parametrize(
    ("mhz", "said"),
    [
        ([1020] * 20, None),
        ([1020] * 18 + [306] * 2, None),  # a reading may fall between two inferences
        ([1020] * 17 + [510] * 3, "throttled: the GPU's clock was at 50% of its highest"),
    ],
)
def test_a_gpu_below_its_highest_clock(mhz: list[int], said: str | None, machine: Any) -> None:
    jetson(machine)
    facts, evidence = seen(machine).facts(), []
    for value in mhz:
        jetson(machine, mhz=value)
        evidence.append(seen(machine).sample())
    found = _gpu(evidence, facts)
    assert found is None if said is None else found is not None and found.startswith(said)


def test_too_much_current_throttles_a_jetson(machine: Any) -> None:
    counter = "sys/class/hwmon/hwmon3/oc{}_event_cnt"
    for number, count in ((1, 0), (2, 15), (3, 37)):
        machine.write(counter.format(number), count)
    before = seen(machine).sample()
    assert _counters([seen(machine).sample()], before) != "throttled: the throttle counters rose"
    machine.write(counter.format(3), 38)
    assert _counters([seen(machine).sample()], before) == "throttled: the throttle counters rose"


# -- tegrastats ----------------------------------------------------------------------------------

# L4T 36 on an Orin Nano, 35 on an AGX Orin, 32 on a Nano.
ORIN_NANO = (
    "11-28-2026 10:15:02 RAM 2448/7620MB (lfb 4x4MB) SWAP 0/3810MB (cached 0MB) "
    "CPU [2%@729,0%@729,1%@729,0%@729,0%@729,0%@729] GR3D_FREQ 42%@[624] cpu@47.5C soc2@46.2C "
    "tj@48.1C VDD_IN 5006mW/4980mW VDD_CPU_GPU_CV 1022mW/1000mW VDD_SOC 1427mW/1427mW"
)
AGX_ORIN = (
    "11-28-2026 10:15:02 RAM 13983/62780MB (lfb 424x4MB) SWAP 126/31390MB (cached 0MB) "
    "CPU [90%@2201,off] EMC_FREQ 1%@2133 GR3D_FREQ 14%@[407,407] VIC_FREQ 115 APE 174 "
    "CV0@73.625C tj@77.2C VDD_GPU_SOC 3150mW/2971mW VDD_CPU_CV 14312mW/12415mW "
    "VIN_SYS_5V0 4968mW/5048mW NC 0mW/0mW VDDQ_VDD2_1V8AO 1091mW/1091mW NC 0mW/0mW"
)
NANO = (
    "RAM 613/3964MB (lfb 634x4MB) SWAP 0/1982MB (cached 0MB) IRAM 0/252kB(lfb 252kB) "
    "CPU [2%@102,1%@102,0%@102,0%@102] EMC_FREQ 0% GR3D_FREQ 0% PLL@39C "
    "thermal@41C POM_5V_IN 900/943 POM_5V_GPU 0/0 POM_5V_CPU 123/123"
)


@pytest.mark.parametrize(
    ("line", "rails"),
    [
        (ORIN_NANO, {"VDD_IN": 5.006, "VDD_CPU_GPU_CV": 1.022, "VDD_SOC": 1.427}),
        (
            AGX_ORIN,
            {"VDD_GPU_SOC": 3.15, "VDD_CPU_CV": 14.312, "VIN_SYS_5V0": 4.968}
            | {"VDDQ_VDD2_1V8AO": 1.091},
        ),
        (NANO, {"POM_5V_IN": 0.9, "POM_5V_GPU": 0, "POM_5V_CPU": 0.123}),
        ("", {}),
        ("RAM 1/2MB CPU [off] a 1/2 B1 3mW", {}),
    ],
)
def test_a_line_of_tegrastats(line: str, rails: dict[str, float]) -> None:
    """The first figure is the moment's; memory, clocks and what is not connected are no rails."""
    assert dict(power.tegra_rails(line)) == pytest.approx(rails)


def program(folder: Path, *lines: str, every_s: float = 0.02) -> Path:
    """Write a tegrastats that prints lines again and again."""
    folder.mkdir()
    file = folder / "tegrastats"
    shown = "".join(f"echo {shlex.quote(line)}; sleep {every_s}; " for line in lines)
    file.write_text(f"#!/bin/sh\nwhile :; do {shown or 'exit 1; '}done\n")
    file.chmod(0o755)
    return file


def test_tegrastats_stands_in_for_monitors_that_cannot_be_read(
    machine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = program(tmp_path / "bin", ORIN_NANO).parent
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    found, _ = power.find_source(str(machine.sysfs))
    assert (found.kind, found.rails) == ("tegrastats", ["VDD_IN"])
    stream = found.stream()
    assert [next(stream), next(stream)] == [5.006, 5.006]
    stream.close()
    machine.write("sys/class/hwmon/hwmon1/name", "ina3221")
    for file, value in (("in1_label", "VDD_IN"), ("in1_input", 5000), ("curr1_input", 1000)):
        machine.write(f"sys/class/hwmon/hwmon1/{file}", value)
    assert power.find_source(str(machine.sysfs))[0].kind == "hwmon"


def test_rails_of_an_agx_orin_are_named_and_summed(
    machine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = program(tmp_path / "bin", AGX_ORIN).parent
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    found, _ = power.find_source(str(machine.sysfs))
    assert found.rails == ["VDDQ_VDD2_1V8AO", "VDD_CPU_CV", "VDD_GPU_SOC", "VIN_SYS_5V0"]
    stream = found.stream()
    assert next(stream) == pytest.approx(3.15 + 14.312 + 4.968 + 1.091)
    stream.close()


def test_a_tegrastats_that_prints_no_power(
    machine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, line in enumerate(("RAM 613/3964MB", "")):
        folder = program(tmp_path / f"bin{number}", *([line] if line else [])).parent
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        found, why = power.find_source(str(machine.sysfs))
        assert found is None and "tegrastats prints no power" in why


# -- cards ---------------------------------------------------------------------------------------

_LOOK = """
import json
from edgedeploy.bench import environment, nvml, power
card, why = nvml.find_card()
found = {"why": why}
if card:
    seen = environment.Environment("/nowhere", "/nowhere", card=card)
    source, _ = power.find_source("/nowhere", card)
    found.update(facts=seen.facts()["gpus"], sample=seen.sample(), watts=card.watts(),
                 source=source and [source.kind, source.rails, source.counted])
print(json.dumps(found))
"""


def look(libraries: Path, words: str = "") -> Any:
    return script(_LOOK, variables(libraries, FAKE_NVML=words))


def test_what_a_card_tells(libraries: Path) -> None:
    found = look(libraries)
    about = {"name": "stand-in card", "governor": None, "min_khz": None, "max_khz": 2_520_000}
    assert found["facts"] == [about]
    assert found["sample"]["gpu_khz"] == [1_410_000]
    assert found["sample"]["gpu_reasons"] == []  # idling, 0x1, slows nothing down
    assert found["source"] == ["nvml", ["stand-in card"], True]
    # A card that boosts less than its highest clock is not throttled by that.
    assert _gpu([found["sample"]], {"gpus": found["facts"]}) is None


def test_what_slows_a_card_down_is_named(libraries: Path) -> None:
    found = look(libraries, "reasons=0x25")
    said = _gpu([found["sample"]], {"gpus": found["facts"]})
    assert said == "throttled: the GPU's driver says power cap, temperature"


def test_a_card_without_a_count_of_energy_is_sampled(libraries: Path) -> None:
    assert look(libraries, "no-energy")["source"] == ["nvml", ["stand-in card"], False]
    assert look(libraries, "no-energy no-power")["source"] is None


@pytest.mark.parametrize(
    ("words", "why"), [("cards=0", "shows no card"), ("cards=2", "several NVIDIA cards")]
)
def test_cards_that_cannot_be_told_apart(words: str, why: str, libraries: Path) -> None:
    assert why in look(libraries, words)["why"]


def test_no_driver_no_card(tmp_path: Path) -> None:
    assert look(tmp_path)["why"].startswith("no NVML: libnvidia-ml.so.1")


PLAN = BenchPlan(
    warmup_max_s=0.1, window_s=0.2, min_s=0.2, min_count=8, max_s=30, layer_runs=0,
    min_repetitions=2,
)  # fmt: skip


@pytest.mark.parametrize("words", ["", "no-energy"])
def test_the_energy_of_an_engine_on_a_card(words: str, libraries: Path, tmp_path: Path) -> None:
    """50 W all the time, counted or sampled: joules per inference are 50 times its seconds."""
    from onnx import helper

    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    model = model_of(nodes, [("x", FLOAT, [4])], [("y", FLOAT, [4])])
    job = BenchJob(
        artifacts=(artifact(tmp_path / "v", engine_of(model)),),
        inputs=BenchInputs(pack=pack_of(tmp_path / "pack", {"x": np.zeros(4, np.float32)})),
        plan=PLAN,
        sysfs=tmp_path / "sys",
    )
    result = onboard(tmp_path, variables(libraries, FAKE_NVML=words)).measure(job)
    assert result["power"]["source"] == "nvml"
    assert result["power"]["idle_w"] == pytest.approx(50, rel=0.05)
    for window in result["windows"]:
        seconds = (window["end_ns"] - window["begin_ns"]) / 1e9
        assert window["energy_j"] == pytest.approx(50 * seconds, rel=0.05)
    record = build_record(job, job.artifacts[0], result, "2026-01-01T00:00:00+00:00", tmp_path)
    assert record["energy"]["rails"] == ["stand-in card"]
    assert record["environment"]["gpus"][0]["name"] == "stand-in card"


def test_a_cpu_that_waits_for_a_gpu_may_slow_down(libraries: Path, tmp_path: Path) -> None:
    """It would be throttled if it computed; the GPU's own clock is what counts then."""
    facts: dict[str, Any] = {"cooling": [], "max_khz": [2_000_000], "gpus": [], "cpus": 1}
    reading = {
        "t_ns": 1, "khz": [500_000], "cooling": [], "throttle_counts": [], "load1": None,
        "firmware_throttled": [], "ticks": None, "gpu_khz": [], "gpu_reasons": [],
    }  # fmt: skip
    windows = [{"artifact": "a", "samples_ns": [10_000_000] * 10, "environment": reading}] * 10
    for device_bytes, wanted in ((4, []), (None, ["throttled: the clock fell to 25%"])):
        about = {"id": "a", "warmup": {"stable": True}, "warm": {"device_bytes": device_bytes}}
        result = {
            "environment": facts, "before": reading, "windows": windows, "artifacts": [about]
        }  # fmt: skip
        found = judge(result, "a", PLAN, threads=1).reasons
        assert [text[:32] for text in found] == wanted


def test_a_job_without_engines_asks_no_card(libraries: Path, tmp_path: Path) -> None:
    """The CPU's energy is not the card's."""
    from edgedeploy.bench import loop

    ort = BenchArtifact(id="a", family="ort", path=tmp_path / "m.onnx")
    told = BenchJob(artifacts=(ort,), inputs=BenchInputs()).to_loop()
    assert loop._card(told) is None
