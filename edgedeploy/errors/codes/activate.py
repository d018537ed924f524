"""Codes of activation, roll-back and fleets (E002, E003, E443-E449)."""

from __future__ import annotations

from edgedeploy.errors.codes import Explanation

CODES: dict[str, Explanation] = {
    "E002": Explanation(
        "A version was rolled back",
        "The version was active on trial and was not well: a hook said no or took too long, or the "
        "connection was lost. The version before is active again, and the restart hook was run "
        "once more for it. The refused version stays on the device, staged.",
    ),
    "E003": Explanation(
        "A version was not activated",
        "The staged version was run on the device before anything was switched, and it did not "
        "load, answered wrong or was too slow. What was active still is. The other findings say "
        "which model and by how much.",
    ),
    "E443": Explanation(
        "There is no such version on the device",
        "The version that shall become active was not pushed to this device, or was removed there, "
        "or more than one begins with the digits given; or nothing of the application was ever "
        "pushed to it. Push it, or give more digits; `edgedeploy devices fsck` lists what lies on "
        "a device.",
    ),
    "E444": Explanation(
        "The device answers something else",
        "The golden samples of a version are a few inputs with what the artifact answered on the "
        "machine that built it. On the device the same artifact gives other names, shapes or "
        "types, values that are not finite, or values farther off than another processor explains. "
        "Usual causes are a runtime of another version and an emulated or wrongly configured "
        "processor. docs/activating.md has the limits.",
    ),
    "E445": Explanation(
        "The connection was lost during a trial",
        "The version was active on trial when the device went away, and it did not come back soon "
        "enough to be asked. It reverts to the version before by itself, at the latest when it is "
        "next reached or started with the unit that docs/activating.md shows. Only the application "
        "must be restarted: it may have the version still loaded. Look with `edgedeploy "
        "fsck`, then run the same command again.",
    ),
    "E446": Explanation(
        "A version is too slow on the device",
        "A short measurement on the device gave a median latency over the profile's gate. It is a "
        "quick look at this one device, not a bench: measure with `edgedeploy bench -d`, and see "
        "whether the device is throttled or busy.",
    ),
    "E447": Explanation(
        "A device was not tried",
        "A canary, or too many devices of a batch before this one, did not succeed, so nothing was "
        "changed here. Mend what failed there; the same command then does only what is missing.",
    ),
    "E448": Explanation(
        "The application is not well",
        "A command or URL that the operator wrote into devices.yaml for this device said no, or "
        "said nothing in time. The message holds the end of what it printed. Run it on the device "
        "by hand, and see the application's own log.",
    ),
    "E449": Explanation(
        "A depot is damaged",
        "Files on the device do not match their digests, or links lead nowhere. `edgedeploy "
        "devices fsck --repair` takes away what is damaged and never what is active; a push of "
        "the same version then heals it.",
    ),
}
