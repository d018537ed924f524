"""What a depot's refusals mean: the same codes, hints and kinds for both agents."""

from __future__ import annotations

from typing import NamedTuple

from edgedeploy.errors import DeviceError, EdgedeployError, IntegrityError


class _Meaning(NamedTuple):
    hint: str
    retryable: bool = False


_MEANINGS = {
    "E421": _Meaning("wait until the other run ends, or ask who holds the lock", True),
    "E422": _Meaning("run the same command again; nothing was changed without the lock", True),
    "E423": _Meaning("free space on the device, or put its depots on a larger disk with `root:`"),
    "E424": _Meaning(
        "look at the device's kernel log and mount options; a disk that fails must be replaced"
    ),
    "E425": _Meaning("push the version first"),
    "E426": _Meaning("activate the version again and confirm it before its trial ends"),
    "E427": _Meaning("push and activate the version that you want"),
    "E429": _Meaning(
        "name another folder with `root:` in devices.yaml, or move what is there away"
    ),
    "E430": _Meaning("log in as its owner, or take away the others' right to write it"),
    "E431": _Meaning("report this with what --debug shows; both sides are of the same version"),
    "E432": _Meaning("run the same command again: it asks the device what is there", True),
    "E433": _Meaning("run the same command again: it sends what is missing", True),
    "E434": _Meaning("build and push with paths that are plain, relative and unique"),
    "E741": _Meaning("make room on the device, and see whether its disk can be written"),
    "E754": _Meaning(
        "give the device the runner of this edgedeploy: `edgedeploy devices provision --upgrade`"
    ),
}
_CHECKED = {
    "E732": "get the release again from where it was published, and push it again",
    "E734": "use the edgedeploy that made the release, or ask its publisher",
    "E735": "push the release again; what is damaged is sent anew",
    "E736": "push a release of a publisher whom the device trusts, or enrol the key there: "
    "`edgedeploy keys enrol -d`",
    "E738": "push the newest release; to go back on purpose, give --allow-downgrade",
    "E739": "ask the publisher which of the two is right, and for one with a higher counter",
    "E740": "bring releases.json in the depot back; without it, it is not known what was active",
    "E743": "bring trust.json in the depot back, or remove it there by hand and enrol anew",
    "E746": "get a release that a key signed which is believed",
    "E755": "push a release (`edgedeploy push --release`), or give --allow-development",
    "E776": "name the depot of that application, or push the release of this one",
}
"""What a device says of a release; the codes are those of ``edgedeploy verify``."""

_NO_DIGEST = _Meaning("run the same command again; if it fails again, test the device's disk")


def refused(code: str, message: str) -> EdgedeployError | None:
    """Return the error of a refusal that a device told; None when devices tell no such code.

    Args:
        code: As the device told it; hostile.
        message: One sentence, printable.
    """
    if code in _CHECKED:
        return IntegrityError(message, code=code, hint=_CHECKED[code])
    if code == "E720":
        return IntegrityError(message, code=code, hint=_NO_DIGEST.hint)
    meaning = _MEANINGS.get(code)
    if meaning is None:
        return None
    error = DeviceError(message, code=code, hint=meaning.hint)
    error.retryable = meaning.retryable
    return error


def no_answer(what: str, *, retryable: bool = False) -> DeviceError:
    """Return the error of an answer that is none (E420)."""
    error = DeviceError(
        f"the device {what}",
        code="E420",
        hint="see what else prints or kills programs there; `devices fsck` checks the depot",
    )
    error.retryable = retryable
    return error
