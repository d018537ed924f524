"""Evidence of clock, heat and load on a device without Python, as ``environment.py`` gives it.

A shell lists what the device has and what of it does not change; the native runner reads the rest
before and after the windows and sends it back as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from shlex import quote
from typing import Any

from edgedeploy.bench.environment import POWER_MODE
from edgedeploy.remote import Remote, printable

_LISTING_BYTES = 1 << 20
_MOST = 1024
_PATH = re.compile(r"/[A-Za-z0-9_./:@,+-]{1,250}")

# Kind -> where such folders lie in sysfs, and the files in them that do not change.
_FOLDERS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "cpufreq": (
        "devices/system/cpu/cpu[0-9]*/cpufreq",
        ("scaling_governor", "scaling_min_freq", "scaling_max_freq"),
    ),
    "zone": ("class/thermal/thermal_zone[0-9]*", ("type",)),
    "cooling": ("class/thermal/cooling_device[0-9]*", ("type",)),
    "counter": (
        "devices/system/cpu/cpu[0-9]*/thermal_throttle/*_count "
        "class/hwmon/hwmon[0-9]*/oc[0-9]*_event_cnt",
        (),
    ),
    "firmware": ("devices/platform/soc*/*firmware*/get_throttled", ()),
}
_CHANGING = {"cpufreq": "/scaling_cur_freq", "zone": "/temp", "cooling": "/cur_state"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What can be read on a device.

    Attributes:
        watched: ``(kind, path)`` of each file that the runner reads, in its order.
        facts: What does not change, as :meth:`.environment.Environment.facts` returns it, without
            what the runner tells of itself.
    """

    watched: tuple[tuple[str, str], ...]
    facts: Mapping[str, Any]

    def sample(self, time_ns: int, cpu_us: int, read: Mapping[int, str]) -> dict[str, Any]:
        """Return one reading as :meth:`.environment.Environment.sample` does.

        Args:
            time_ns: When it was taken.
            cpu_us: CPU time of the runner until then.
            read: Content by place in ``watched``; what could not be read is missing.
        """
        found: dict[str, list[str | None]] = {kind: [] for kind in (*_FOLDERS, "load", "stat")}
        for place, (kind, _) in enumerate(self.watched):
            found[kind].append(read.get(place))
        load = (found["load"][0] or "").split()
        ticks = (found["stat"][0] or "").split("\n")[0].split()[1:9]
        return {
            "t_ns": time_ns,
            "khz": [_number(text) for text in found["cpufreq"]],
            "millicelsius": [_number(text) for text in found["zone"]],
            "cooling": [_number(text) for text in found["cooling"]],
            "throttle_counts": [_number(text) for text in found["counter"]],
            "firmware_throttled": [_number(text, 16) or 0 for text in found["firmware"]],
            "load1": float(load[0]) if load and re.fullmatch(r"\d+\.\d+", load[0]) else None,
            "ticks": [int(item) for item in ticks]
            if len(ticks) == 8 and all(item.isdecimal() for item in ticks)
            else None,
            "own_cpu_s": cpu_us / 1e6,
            "gpu_khz": [],
            "gpu_reasons": [],
        }


def look_for_evidence(remote: Remote, sysfs: str, procfs: str) -> Evidence:
    """Ask a device which clocks, zones, coolers and counters it has.

    Raises:
        DeviceError: The connection fails.
    """
    lines = [f"cd {quote(sysfs)} && {{"]
    for kind, (pattern, names) in _FOLDERS.items():
        reads = "".join(
            f' v=; [ -r "$f/{name}" ] && read -r v < "$f/{name}"; printf " %s" "${{v:-?}}";'
            for name in names
        )
        lines.append(
            f'for f in {pattern}; do [ -e "$f" ] || continue; '
            f'printf "edgedeploy-{kind} %s" "$f";{reads} echo; done'
        )
    lines.append("}; v=")
    lines.append(f'[ -r {POWER_MODE} ] && read -r v < {POWER_MODE}; echo "edgedeploy-mode $v"')
    answer = remote.run("\n".join(lines), limit_bytes=_LISTING_BYTES)
    found: dict[str, dict[str, list[str]]] = {kind: {} for kind in _FOLDERS}
    mode = None
    for line in printable(answer.stdout).splitlines():
        key, _, rest = line.partition(" ")
        kind = key.removeprefix("edgedeploy-") if key.startswith("edgedeploy-") else ""
        path, *values = rest.split(" ")
        if kind == "mode":
            mode = rest.strip() or None
            continue
        if kind not in found or len(found[kind]) == _MOST or not _PATH.fullmatch(f"/{path}"):
            continue
        single = len(_FOLDERS[kind][1]) == 1  # a zone's name may hold spaces
        found[kind][path] = [" ".join(values)] if single else values
    return _evidence(found, mode, sysfs, procfs)


def _evidence(
    found: Mapping[str, Mapping[str, list[str]]], mode: str | None, sysfs: str, procfs: str
) -> Evidence:
    watched = [
        (kind, f"{sysfs}/{path}{_CHANGING.get(kind, '')}")
        for kind in _FOLDERS
        for path in sorted(found[kind])
    ]
    watched += [("load", f"{procfs}/loadavg"), ("stat", f"{procfs}/stat")]

    def texts(kind: str, place: int) -> list[str | None]:
        values = (found[kind][path] for path in sorted(found[kind]))
        return [
            item[place] if len(item) > place and item[place] != "?" else None for item in values
        ]

    return Evidence(
        watched=tuple(watched),
        facts={
            "governor": texts("cpufreq", 0),
            "min_khz": [_number(text) for text in texts("cpufreq", 1)],
            "max_khz": [_number(text) for text in texts("cpufreq", 2)],
            "zones": texts("zone", 0),
            "cooling": texts("cooling", 0),
            "power_mode": mode,
            "gpus": [],
        },
    )


def _number(text: str | None, base: int = 0) -> int | None:
    try:
        return int((text or "").strip()[:64], base)
    except ValueError:
        return None
