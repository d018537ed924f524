"""Two devices of the lab, for the tests that push to both at once."""

import shutil
from collections.abc import Iterator

import pytest

from tests.device.labapp import RATE_BITS_S, Pair
from tests.lab import capabilities
from tests.lab.lab import Lab


@pytest.fixture(scope="module")
def pair(lab: Lab) -> Pair:
    """A device with Python and one without."""
    capabilities.require("cut", "rate")
    return lab.device("amd64-python"), lab.device("amd64-minimal")


@pytest.fixture
def devices(pair: Pair) -> Iterator[Pair]:
    """Both without a depot, behind links of a known rate."""
    for device in pair:
        device.set_rate(RATE_BITS_S)
    yield pair
    for device in pair:
        device.restore_link()
        device.set_rate(None)
        device.empty_disk()
        shutil.rmtree(device.home / ".edgedeploy", ignore_errors=True)
