"""What applying a delta holds in memory grows neither with the model nor with a tensor."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from bundles import a_bundle, a_key

from edgedeploy.release import apply_file
from edgedeploy.release.delta import write_delta
from edgedeploy.release.packing import Codecs
from edgedeploy.release.streams import Streams

MIB = 1 << 20
# The peak of the new program's own memory; ru_maxrss would begin with that of its parent.
PROGRAM = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as error:
    status = error.code
print([line for line in open("/proc/self/status") if line.startswith("VmHWM")][0].split()[1])
sys.exit(status)
"""


def peak_bytes(delta: Path, old: Path, goal: Path) -> int:
    """Return the most memory that the program for devices had."""
    command = [sys.executable, "-c", PROGRAM, str(apply_file.__file__), str(delta)]
    done = subprocess.run(
        [*command, "--to", str(old), "-o", str(goal)], capture_output=True, text=True, check=True
    )
    return int(done.stdout.split()[-1]) * 1024


def endless(streams: Streams) -> Streams:
    """Stand for a whole that is larger than any delta."""
    streams.size = 1 << 60
    return streams


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
@pytest.mark.parametrize("codecs", ["zstd", "lzma"])
def test_memory_does_not_grow_with_the_largest_tensor(
    codecs: Codecs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One tensor of 4 MiB and one of 20 MiB, changed throughout; a file without tensors beside."""
    key = a_key(tmp_path)
    tile = np.random.default_rng(1).integers(0, 256, MIB, np.uint8)
    # These bundles repeat themselves and would go as a whole, which takes a minute to find out.
    monkeypatch.setattr(Streams, "write_whole", endless)
    peaks = {}
    for size in (4, 20):
        paths = []
        for version, part, text in (("1", tile, b"old"), ("2", tile + np.uint8(1), b"new")):
            tensor = np.tile(part, size).tobytes()
            content = text + tensor + text
            files = {"model": content, "plan": text * MIB}
            cuts = {"model": [(3, len(tensor))]}
            paths.append(a_bundle(tmp_path, f"{version}.{size}", files, key, cuts=cuts))
        delta = write_delta(*paths, tmp_path, codecs)
        with open(delta.path, "rb") as file:
            blocks = apply_file.read_plan(file)["blocks"]
        # It is the way of changed tensors that is measured, not that of whole files.
        assert sum(block["kind"] == "i1" for block in blocks) == size // 2
        peaks[size] = peak_bytes(delta.path, paths[0], tmp_path / "made")
        assert (tmp_path / "made").read_bytes() == paths[1].read_bytes()
    assert peaks[20] - peaks[4] < 4 * MIB, peaks
