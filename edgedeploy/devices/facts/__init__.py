"""What a device is: found by one shell script, read by parsers that are tested on transcripts.

``transcript.py`` holds the commands, ``parse.py`` and ``board.py`` read what they print,
``types.py`` says what comes out.
"""

from __future__ import annotations

from edgedeploy.devices.facts.parse import facts_of
from edgedeploy.devices.facts.transcript import record
from edgedeploy.devices.facts.types import DeviceFacts, Gpu
from edgedeploy.remote import Remote

__all__ = ["DeviceFacts", "Gpu", "probe"]


def probe(remote: Remote, root: str = "~", python: str | None = None) -> DeviceFacts:
    """Return the facts of a device; one command, nothing is written there.

    Args:
        remote: The device.
        root: Folder there whose file system counts as the disk.
        python: The interpreter to ask about; None takes ``python3``.

    Raises:
        DeviceError: The connection fails (E403-E406), or what the device prints is no transcript
            (E450).
    """
    return facts_of(record(remote, root, python))
