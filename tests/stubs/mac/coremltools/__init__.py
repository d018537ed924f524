"""A stand-in for coremltools on a Mac, for tests on Linux.

Written from the documentation of coremltools 9.0 (https://apple.github.io/coremltools/source); it
was never held against a Mac. What the device program calls is here, as strict as documented; what
computes is this project's interpreter. Only the message classes (``coremltools.proto``) are the
real ones. ``EDGEDEPLOY_STAND_IN_LOG`` names a file that gets a line for each call that matters.
"""

import enum
import importlib.machinery
import os
import sys
from pathlib import Path

__version__ = "9.0"

_HERE = Path(__file__).parent
_others = [entry for entry in sys.path if Path(entry).resolve() != _HERE.parent.resolve()]
_real = importlib.machinery.PathFinder.find_spec("coremltools", _others)
if _real is not None and _real.submodule_search_locations is not None:
    __path__ = [str(_HERE), *_real.submodule_search_locations]


class ComputeUnit(enum.Enum):
    """Which units Core ML may use."""

    ALL = 1
    CPU_AND_GPU = 2
    CPU_ONLY = 3
    CPU_AND_NE = 4


def _log(line: str) -> None:
    if path := os.environ.get("EDGEDEPLOY_STAND_IN_LOG"):
        with open(path, "a") as file:
            file.write(line + "\n")


from coremltools import models  # noqa: E402

__all__ = ["ComputeUnit", "models"]
