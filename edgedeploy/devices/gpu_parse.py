"""From the transcript of a probe for GPUs and TensorRT to a survey: pure functions of text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

from edgedeploy.devices.facts.board import l4t_release
from edgedeploy.devices.facts.parse import arch_of
from edgedeploy.devices.gpu_survey import GpuSurvey, Way
from edgedeploy.gpu import is_capability, same_version

Sections = Mapping[str, str]

STAND_IN = "edgedeploy stand-in"
"""What the banner of a ``trtexec`` holds that only stands in for it."""

_VERSION = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,5}){2,3}")
_HEADER = re.compile(
    r"^#define (?:NV_TENSORRT|TRT)_(MAJOR|MINOR|PATCH|BUILD)(?:_ENTERPRISE)? ([0-9]{1,5})\b", re.M
)
_PATH = re.compile(r"/[^\0\n]{1,300}")
_NAME_LETTERS = 60

# Name and compute capability of the GPU in each Jetson's chip, by the last entry of the device
# tree's `compatible`. Source: Linux, Documentation/devicetree/bindings/arm/tegra.yaml; NVIDIA,
# "CUDA GPU Compute Capability" (Jetson): Nano 5.3, TX2 6.2, Xavier 7.2, Orin 8.7, Thor 11.0.
_CHIPS: Mapping[str, tuple[str, str]] = {
    "nvidia,tegra210": ("Tegra X1", "5.3"),
    "nvidia,tegra186": ("Tegra X2", "6.2"),
    "nvidia,tegra194": ("Xavier", "7.2"),
    "nvidia,tegra234": ("Orin", "8.7"),
    "nvidia,tegra264": ("Thor", "11.0"),
}

# Modules have the same chip and GPUs of different size, for which TensorRT chooses other kernels.
# Source: NVIDIA, Jetson Linux Developer Guide R36.4, "Quick Start", Jetson Modules and
# Configurations.
_MODULES: Mapping[str, str] = {
    "p3701-0000": "AGX Orin",
    "p3701-0004": "AGX Orin 32GB",
    "p3701-0005": "AGX Orin 64GB",
    "p3701-0008": "AGX Orin Industrial",
    "p3767-0000": "Orin NX 16GB",
    "p3767-0001": "Orin NX 8GB",
    "p3767-0003": "Orin Nano 8GB",
    "p3767-0004": "Orin Nano 4GB",
    "p3767-0005": "Orin Nano 8GB",
}
_MODULE = re.compile(r"(p[0-9]{4}-[0-9]{4})(?:-super)?$")

_GPU_CLOCK = re.compile(
    r"^(?:[0-9a-f]+\.(?:gpu|ga10b|gv11b|gp10b|gm20b)|gpu-gpc-0) ([0-9]{1,12}) ([0-9]{1,12})$", re.M
)
_JETSON_CLOCKS = re.compile(r"^GPU MinFreq=([0-9]{1,12}) MaxFreq=([0-9]{1,12})", re.M)


class _Card(NamedTuple):
    number: str
    uuid: str
    name: str
    driver: str | None
    capability: str


class _Gpu(NamedTuple):
    name: str = ""
    capability: str = ""
    driver: str | None = None
    unclear: str = ""


def survey_of(device: str, sections: Sections) -> GpuSurvey:
    """Return the survey that a transcript holds.

    Args:
        device: Its name in the inventory.
        sections: From :func:`edgedeploy.devices.facts.transcript.record`, of
            :func:`edgedeploy.devices.gpu_transcript.commands`.
    """
    names = [*sections["uname"].split(), "", "", ""]
    cards = tuple(_cards(sections.get("nvidia-smi", "")))
    gpu = _gpu(sections, cards)
    installed = _installed(sections)
    python, python_trouble = _module("tensorrt", sections.get("python-trt", ""))
    rtx, rtx_trouble = _module("tensorrt_rtx", sections.get("python-rtx", ""))
    found = [*([python] if python else []), *_programs(sections.get("trtexec", ""))]
    ways = tuple(sorted(found, key=lambda way: not _agrees(way, installed)))
    return GpuSurvey(
        device=device,
        system=names[0].lower(),
        arch=arch_of(names[2], sections.get("bits", "").strip()),
        gpu=gpu.name,
        compute_capability=gpu.capability,
        gpus=tuple(card.name for card in cards) or ((gpu.name,) if gpu.name else ()),
        unclear=gpu.unclear,
        driver=gpu.driver,
        cuda=_cuda(sections),
        jetpack=l4t_release(sections.get("l4t", "")),
        ways=ways,
        installed=installed,
        rtx=rtx.version if rtx else _rtx_library(sections.get("rtx-library", "")),
        rtx_simulated=rtx is not None and rtx.simulated,
        power_mode=_power_mode(sections.get("nvpmodel", "")),
        clocks=_clocks(sections),
        trouble=(*python_trouble, *rtx_trouble),
        conflicts=tuple(_conflicts(ways, installed)),
    )


# -- the GPU --------------------------------------------------------------------------------------


def _gpu(sections: Sections, cards: tuple[_Card, ...]) -> _Gpu:
    """Return the GPU that is used: of a Jetson its chip's, else the first that CUDA sees."""
    entries = [entry.strip() for entry in sections.get("compatible", "").split()]
    for chip, (name, capability) in _CHIPS.items():
        if chip in entries:
            # `nvidia-smi` calls all of them `Orin (nvgpu)`; older releases have none.
            driver = cards[0].driver if cards else None
            return _Gpu(_module_name(entries, name), capability, driver)
    if not cards:
        return _Gpu()
    kinds = {(card.name, card.capability) for card in cards}
    card = cards[0] if len(kinds) == 1 else _visible(sections.get("visible", ""), cards)
    if card is None:
        names = ", ".join(dict.fromkeys(card.name for card in cards))
        return _Gpu(
            unclear=f"there are GPUs of several kinds ({names}), and CUDA may take any: set "
            "CUDA_DEVICE_ORDER=PCI_BUS_ID and CUDA_VISIBLE_DEVICES where its user logs in"
        )
    if not card.capability:
        return _Gpu(
            name=card.name,
            driver=card.driver,
            unclear=f"`nvidia-smi` does not tell the compute capability of {card.name}: its driver "
            "is too old",
        )
    return _Gpu(card.name, card.capability, card.driver)


def _module_name(entries: list[str], chip: str) -> str:
    """Return the name of a Jetson's module; such as ``Orin p1234-0000`` when it is not known."""
    for entry in entries:
        # A carrier board's entry is `nvidia,<carrier>+<module>`.
        found = _MODULE.search(entry) if entry.startswith("nvidia,p") else None
        if found:
            return _MODULES.get(found[1], f"{chip} {found[1]}")
    return chip


def _cards(text: str) -> Iterator[_Card]:
    """Yield the rows of ``nvidia-smi``; a driver that does not know `compute_cap` prints none."""
    for line in text.splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) == 5 and re.fullmatch(r"[0-9]{1,3}", parts[0]) and parts[2]:
            driver = (
                parts[3] if re.fullmatch(r"[0-9]{2,4}(?:\.[0-9]{1,4}){1,2}", parts[3]) else None
            )
            capability = parts[4] if is_capability(parts[4]) else ""
            yield _Card(parts[0], parts[1], parts[2][:_NAME_LETTERS], driver, capability)


def _visible(text: str, cards: tuple[_Card, ...]) -> _Card | None:
    """Return the first card that CUDA is told to see, where the telling does not depend on CUDA.

    Source: NVIDIA, CUDA Programming Guide, "CUDA Environment Variables": numbers count in the order
    of ``nvidia-smi`` only under ``PCI_BUS_ID``; an identifier may be cut short.
    """
    said = dict(line.partition(" ")[::2] for line in text.splitlines())
    first = said.get("devices", "").split(",")[0].strip()
    if first.startswith("GPU-"):
        found = [card for card in cards if card.uuid.startswith(first)]
        return found[0] if len(found) == 1 else None
    if said.get("order", "").strip() == "PCI_BUS_ID":
        return next((card for card in cards if card.number == (first or "0")), None)
    return None


def _power_mode(text: str) -> str | None:
    found = re.search(r"NV Power Mode: *([A-Za-z0-9_ -]{1,40})$", text, re.M)
    return found[1].strip() if found else None


def _clocks(sections: Sections) -> Literal["locked", "free"] | None:
    """Return whether the least frequency of a Jetson's GPU is its highest."""
    for pattern, section in ((_GPU_CLOCK, "devfreq"), (_JETSON_CLOCKS, "jetson-clocks")):
        found = pattern.search(sections.get(section, ""))
        if found:
            return "locked" if int(found[1]) == int(found[2]) else "free"
    return None


def _cuda(sections: Sections) -> str | None:
    """Return the version of the toolkit: its own file, older ones' file, or the compiler's."""
    for pattern, section in (
        (r'"cuda" *: *\{[^}]*"version" *: *"([0-9.]{3,20})"', "cuda-json"),
        (r"^CUDA Version ([0-9.]{3,20})", "cuda-text"),
        (r"^Cuda compilation tools, release [0-9.]+, V([0-9.]{3,20})", "nvcc"),
    ):
        found = re.search(pattern, sections.get(section, ""), re.M)
        if found:
            return found[1]
    return None


# -- TensorRT -------------------------------------------------------------------------------------


def banner_version(text: str) -> str | None:
    """Return the version in a banner of ``trtexec``, such as ``[TensorRT v101602] [b10]``.

    Until 9 it is major * 1000 + minor * 100 + patch, from 10 on major * 10000 + minor * 100 +
    patch; later releases add the build. Source: NVIDIA/TensorRT, NvInferVersion.h and
    samples/common/logging.h of releases 8.6 and 10.x.
    """
    found = re.search(r"\[TensorRT v([0-9]{4,6})\](?: \[b([0-9]{1,4})\])?", text)
    if not found:
        return None
    number = int(found[1])
    major, rest = divmod(number, 1000 if number < 10000 else 10000)
    version = f"{major}.{rest // 100}.{rest % 100}"
    return f"{version}.{found[2]}" if found[2] else version


def _programs(text: str) -> Iterator[Way]:
    """Yield each ``trtexec`` that printed its banner."""
    for part in f"\n{text}".split("\npath ")[1:]:
        path, _, said = part.partition("\n")
        version = banner_version(said)
        if version and _PATH.fullmatch(path):
            yield Way(kind="trtexec", path=path, version=version, simulated=STAND_IN in said)


def _module(name: str, text: str) -> tuple[Way | None, list[str]]:
    """Return the Python that loads a module, and why others do not."""
    trouble = []
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        parts = rest.split(" ", 3)
        if word == "broken":
            said = " ".join(parts[1:])
            trouble.append(f"Python's {name} does not load: {said}")
        elif word == "loads" and len(parts) == 4 and _PATH.fullmatch(parts[3]):
            version = _VERSION.match(parts[1])  # a release before the first ends in letters
            if version:
                stands_in = parts[2] == "stand-in"
                way = Way(kind="python", path=parts[3], version=version[0], simulated=stands_in)
                return way, []
    return None, trouble[:1]


def _installed(sections: Sections) -> dict[str, str]:
    """Return the version of the library by who tells it."""
    found = {}
    package = re.search(r"^libnvinfer[0-9]{1,2} ([0-9.]+)-", sections.get("dpkg", ""), re.M)
    if package and _VERSION.fullmatch(package[1]):
        found["dpkg"] = package[1]
    numbers = dict(_HEADER.findall(sections.get("header", "")))
    if {"MAJOR", "MINOR", "PATCH"} <= numbers.keys():
        parts = [numbers[name] for name in ("MAJOR", "MINOR", "PATCH", "BUILD") if name in numbers]
        found["header"] = ".".join(parts)
    return found


def _rtx_library(text: str) -> str | None:
    found = re.search(r"libtensorrt_rtx\.so\.([0-9]+\.[0-9]+\.[0-9]+)", text)
    return found[1] if found else None


def _agrees(way: Way, installed: Mapping[str, str]) -> bool:
    return all(same_version(way.version, version) for version in installed.values())


def _conflicts(ways: tuple[Way, ...], installed: Mapping[str, str]) -> Iterator[str]:
    """Yield what does not agree with the way that is used."""
    if not ways:
        return
    used = ways[0]
    for way in ways[1:]:
        if way.simulated != used.simulated:
            stands_in, other = (way, used) if way.simulated else (used, way)
            yield f"{_named(stands_in)} stands in for TensorRT, {_named(other)} does not"
        elif not same_version(way.version, used.version):
            yield (
                f"{_named(way)} has TensorRT {way.version}, {_named(used)} {used.version}: the "
                "latter is used"
            )
    for teller, version in installed.items():
        if not same_version(used.version, version):
            yield f"{_named(used)} has TensorRT {used.version}, {teller} says {version}"


def _named(way: Way) -> str:
    return f"{way.kind} ({way.path})"
