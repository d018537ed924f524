# Syntax and library held to Python 3.6.
# ruff: noqa: UP006, UP035, UP045, PTH118, PTH119, PTH207
"""What ``loop.py`` reads of the operating system: clock, heat, load, memory, page cache.

Travels to devices beside ``loop.py`` and, like it, needs the standard library alone.
"""

import contextlib
import functools
import glob
import os
import re
import resource
import shutil
import signal
import subprocess
import time
from typing import Any, Callable, Dict, List, Optional, Tuple

COLD_RESIDENT_RATIO = 0.02
_FIRMWARE_S = 2.0
_CAPPED = 0x2  # as Raspberry Pi's firmware numbers it
POWER_MODE = "/var/lib/nvpmodel/status"
# GPUs of Jetsons as devfreq names them: 17000000.gpu, .ga10b, .gv11b (Orin and Xavier by release),
# gpu-gpc-0 (Thor).
_JETSON_GPU = re.compile(r"(?:^|\.)gpu$|^gpu-gpc|\.g[a-z][0-9]{2}b$")


def _clock() -> Tuple[str, Callable[[], int]]:
    """Return the name of the steadiest clock here and a function that reads it in ns."""
    for name in ("CLOCK_MONOTONIC_RAW", "CLOCK_MONOTONIC"):
        number = getattr(time, name, None)
        if number is None:
            continue
        if hasattr(time, "clock_gettime_ns"):
            return name, functools.partial(time.clock_gettime_ns, number)
        return name, lambda clock=number: int(time.clock_gettime(clock) * 1e9)
    return "monotonic", lambda: int(time.monotonic() * 1e9)


CLOCK_NAME, now_ns = _clock()


def read_text(path: str) -> Optional[str]:
    """Return what a file of sysfs or procfs says, None when it cannot be read."""
    try:
        with open(path) as file:
            return file.read().strip("\0\n ")
    except (OSError, UnicodeDecodeError):
        return None


def read_int(path: str) -> Optional[int]:
    """Return the number in a file of sysfs, None when there is none."""
    try:
        return int(read_text(path) or "", 0)
    except ValueError:
        return None


class Environment:
    """Clock, heat and load evidence, read from sysfs and procfs (empty where they lack it)."""

    def __init__(
        self, sysfs: str, procfs: str, power_mode: str = POWER_MODE, card: Any = None
    ) -> None:
        self.procfs = procfs
        self._power_mode = power_mode
        self._card = card  # of nvml.py
        devices = sorted(glob.glob(os.path.join(sysfs, "class/devfreq/*")))
        self._gpus = [path for path in devices if _JETSON_GPU.search(os.path.basename(path))]
        cpu = os.path.join(sysfs, "devices/system/cpu")
        self._cpufreq = sorted(glob.glob(os.path.join(cpu, "cpu[0-9]*/cpufreq")))
        self._counters = sorted(glob.glob(os.path.join(cpu, "cpu[0-9]*/thermal_throttle/*_count")))
        # Jetson Linux: times that too little voltage or too much current slowed the module down.
        over = os.path.join(sysfs, "class/hwmon/hwmon[0-9]*/oc[0-9]*_event_cnt")
        self._counters += sorted(glob.glob(over))
        self._zones = sorted(glob.glob(os.path.join(sysfs, "class/thermal/thermal_zone[0-9]*")))
        self._cooling = sorted(glob.glob(os.path.join(sysfs, "class/thermal/cooling_device[0-9]*")))
        firmware = "devices/platform/soc*/*firmware*/get_throttled"
        self._firmware = sorted(glob.glob(os.path.join(sysfs, firmware)))
        # Raspberry Pi kernels without that file tell it through their mailbox tool.
        self._vcgencmd = None if self._firmware else shutil.which("vcgencmd")
        self._pmset = shutil.which("pmset")  # macOS

    def facts(self) -> Dict[str, Any]:
        """Return what does not change during the run; frequencies in kHz.

        ``min_khz`` equal to ``max_khz`` means locked clocks (``jetson_clocks``), of CPUs and of
        ``gpus``, which are a Jetson's by devfreq and a card's by NVML; ``power_mode`` is
        what NVIDIA's nvpmodel keeps in its status file, or that a Mac saves power; None elsewhere.
        """
        return {
            "cpus": os.cpu_count(),
            "affinity": _affinity(),
            "ticks_hz": os.sysconf("SC_CLK_TCK"),
            "governor": [read_text(path + "/scaling_governor") for path in self._cpufreq],
            "min_khz": [read_int(path + "/scaling_min_freq") for path in self._cpufreq],
            "max_khz": [read_int(path + "/scaling_max_freq") for path in self._cpufreq],
            "zones": [read_text(path + "/type") for path in self._zones],
            "cooling": [read_text(path + "/type") for path in self._cooling],
            "power_mode": read_text(self._power_mode) or _mac_power_mode(self._pmset),
            "gpus": [_gpu_facts(path) for path in self._gpus]
            + [_card_facts(card) for card in [self._card] if card],
        }

    def sample(self) -> Dict[str, Any]:
        """Return one reading: kHz, milli-degrees Celsius, cooling states, CPU ticks, counters."""
        loadavg = (read_text(os.path.join(self.procfs, "loadavg")) or "").split()
        ticks = (read_text(os.path.join(self.procfs, "stat")) or "").split("\n")[0].split()[1:9]
        own = os.times()
        return {
            "t_ns": now_ns(),
            "khz": [read_int(path + "/scaling_cur_freq") for path in self._cpufreq],
            "millicelsius": [read_int(path + "/temp") for path in self._zones],
            "cooling": [read_int(path + "/cur_state") for path in self._cooling],
            "throttle_counts": [read_int(path) for path in self._counters],
            "firmware_throttled": self._throttled(),
            "load1": float(loadavg[0]) if loadavg else self._pmset and os.getloadavg()[0],
            # user nice system idle iowait irq softirq steal, summed over all CPUs
            "ticks": [int(item) for item in ticks] if len(ticks) == 8 else None,
            "own_cpu_s": own[0] + own[1] + own[2] + own[3],
            "gpu_khz": [_in_khz(path + "/cur_freq") for path in self._gpus]
            + [card.khz() for card in [self._card] if card],
            "gpu_reasons": self._card.reasons() if self._card else [],
        }

    def _throttled(self) -> List[int]:
        """Return the firmware's flags, from its file in sysfs, vcgencmd or macOS's pmset."""
        if self._pmset:
            return _mac_limits(self._pmset)
        texts = [read_text(path) or "" for path in self._firmware]
        if self._vcgencmd:
            try:
                said = subprocess.check_output(
                    [self._vcgencmd, "get_throttled"],
                    stderr=subprocess.DEVNULL,
                    timeout=_FIRMWARE_S,
                )
                texts = [said.decode("utf-8", "replace").strip().split("=")[-1]]
            except (OSError, subprocess.SubprocessError):
                self._vcgencmd = None
        found = []
        for text in texts:
            try:
                found.append(int(text, 16))
            except ValueError:
                found.append(0)
        return found


def _gpu_facts(path: str) -> Dict[str, Any]:
    """Return what does not change of a Jetson's GPU; nvpmodel caps its highest clock."""
    return {
        "name": os.path.basename(path),
        "governor": read_text(path + "/governor"),
        "min_khz": _in_khz(path + "/min_freq"),
        "max_khz": _in_khz(path + "/max_freq"),
    }


def _card_facts(card: Any) -> Dict[str, Any]:
    about = {"name": card.name, "governor": None, "min_khz": None}  # type: Dict[str, Any]
    return dict(about, max_khz=card.max_khz())


def _in_khz(path: str) -> Optional[int]:
    """Return a frequency that devfreq gives in Hz."""
    found = read_int(path)
    return None if found is None else found // 1000


def _said(command: List[str]) -> str:
    """Return what a program prints, nothing when it fails."""
    try:
        said = subprocess.check_output(command, stderr=subprocess.DEVNULL, timeout=_FIRMWARE_S)
    except (OSError, subprocess.SubprocessError):
        return ""
    return said.decode("utf-8", "replace")


def _mac_power_mode(pmset: Optional[str]) -> Optional[str]:
    """Return that a Mac is in its low power mode or runs on its battery, None otherwise."""
    if pmset is None:
        return None
    found = re.findall(r"^\s*(lowpowermode)\s+1$", _said([pmset, "-g"]), re.M)
    found += re.findall(r"drawing from '(Battery Power)'", _said([pmset, "-g", "batt"]))
    return ", ".join(found) or None


def _mac_limits(pmset: str) -> List[int]:
    """Return one flag, "frequency capped", set when macOS holds the CPUs back for heat.

    ``pmset -g therm`` prints limits in per cent where a system has them (manual of pmset); Apple
    silicon says that none was recorded.
    """
    limits = re.findall(r"CPU_(?:Speed|Scheduler)_Limit\s*= (\d+)", _said([pmset, "-g", "therm"]))
    return [_CAPPED if any(int(limit) < 100 for limit in limits) else 0]


def _affinity() -> Optional[List[int]]:
    """Return the CPUs that this process may run on, None where that cannot be known."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    return sorted(os.sched_getaffinity(0))


def drop_page_cache(files: List[str]) -> Optional[str]:
    """Drop the files from the page cache; return None when that worked, else why it did not."""
    if not hasattr(os, "posix_fadvise"):
        return "this system has no posix_fadvise"
    for path in files:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)  # dirty pages are not dropped
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            resident = _resident_ratio(handle)
        except OSError as error:
            return str(error)
        finally:
            os.close(handle)
        if resident is None:
            return "mincore is not available to check it"
        if resident > COLD_RESIDENT_RATIO:
            return "%.0f %% of the file stayed in the page cache" % (100 * resident)
    return None


def _resident_ratio(handle: int) -> Optional[float]:
    """Return which part of a file's pages lies in the page cache, None when not to be known."""
    import ctypes

    size = os.fstat(handle).st_size
    if size == 0:
        return 0.0
    pages = -(-size // resource.getpagesize())
    vector = (ctypes.c_ubyte * pages)()
    word, pointer = ctypes.c_size_t, ctypes.c_void_p
    try:
        libc = ctypes.CDLL(None)
        libc.mmap.restype = pointer
        read_only, shared = ctypes.c_int(1), ctypes.c_int(1)
        address = libc.mmap(None, word(size), read_only, shared, ctypes.c_int(handle), word(0))
        if address == pointer(-1).value:
            return None
        failed = libc.mincore(pointer(address), word(size), vector)
        libc.munmap(pointer(address), word(size))
    except (OSError, AttributeError):
        return None
    return None if failed else sum(item & 1 for item in vector) / float(pages)


def memory_bytes(procfs: str, field: str) -> Optional[int]:
    """Return a field of this process's status such as ``VmRSS``, None where there is none."""
    for line in (read_text(os.path.join(procfs, "self/status")) or "").split("\n"):
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    return None


def reset_peak(procfs: str) -> bool:
    """Start the count of ``VmHWM`` anew; return whether that worked."""
    try:
        with open(os.path.join(procfs, "self/clear_refs"), "w") as file:
            file.write("5")
        return True
    except OSError:
        return False


def end_with_input() -> int:
    """See to it that this process and its children end when standard input does.

    Whoever started the run over a connection closes it to end the run; a runtime that hangs could
    not notice by itself. A process of its own watches, since a thread could be kept from running.

    Returns:
        The watcher's process id; the caller kills it when the run is over.
    """
    with contextlib.suppress(OSError):  # that leads a group already
        os.setsid()
    group = os.getpgrp()
    watcher = os.fork()
    if watcher:
        return watcher
    try:
        nowhere = os.open(os.devnull, os.O_RDWR)
        for handle in (1, 2):  # held open, they would keep the reader waiting
            os.dup2(nowhere, handle)
        while os.read(0, 4096):
            pass
        os.killpg(group, signal.SIGKILL)
    finally:
        os._exit(1)
