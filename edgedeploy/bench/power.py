# Syntax and library held to Python 3.6.
# ruff: noqa: UP006, UP031, UP035, UP045, PTH107, PTH118, PTH119, PTH207, RUF007, B905
"""Energy evidence for ``loop.py``: where a machine tells its power, and joules per window.

Travels to devices beside ``loop.py`` and, like it, needs the standard library alone. Sources, the
first that can be read wins:

``hwmon``
    INA monitors and ACPI power meters: ``power*_input`` in uW, or ``in*_input`` (mV) times
    ``curr*_input`` (mA) of the same number (kernel documentation, hwmon/sysfs-interface). Jetson
    boards have INA3221 rails; one that carries the whole module (``VDD_IN``) is taken alone,
    otherwise all are summed.
``tegrastats``
    The same rails as NVIDIA's program of Jetson Linux prints them, in mW, every 100 ms, where the
    monitors themselves cannot be read (Jetson Linux Developer Guide, "tegrastats Utility";
    ``VDD_IN 5006mW/4980mW``, before release 35 ``POM_5V_IN 5006/4980``: now and on average).
``nvml``
    Of a graphics card, when it computes: its own count of energy, else its power.
``rapl``
    ``/sys/class/powercap``: energy counters in uJ of CPU packages and their memory, which wrap at
    ``max_energy_range_uj`` (kernel documentation, power/powercap).
``battery``
    ``/sys/class/power_supply``: ``power_now``, or ``current_now`` times ``voltage_now`` (micro
    units; kernel documentation, ABI/testing/sysfs-class-power), while it discharges.

Power is sampled by a process of its own, which takes at most 2 % of one CPU, and integrated by the
trapezoid rule; counters are read at both ends of a window.
"""

import glob
import os
import re
import shutil
import signal
import subprocess
import time
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

IDLE_S = 2.0
LEAST_PERIOD_S = 0.02
CPU_RATIO = 0.02
TEGRASTATS_MS = 100
_TEGRA_RAIL = re.compile(r" ([A-Z][A-Z0-9_]+) ([0-9]{1,7})(?:mW)?/[0-9]{1,7}(?:mW)?(?= |$)")
_NOT_CONNECTED = "NC"
_TOTAL_RAILS = ("VDD_IN", "VIN", "POM_5V_IN", "VDD_5V_IN")

Samples = List[Tuple[int, float]]


def _text(path: str) -> str:
    try:
        with open(path) as file:
            return file.read().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _number(path: str) -> Optional[float]:
    try:
        return float(_text(path))
    except ValueError:
        return None


class Rails:
    """Power that is read at a moment: the rails of monitors, or a battery."""

    method = "power sampled in each window, trapezoid rule"
    counted = False

    def __init__(self, kind: str, scope: str, rails: List[Tuple[str, List[str], float]]) -> None:
        self.kind, self.scope = kind, scope
        self.rails = [name for name, _, _ in rails]
        self._rails = rails

    def watts(self) -> Optional[float]:
        """Return the sum of all rails, None when one cannot be read."""
        total = 0.0
        for _, paths, unit in self._rails:
            value = unit
            for path in paths:
                number = _number(path)
                if number is None:
                    return None
                value *= number
            total += abs(value)
        return total


class Tegrastats:
    """Power that NVIDIA's ``tegrastats`` prints."""

    kind, scope = "tegrastats", "the monitored rails; the carrier board beside them is not in"
    method = "power printed by tegrastats in each window, trapezoid rule"
    counted = False

    def __init__(self, program: str) -> None:
        self._command = [program, "--interval", str(TEGRASTATS_MS)]
        self.rails = []  # type: List[str]
        for line in self._lines():
            found = dict(tegra_rails(line))
            self.rails = [name for name in _TOTAL_RAILS if name in found][:1] or sorted(found)
            break

    def _lines(self) -> Iterator[str]:
        """Yield what it prints; it ends with whoever reads."""
        nowhere = subprocess.DEVNULL
        try:
            process = subprocess.Popen(
                self._command, stdin=nowhere, stdout=subprocess.PIPE, stderr=nowhere
            )
        except OSError:
            return
        try:
            for line in iter(process.stdout.readline, b""):  # type: ignore[union-attr]
                yield line.decode("ascii", "replace").strip()
        finally:
            process.kill()
            process.wait()

    def stream(self) -> Iterator[float]:
        """Yield the watts of each line."""
        for line in self._lines():
            found = dict(tegra_rails(line))
            if all(name in found for name in self.rails):
                yield sum(found[name] for name in self.rails)


def tegra_rails(line: str) -> List[Tuple[str, float]]:
    """Return the rails of a line of tegrastats with the watts of that moment."""
    found = _TEGRA_RAIL.findall(" " + line)
    return [(name, int(mw) / 1e3) for name, mw in found if name != _NOT_CONNECTED]


class Card:
    """Energy or power that the driver of a graphics card tells."""

    kind, scope = "nvml", "the graphics card; the rest of the machine is not in"

    def __init__(self, card: Any) -> None:
        self.rails = [card.name]
        self.counted = card.energy_j() is not None
        self.method = Counters.method if self.counted else Rails.method
        self.joules, self.watts = card.energy_j, card.watts


class Counters:
    """Energy that hardware counts."""

    counted = True

    method = "difference of energy counters at both ends of a window"

    def __init__(self, rails: List[Tuple[str, str, float]]) -> None:
        self.kind, self.scope = "rapl", "CPU packages and memory; the rest of the machine is not in"
        self.rails = [name for name, _, _ in rails]
        self._rails = rails
        self._last = [_number(path) for _, path, _ in rails]
        self._total_uj = 0.0

    def joules(self) -> Optional[float]:
        """Return the energy since the beginning, None when a counter cannot be read."""
        for position, (_, path, wraps_at) in enumerate(self._rails):
            now, last = _number(path), self._last[position]
            if now is None or last is None:
                return None
            self._total_uj += now - last if now >= last else now - last + wraps_at
            self._last[position] = now
        return self._total_uj / 1e6


def find_source(sysfs: str, card: Any = None) -> Tuple[Any, str]:
    """Return where this machine tells its power, or None and why it does not.

    Args:
        sysfs: Where sysfs is mounted.
        card: Graphics card that computes (``nvml.py``).
    """
    reasons = []  # type: List[str]
    for look in (_hwmon, _tegrastats, lambda _: _card(card), _rapl, _battery):
        found, why = look(sysfs)
        if found is not None:
            return found, ""
        if why:
            reasons.append(why)
    return None, "; ".join(reasons) or "the machine has no power monitor that Linux knows"


def _hwmon(sysfs: str) -> Tuple[Any, str]:
    rails = []  # type: List[Tuple[str, List[str], float]]
    for folder in sorted(glob.glob(os.path.join(sysfs, "class/hwmon/hwmon[0-9]*"))):
        chip = _text(folder + "/name")
        if not chip.startswith(("ina", "power_meter")):
            continue  # a GPU's or a disk's own figure is not the board's
        direct = sorted(glob.glob(folder + "/power[0-9]*_input"))
        for path in direct:
            label = _text(path[: -len("_input")] + "_label")
            name = label or "%s %s" % (chip, os.path.basename(path)[: -len("_input")])
            rails.append((name, [path], 1e-6))
        for path in [] if direct else sorted(glob.glob(folder + "/curr[0-9]*_input")):
            number = os.path.basename(path)[len("curr") : -len("_input")]
            volts = "%s/in%s_input" % (folder, number)
            label = _text("%s/in%s_label" % (folder, number))
            if label.startswith("sum of"):  # the INA3221's own sum channel
                continue
            rails.append((label or "%s channel %s" % (chip, number), [volts, path], 1e-6))
    rails = [rail for rail in rails if all(_number(path) is not None for path in rail[1])]
    if not rails:
        return None, ""
    total = [rail for rail in rails if rail[0] in _TOTAL_RAILS]
    scope = "the monitored rails; the carrier board beside them is not in"
    return Rails("hwmon", scope, total[:1] or rails), ""


def _tegrastats(sysfs: str) -> Tuple[Any, str]:
    program = shutil.which("tegrastats")
    if program is None:
        return None, ""
    found = Tegrastats(program)
    return (found, "") if found.rails else (None, "tegrastats prints no power")


def _card(card: Any) -> Tuple[Any, str]:
    if card is None:
        return None, ""
    if card.energy_j() is None and card.watts() is None:
        return None, "the driver of the graphics card tells no power"
    return Card(card), ""


def _rapl(sysfs: str) -> Tuple[Any, str]:
    rails = []
    hidden = False
    for folder in sorted(glob.glob(os.path.join(sysfs, "class/powercap/intel-rapl*:*"))):
        name = _text(folder + "/name")
        # "core" and "uncore" are parts of their package, "psys" holds all of it.
        if not name.startswith(("package-", "dram")):
            continue
        path = folder + "/energy_uj"
        if _number(path) is None:
            hidden = True
            continue
        rails.append((name, path, _number(folder + "/max_energy_range_uj") or 2.0**32))
    if hidden:
        return None, "the CPU's energy counters may be read by root alone"
    return (Counters(rails), "") if rails else (None, "")


def _battery(sysfs: str) -> Tuple[Any, str]:
    for folder in sorted(glob.glob(os.path.join(sysfs, "class/power_supply/*"))):
        if _text(folder + "/type") != "Battery" or _text(folder + "/scope") == "Device":
            continue
        if _text(folder + "/status") != "Discharging":
            return None, "the battery does not discharge: unplug the charger"
        power = [folder + "/power_now"]
        parts = [folder + "/current_now", folder + "/voltage_now"]
        for paths, unit in ((power, 1e-6), (parts, 1e-12)):
            if all(_number(path) is not None for path in paths):
                name = os.path.basename(folder)
                return Rails("battery", "the whole device", [(name, paths, unit)]), ""
    return None, ""


def record(sysfs: str, path: str, now_ns: Callable[[], int], card: Any = None) -> None:
    """Write ``<ns> <watts>`` lines to a file until the parent process is gone."""
    source, _ = find_source(sysfs, card)
    parent = os.getppid()
    with open(path, "w") as out:
        if isinstance(source, Tegrastats):
            for watts in source.stream():
                out.write("%d %.6f\n" % (now_ns(), watts))
                out.flush()
                if os.getppid() != parent:
                    break
            return
        while os.getppid() == parent:
            wall, cpu = time.time(), time.process_time()
            before = now_ns()
            watts = source.watts()
            if watts is not None:
                out.write("%d %.6f\n" % ((before + now_ns()) // 2, watts))
                out.flush()
            spent_cpu_s = time.process_time() - cpu
            spent_s = time.time() - wall
            time.sleep(max(LEAST_PERIOD_S, spent_s, spent_cpu_s / CPU_RATIO))


def integrate(samples: Samples, begin_ns: int, end_ns: int) -> Optional[float]:
    """Return the joules between two moments by the trapezoid rule, None where samples lack.

    At least two samples must lie inside; power at the ends is interpolated, and held where there
    is no sample beyond an end.
    """
    inside = [item for item in samples if begin_ns <= item[0] <= end_ns]
    if len(inside) < 2:
        return None
    before = [item for item in samples if item[0] < begin_ns][-1:]
    after = [item for item in samples if item[0] > end_ns][:1]
    points = [(begin_ns, _at(begin_ns, (before + inside)[:2])), *inside]
    points.append((end_ns, _at(end_ns, (inside + after)[-2:])))
    joules = 0.0
    for (start, one), (stop, other) in zip(points, points[1:]):
        joules += (stop - start) / 1e9 * (one + other) / 2
    return joules


def _at(moment: int, pair: Samples) -> float:
    (start, one), (stop, other) = pair
    if not start <= moment <= stop or start == stop:
        return one if moment < start else other
    return one + (other - one) * (moment - start) / float(stop - start)


class Meter:
    """Energy of the windows of one run."""

    def __init__(self, sysfs: str, now_ns: Callable[[], int], card: Any = None) -> None:
        self._source, self.why_not = find_source(sysfs, card)
        self._now_ns = now_ns
        self._counted = self._source is not None and self._source.counted  # type: bool
        self._process = None  # type: Optional[subprocess.Popen[bytes]]
        self._path = ""
        self._idle = (0, 0)
        self._idle_w = None  # type: Optional[float]

    def start(self, command: List[str], path: str) -> None:
        """Begin to sample and look at the idle machine for two seconds.

        Args:
            command: Runs :func:`record` when ``path`` is added.
            path: File for its samples.
        """
        if self._source is None:
            return
        if not self._counted:
            self._path = path
            self._process = subprocess.Popen([*command, path], stdin=subprocess.DEVNULL)
        begin, joules = self._now_ns(), self.joules()
        time.sleep(IDLE_S)
        self._idle = (begin, self._now_ns())
        after = self.joules()
        if joules is not None and after is not None:
            self._idle_w = (after - joules) / ((self._idle[1] - begin) / 1e9)

    def joules(self) -> Optional[float]:
        """Return the energy counted so far, None where power is sampled instead."""
        return self._source.joules() if self._counted else None

    def stop(self) -> Samples:
        """End the sampling and return what was sampled."""
        if self._process is None:
            return []
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        samples = []  # type: Samples
        for line in _text(self._path).split("\n")[:-1]:  # the last may be cut
            moment, watts = line.split()
            samples.append((int(moment), float(watts)))
        os.remove(self._path)
        return samples

    def finish(self, windows: List[Dict[str, Any]], several: bool) -> Dict[str, Any]:
        """Put ``energy_j`` into every window and return what is known of the source.

        Args:
            windows: With ``begin_ns``, ``end_ns`` and, from a counter, ``energy_j``.
            several: Whether windows of different artifacts alternate.
        """
        samples = self.stop()
        why_not = self.why_not
        if self._source is not None and not self._counted:
            idle = integrate(samples, *self._idle)
            self._idle_w = None if idle is None else idle * 1e9 / (self._idle[1] - self._idle[0])
            if self._source.kind == "battery" and several:
                why_not = _too_slow(samples, windows)
            for window in windows:
                joules = integrate(samples, window["begin_ns"], window["end_ns"])
                window["energy_j"] = None if why_not else joules
        source = self._source
        return {
            "source": source and source.kind,
            "scope": source and source.scope,
            "rails": source.rails if source else [],
            "method": source and source.method,
            "idle_w": self._idle_w,
            "idle_s": IDLE_S if source else None,
            "why_not": why_not or None,
        }


def _too_slow(samples: Samples, windows: List[Dict[str, Any]]) -> str:
    """Return why a fuel gauge cannot tell alternating windows apart, empty when it can."""
    changes = [later[0] for earlier, later in zip(samples, samples[1:]) if later[1] != earlier[1]]
    gaps = sorted(later - earlier for earlier, later in zip(changes, changes[1:]))
    window_ns = min(item["end_ns"] - item["begin_ns"] for item in windows)
    if gaps and gaps[len(gaps) // 2] <= window_ns:
        return ""
    return "the battery's gauge changes more slowly than the artifacts take turns"
