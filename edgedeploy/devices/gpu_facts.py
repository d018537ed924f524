"""Which GPU and which TensorRT a device has: one shell command, nothing is written there.

``gpu_transcript.py`` holds the commands, ``gpu_parse.py`` reads what they print, ``gpu_survey.py``
says what comes out.
"""

from __future__ import annotations

from edgedeploy.devices.facts.transcript import record
from edgedeploy.devices.gpu_parse import survey_of
from edgedeploy.devices.gpu_survey import GpuSurvey, Way
from edgedeploy.devices.gpu_transcript import TIMEOUT_S, commands
from edgedeploy.remote import Remote

__all__ = ["GpuSurvey", "Way", "probe_gpu"]


def probe_gpu(remote: Remote, python: str | None = None) -> GpuSurvey:
    """Return what a device builds and loads engines with.

    Args:
        remote: The device; it needs a POSIX shell and nothing else.
        python: The interpreter to ask for TensorRT; None finds one that has it.

    Raises:
        DeviceError: The connection fails (E403-E406), or what the device prints is no transcript
            (E450).
    """
    sections = record(remote, commands=commands(python), timeout_s=TIMEOUT_S)
    return survey_of(remote.name, sections)
