"""Which board and system on chip a device is, from its device tree, SMBIOS or properties."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

# Vendor prefix of device tree `compatible` strings -> name. Source: the Linux kernel,
# Documentation/devicetree/bindings/vendor-prefixes.yaml.
VENDORS: Mapping[str, str] = {
    "allwinner": "Allwinner",
    "amlogic": "Amlogic",
    "apple": "Apple",
    "brcm": "Broadcom",
    "fsl": "NXP",
    "hailo": "Hailo",
    "mediatek": "MediaTek",
    "nvidia": "NVIDIA",
    "nxp": "NXP",
    "qcom": "Qualcomm",
    "renesas": "Renesas",
    "rockchip": "Rockchip",
    "samsung": "Samsung",
    "sophgo": "Sophgo",
    "starfive": "StarFive",
    "st": "STMicroelectronics",
    "ti": "Texas Instruments",
    "xlnx": "AMD",
}

# Names that the device tree does not use. Source: NVIDIA, Jetson Orin and Xavier technical
# reference manuals; Linux, Documentation/devicetree/bindings/arm/tegra.yaml.
_SOCS: Mapping[str, str] = {"tegra234": "Orin (T234)", "tegra194": "Xavier (T194)"}


class Board(NamedTuple):
    """What names the hardware; see :class:`~edgedeploy.devices.facts.types.DeviceFacts`."""

    board: str | None
    soc: str | None
    soc_vendor: str | None
    vendor_release: str | None


def board_facts(sections: Mapping[str, str]) -> Board:
    """Return what a transcript says of the board."""
    properties = dict(
        line.split("=", 1) for line in sections.get("getprop", "").splitlines() if "=" in line
    )
    if properties.get("ro.build.version.release"):
        return _android(properties)
    if sections.get("uname", "").startswith("Darwin"):
        return _mac(sections)
    soc, vendor = _soc(sections.get("compatible", ""))
    release = l4t_release(sections.get("l4t", ""))
    return Board(
        board=_line(sections, "model") or _dmi_name(sections),
        soc=soc,
        soc_vendor=vendor,
        vendor_release=release and f"L4T {release}",
    )


def _android(properties: Mapping[str, str]) -> Board:
    soc = properties.get("ro.soc.model") or properties.get("ro.board.platform")
    return Board(
        board=properties.get("ro.product.model") or None,
        soc=soc or None,
        soc_vendor=properties.get("ro.soc.manufacturer") or None,
        vendor_release=properties.get("ro.build.id") or None,
    )


def _mac(sections: Mapping[str, str]) -> Board:
    """Return what ``sysctl hw.model`` and ``machdep.cpu.brand_string`` name, such as ``Mac14,2``.

    Apple silicon names the whole chip there (``Apple M2``), Intel the processor.
    """
    text = sections.get("mac", "")
    model = re.search(r"^hw\.model: (\S+)$", text, re.M)
    build = re.search(r"^([0-9A-Z]+[a-z]?)$", text, re.M)
    chip = _line(sections, "sysctl")
    is_apple = chip is not None and chip.startswith("Apple ")
    return Board(
        board=model[1] if model else None,
        soc=chip if is_apple else None,
        soc_vendor="Apple" if is_apple else None,
        vendor_release=build[1] if build else None,
    )


def _soc(compatible: str) -> tuple[str | None, str | None]:
    """Return (SoC, vendor): the last entry of the root's ``compatible`` that names a known vendor.

    The list runs from the exact board to the chip (Devicetree Specification v0.4, 2.3.1).
    """
    for entry in reversed(compatible.split()):
        prefix, comma, name = entry.partition(",")
        if comma and prefix in VENDORS:
            shown = _SOCS.get(name, name.upper() if re.fullmatch(r"[a-z]+\d+\w*", name) else name)
            return shown, VENDORS[prefix]
    return None, None


def l4t_release(text: str) -> str | None:
    """Return the L4T release of a Jetson, such as ``R36.4.3`` (first line of nv_tegra_release)."""
    found = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", text)
    return f"R{found[1]}.{found[2]}" if found else None


def _line(sections: Mapping[str, str], name: str) -> str | None:
    lines = sections.get(name, "").split("\n")
    return lines[0].strip() or None


def _dmi_name(sections: Mapping[str, str]) -> str | None:
    words = [line.strip() for line in sections.get("dmi", "").splitlines() if line.strip()]
    return " ".join(words[:2]) or None
