"""Throttled, noisy or short measurements are called unreliable, each for its reason."""

from __future__ import annotations

import copy
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.signal import lfilter

from edgedeploy.bench.environment import Environment
from edgedeploy.bench.job import BenchPlan
from edgedeploy.bench.validity import judge

PLAN = BenchPlan(warmup_max_s=1, window_s=0.1, min_s=1, min_count=64, max_s=60)
CPU = "sys/devices/system/cpu/cpu{}/"


def result_of(machine: Any) -> dict[str, Any]:
    """Return a run of 20 windows of 10 inferences of 10 ms as the loop would report it."""
    environment = Environment(str(machine.sysfs), str(machine.procfs))
    facts = {**environment.facts(), "cpus": 2, "ticks_hz": 100}
    evidence = environment.sample()
    before = {**evidence, "t_ns": 0, "own_cpu_s": 0.0, "ticks": [0] * 8}
    windows = []
    for position in range(20):
        # Our own two seconds of work are all that runs.
        now = {**copy.deepcopy(evidence), "t_ns": (position + 1) * 100_000_000}
        now |= {"own_cpu_s": (position + 1) * 0.1, "ticks": [(position + 1) * 10] + [0] * 7}
        windows.append({"artifact": "a", "environment": now, "samples_ns": [10_000_000] * 10})
    artifacts = [{"id": "a", "warmup": {"stable": True}, "warm": {"device_bytes": None}}]
    return {"environment": facts, "before": before, "windows": windows, "artifacts": artifacts}


def test_a_quiet_cool_machine_is_valid(machine: Any) -> None:
    """A running fan and past (not present) firmware throttling speak against nothing."""
    found = judge(result_of(machine), "a", PLAN, threads=2)
    assert found.to_json() == {"verdict": "valid", "reasons": []}


def test_evidence_is_read_from_the_tree(machine: Any) -> None:
    environment = Environment(str(machine.sysfs), str(machine.procfs))
    sample, facts = environment.sample(), environment.facts()
    assert sample["khz"] == [1_800_000, 1_800_000] and sample["millicelsius"] == [51_000]
    assert sample["cooling"] == [2, 0] and facts["cooling"] == ["pwm-fan", "cpufreq-cpu0"]
    assert sample["throttle_counts"] == [7, 7] and sample["firmware_throttled"] == [0x50000]
    assert sample["load1"] == 0.10 and sample["ticks"] == [100, 0, 100, 1000, 0, 0, 0, 0]
    assert facts["governor"] == ["performance"] * 2 and facts["zones"] == ["cpu-thermal"]


def test_a_machine_without_evidence_reads_as_empty(tmp_path: Any) -> None:
    sample = Environment(str(tmp_path / "sys"), str(tmp_path / "proc")).sample()
    assert sample["khz"] == [] and sample["ticks"] is None and sample["load1"] is None


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("sys/class/thermal/cooling_device1/cur_state", 1, "throttled: cooling device cpufreq"),
        (CPU.format(1) + "cpufreq/scaling_cur_freq", 1_500_000, "throttled: the clock fell to 83%"),
        ("sys/devices/platform/soc/soc:firmware/get_throttled", "50004", "throttled: the board's"),
    ],
)
def test_a_throttled_board_is_unreliable(
    machine: Any, path: str, value: int | str, reason: str
) -> None:
    machine.write(path, value)
    found = judge(result_of(machine), "a", PLAN, threads=2)
    assert found.verdict == "unreliable"
    assert len(found.reasons) == 1 and found.reasons[0].startswith(reason)


def test_an_idle_cpu_may_clock_down(machine: Any) -> None:
    machine.write(CPU.format(1) + "cpufreq/scaling_cur_freq", 600_000)
    assert judge(result_of(machine), "a", PLAN, threads=1).verdict == "valid"


def _slower_at_the_end(result: dict[str, Any]) -> None:
    for window in result["windows"][-5:]:
        window["samples_ns"] = [10_600_000] * 10


def _faster_at_the_end(result: dict[str, Any]) -> None:
    for window in result["windows"][-5:]:
        window["samples_ns"] = [9_000_000] * 12


def _counter(result: dict[str, Any]) -> None:
    result["windows"][3]["environment"]["throttle_counts"][1] += 1


def _others(result: dict[str, Any]) -> None:
    result["windows"][-1]["environment"]["ticks"][0] += 100


def _steal(result: dict[str, Any]) -> None:
    result["windows"][-1]["environment"]["ticks"][7] += 50


def _load_average(result: dict[str, Any]) -> None:
    result["before"]["ticks"] = None
    result["windows"][-1]["environment"]["load1"] = 2.5


def _cold(result: dict[str, Any]) -> None:
    result["artifacts"][0]["warmup"]["stable"] = False


def _few(result: dict[str, Any]) -> None:
    result["windows"] = result["windows"][:5]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_slower_at_the_end, "throttled: slower by 6% after 75% of the run"),
        (_faster_at_the_end, "warm-up: faster by 11% after 75% of the run"),
        (_counter, "throttled: the throttle counters rose"),
        (_others, "other load: other processes used 0.50 CPUs"),
        (_steal, "other load: the hypervisor withheld 0.25 CPUs"),
        (_load_average, "other load: the load average was 2.50"),
        (_cold, "warm-up: "),
        (_few, "too short: 50 inferences in 0.5 s of at least 64 and 1 s"),
    ],
)
def test_each_fault_is_named(
    machine: Any, change: Callable[[dict[str, Any]], None], reason: str
) -> None:
    result = result_of(machine)
    change(result)
    found = judge(result, "a", PLAN, threads=2)
    assert [text.startswith(reason) for text in found.reasons] == [True]


def flagged(machine: Any, level: Callable[[np.random.Generator, int], np.ndarray]) -> float:
    """Return which part of 1000 noisy runs is called unreliable.

    A run is 40 windows of 25 inferences, correlated (AR(1), 0.9) with a spread of 2 %; ``level``
    multiplies the windows.
    """
    source, windows, size = np.random.default_rng(1), 40, 25
    result = result_of(machine)
    template = result["windows"]
    found = 0
    for _ in range(1000):
        noise = source.normal(0, 0.02 * math.sqrt(1 - 0.9**2), windows * size)
        walk = lfilter([1.0], [1.0, -0.9], noise).reshape(windows, size)
        samples = 1e7 * np.exp(walk) * level(source, windows)[:, None]
        result["windows"] = [
            {**template[number // 2], "samples_ns": item} for number, item in enumerate(samples)
        ]
        found += judge(result, "a", PLAN, threads=2).verdict == "unreliable"
    return found / 1000


def test_a_steady_run_is_not_called_unreliable(machine: Any) -> None:
    assert flagged(machine, lambda source, count: np.ones(count)) <= 0.05


def test_disturbances_of_single_windows_are_no_change(machine: Any) -> None:
    assert flagged(machine, lambda s, count: 1 + 0.3 * (s.random(count) < 0.05)) <= 0.05


@pytest.mark.parametrize("sign", [1, -1])
def test_drift_is_called_unreliable(machine: Any, sign: int) -> None:
    """15 % over the run."""
    assert flagged(machine, lambda _, n: 1 + sign * 0.15 * np.linspace(0, 1, n)) >= 0.95


@pytest.mark.parametrize("size", [0.10, -0.10, 0.5])
def test_a_step_is_called_unreliable(machine: Any, size: float) -> None:
    """To another level, anywhere but in the first and the last tenth."""

    def level(source: np.random.Generator, count: int) -> np.ndarray:
        return 1 + size * (np.arange(count) >= source.integers(4, 37))

    assert flagged(machine, level) >= 0.95


def test_the_firmware_is_asked_where_the_kernel_does_not_tell(
    machine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Raspberry Pi kernels without get_throttled in sysfs: vcgencmd says it."""
    shutil.rmtree(machine.sysfs / "devices/platform")
    tool = tmp_path / "bin/vcgencmd"
    tool.parent.mkdir()
    tool.write_text('#!/bin/sh\n[ "$1" = get_throttled ] && echo throttled=0x50005\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:/usr/bin:/bin")
    environment = Environment(str(machine.sysfs), str(machine.procfs))
    assert environment.sample()["firmware_throttled"] == [0x50005]
    assert judge(result_of(machine), "a", PLAN, threads=2).reasons[0].startswith("throttled: the")
    tool.write_text("#!/bin/sh\necho VCHI initialization failed\n")
    assert environment.sample()["firmware_throttled"] == [0]


def test_power_mode_and_locked_clocks_are_facts(machine: Any, tmp_path: Path) -> None:
    (tmp_path / "status").write_text("pmode:0002\n")
    machine.write(CPU.format(0) + "cpufreq/scaling_min_freq", 1_800_000)
    environment = Environment(str(machine.sysfs), str(machine.procfs), str(tmp_path / "status"))
    facts = environment.facts()
    assert facts["power_mode"] == "pmode:0002"
    assert facts["min_khz"] == [1_800_000, None] and facts["max_khz"] == [1_800_000] * 2
