"""Energy from fake machines of known power: sources, integration, windows, records."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedeploy.bench import power
from edgedeploy.bench.measure import LOOP
from edgedeploy.bench.record import _energy

HWMON = "sys/class/hwmon/hwmon{}/"
RAPL = "sys/class/powercap/intel-rapl:{}/"
BATTERY = "sys/class/power_supply/BAT0/"


def jetson(machine: Any, **rails: tuple[int, int]) -> None:
    """Write an INA3221: rail -> (millivolt, milliampere)."""
    machine.write(HWMON.format(3) + "name", "ina3221")
    for number, (name, (mv, ma)) in enumerate(rails.items(), start=1):
        machine.write(HWMON.format(3) + f"in{number}_label", name)
        machine.write(HWMON.format(3) + f"in{number}_input", mv)
        machine.write(HWMON.format(3) + f"curr{number}_input", ma)


def source(machine: Any) -> Any:
    found, why = power.find_source(str(machine.sysfs))
    assert found is not None, why
    return found


def test_the_rail_that_carries_the_module_is_taken_alone(machine: Any) -> None:
    """5 V x 2 A; the two others are parts of it."""
    jetson(machine, VDD_IN=(5000, 2000), VDD_CPU_GPU_CV=(5000, 800), VDD_SOC=(5000, 600))
    found = source(machine)
    assert found.rails == ["VDD_IN"] and found.watts() == pytest.approx(10.0)
    assert "carrier board" in found.scope


def test_rails_without_a_whole_are_summed(machine: Any) -> None:
    jetson(machine, VDD_GPU_SOC=(12000, 500), VDD_CPU_CV=(12000, 250))
    machine.write(HWMON.format(4) + "name", "ina226")
    machine.write(HWMON.format(4) + "power1_input", 1_500_000)
    assert source(machine).watts() == pytest.approx(6 + 3 + 1.5)


def test_what_is_not_the_boards_power_is_left_out(machine: Any) -> None:
    machine.write(HWMON.format(0) + "name", "amdgpu")
    machine.write(HWMON.format(0) + "power1_input", 90_000_000)
    found, why = power.find_source(str(machine.sysfs))
    assert found is None and "no power monitor" in why


def test_counters_of_packages_and_memory_wrap(machine: Any) -> None:
    for number, (name, value) in enumerate(
        [("package-0", 900), ("core", 5), ("psys", 7), ("dram", 100)]
    ):
        machine.write(RAPL.format(number) + "name", name)
        machine.write(RAPL.format(number) + "energy_uj", value)
        machine.write(RAPL.format(number) + "max_energy_range_uj", 1000)
    found = source(machine)
    assert found.rails == ["package-0", "dram"]
    machine.write(RAPL.format(0) + "energy_uj", 200)  # over the top: 100 + 200
    machine.write(RAPL.format(3) + "energy_uj", 150)
    assert found.joules() == pytest.approx(350e-6)
    machine.write(RAPL.format(0) + "energy_uj", 300)
    assert found.joules() == pytest.approx(450e-6)


def test_counters_that_root_alone_may_read_are_told(machine: Any) -> None:
    machine.write(RAPL.format(0) + "name", "package-0")
    found, why = power.find_source(str(machine.sysfs))
    assert found is None and "root alone" in why


@pytest.mark.parametrize(
    "files", [{"power_now": 7_500_000}, {"current_now": -1_500_000, "voltage_now": 5_000_000}]
)
def test_a_battery_counts_while_it_discharges(machine: Any, files: dict[str, int]) -> None:
    machine.write(BATTERY + "type", "Battery")
    machine.write(BATTERY + "status", "Charging")
    for name, value in files.items():
        machine.write(BATTERY + name, value)
    found, why = power.find_source(str(machine.sysfs))
    assert found is None and "unplug" in why
    machine.write(BATTERY + "status", "Discharging")
    assert source(machine).watts() == pytest.approx(7.5)


moments = st.lists(st.integers(0, 10**9), min_size=4, max_size=40, unique=True).map(sorted)


@given(moments, st.data())
def test_integration_is_exact_for_straight_lines(times: list[int], data: Any) -> None:
    """Power of a + b t has the energy a d + b d^2 / 2."""
    a, b = data.draw(st.floats(0, 50)), data.draw(st.floats(0, 50))
    samples = [(moment, a + b * moment / 1e9) for moment in times]
    begin, end = times[0], times[-1]
    begin_s, end_s = begin / 1e9, end / 1e9
    wanted = a * (end_s - begin_s) + b * (end_s**2 - begin_s**2) / 2
    assert power.integrate(samples, begin, end) == pytest.approx(wanted, rel=1e-9, abs=1e-12)
    inside = (times[1] + times[0]) // 2, (times[-1] + times[-2]) // 2
    begin_s, end_s = inside[0] / 1e9, inside[1] / 1e9
    wanted = a * (end_s - begin_s) + b * (end_s**2 - begin_s**2) / 2
    found = power.integrate(samples, *inside)
    assert found is None or found == pytest.approx(wanted, rel=1e-9, abs=1e-12)


def test_too_few_samples_are_no_energy() -> None:
    samples = [(0, 1.0), (50, 1.0), (100, 1.0)]
    assert power.integrate(samples, 40, 60) is None
    assert power.integrate(samples, 40, 110) == pytest.approx(70e-9)
    assert power.integrate([], 0, 1) is None


class Sleeper:
    """A clock that sleeping advances, and a counter that runs at 4 W meanwhile."""

    def __init__(self, machine: Any) -> None:
        self.machine, self.ns = machine, 0
        machine.write(RAPL.format(0) + "name", "package-0")
        machine.write(RAPL.format(0) + "max_energy_range_uj", 10**9)
        self.pass_s(0, 0)

    def pass_s(self, seconds: float, watts: float = 4.0) -> None:
        self.ns += int(seconds * 1e9)
        path = self.machine.sysfs.parent / RAPL.format(0) / "energy_uj"
        before = int(path.read_text()) if path.exists() else 0
        self.machine.write(RAPL.format(0) + "energy_uj", before + int(watts * seconds * 1e6))

    def __call__(self) -> int:
        return self.ns


def test_energy_of_windows_by_a_counter(machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """4 W idle; 20 inferences of 10 ms at 12 W: 120 mJ each, 80 mJ of it above idle."""
    clock = Sleeper(machine)
    monkeypatch.setattr(power.time, "sleep", clock.pass_s)
    meter = power.Meter(str(machine.sysfs), clock)
    meter.start(["false"], "")
    windows = []
    for number in range(24):
        begin, joules = clock(), meter.joules()
        clock.pass_s(0.2, 12)
        spent = meter.joules() - joules
        windows.append({"begin_ns": begin, "end_ns": clock(), "energy_j": spent,
                        "repetition": number // 2, "samples_ns": [10_000_000] * 20})  # fmt: skip
    about = meter.finish(windows, several=True)
    assert about["source"] == "rapl" and about["idle_w"] == pytest.approx(4.0)
    found = _energy(about, windows)
    assert found["per_inference_j"]["value"] == pytest.approx(0.120)
    assert found["above_idle_j"]["value"] == pytest.approx(0.080)
    assert found["repetitions"] == 12


def test_no_source_is_no_energy(machine: Any) -> None:
    meter = power.Meter(str(machine.sysfs), lambda: 0)
    meter.start(["false"], "")
    windows = [{"begin_ns": 0, "end_ns": 9, "energy_j": None, "samples_ns": [9]}] * 12
    found = _energy(meter.finish(windows, several=False), windows)
    assert found["per_inference_j"] is None and "no power monitor" in found["why_not"]


@pytest.mark.parametrize(("every_s", "told"), [(0.01, ""), (5.0, "more slowly")])
def test_a_slow_gauge_cannot_tell_artifacts_apart(every_s: float, told: str) -> None:
    samples = [(int(n * 0.05e9), 5.0 + int(n * 0.05 / every_s) % 7) for n in range(2000)]
    windows = [{"begin_ns": 0, "end_ns": 250_000_000}]
    assert told in power._too_slow(samples, windows)
    assert bool(power._too_slow(samples, windows)) == bool(told)


def test_a_run_on_a_machine_of_ten_watts(tiny_model: Path, machine: Any, tmp_path: Path) -> None:
    """The sampling process, the windows and the idle look of a real run, at constant power."""
    jetson(machine, VDD_IN=(5000, 2000))
    job = {
        "loop": 1,
        "artifacts": [{"id": "a", "family": "ort", "path": str(tiny_model), "threads": 1,
                       "options": {}}],
        "inputs": {"generated": [{"name": "x", "dtype": "float32", "shape": [4, 16]}]},
        "plan": {"warmup_max_s": 0.1, "window_s": 0.25, "min_s": 0.5, "min_count": 4,
                 "min_repetitions": 3, "max_s": 30, "layer_runs": 0},
        "sysfs": str(machine.sysfs), "procfs": str(machine.procfs), "cpus": [0],
    }  # fmt: skip
    (tmp_path / "job.json").write_text(json.dumps(job))
    done = subprocess.run(
        [sys.executable, LOOP, tmp_path / "job.json"], capture_output=True, timeout=120, check=True
    )
    result = json.loads(done.stdout)
    about = result["power"]
    assert (about["source"], about["rails"]) == ("hwmon", ["VDD_IN"])
    assert about["idle_w"] == pytest.approx(10, rel=1e-5)
    known = [item for item in result["windows"] if item["energy_j"] is not None]
    assert len(known) >= len(result["windows"]) / 2
    for window in known:
        length_s = (window["end_ns"] - window["begin_ns"]) / 1e9
        assert window["energy_j"] == pytest.approx(10 * length_s, rel=1e-5)
    assert result["environment"]["affinity"] == [0]
