"""The box in which conformance tests run, once for each kind of program."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.devices.depots import KINDS, Box


@pytest.fixture(params=KINDS)
def box(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Box]:
    made = Box(tmp_path / "depot", KINDS[request.param])
    yield made
    made.close()
