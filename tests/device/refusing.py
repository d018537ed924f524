"""Connections that must not come about."""

import pytest

from edgedeploy.devices.connect import connect
from edgedeploy.devices.inventory import Device
from edgedeploy.errors import DeviceError, ExitCode


def refused(device: Device, code: str, **options: object) -> DeviceError:
    """Return the error with which a connection is refused; it must have this code."""
    with pytest.raises(DeviceError) as caught:
        connect(device, **options).close()  # type: ignore[arg-type]
    assert [item.code for item in caught.value.diagnostics] == [code], caught.value
    assert caught.value.exit_code is ExitCode.DEVICE
    return caught.value
