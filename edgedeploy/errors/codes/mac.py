"""Codes of Core ML on Macs that are reached over SSH (E490-E499)."""

from __future__ import annotations

from edgedeploy.errors.codes import Explanation

CODES: dict[str, Explanation] = {
    "E490": Explanation(
        "A device that runs iOS",
        "Devices are reached over SSH, and an iPhone or iPad lets nobody in that way. Take the "
        "`.mlpackage` out of the build's folder into Xcode. To see how Core ML runs the model, "
        "build it for a macOS board as well and measure on a Mac: `edgedeploy bench -d`.",
    ),
    "E491": Explanation(
        "A Mac whose system is older than its board",
        "A board such as `macos14` stands for that version of macOS and later ones; an older Core "
        "ML does not load the package. Name the board that the Mac is in devices.yaml and build "
        "for it, or update the Mac.",
    ),
}
