"""Mutations of a bundle by the thousand: not one is taken, nothing is written."""

import os
from pathlib import Path

import pytest

from tests.unit.release.test_release_mutations import run

COUNT = int(os.environ.get("SOAK_MUTATIONS", "1000"))


@pytest.mark.parametrize("seed", range(3))
def test_thousands_of_mutations(tmp_path: Path, seed: int) -> None:
    """Three seeds; SOAK_MUTATIONS says how many each."""
    codes = run(tmp_path / "box", seed=100 + seed, count=COUNT)
    print(f"seed {100 + seed}: {codes.total()} mutations refused, {dict(codes.most_common())}")
    assert codes.total() == COUNT
