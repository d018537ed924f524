"""Where the lab keeps things, and the locks under which it does."""

import contextlib
import fcntl
import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

RUN = Path("/run/edgedeploy-lab")
"""What exists while devices do: their disks, process ids, owners. Needs root."""

PREFIX = "edlab"
"""Every network namespace and interface that the lab makes starts with it, and it touches no other."""


class LabError(Exception):
    """The lab cannot do what it was asked to."""


def cache() -> Path:
    """Return the folder of what was downloaded and unpacked; `LAB_CACHE` moves it.

    It lies in the home that the account has, not in `HOME`, which tests change.
    """
    home = pwd.getpwuid(os.getuid()).pw_dir
    return Path(os.environ.get("LAB_CACHE") or Path(home, ".cache", "edgedeploy-lab"))


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path`, whose folder is made; waits for who holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def appearing(goal: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes `goal` when the block ends well, and goes when not."""
    part = goal.with_name(f"{goal.name}.part-{os.urandom(4).hex()}")
    part.mkdir(parents=True)
    try:
        yield part
        part.rename(goal)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def call(argv: Sequence[str | Path], *, stdin: str = "", timeout_s: float = 60) -> str:
    """Run a program of this machine and return what it printed.

    Raises:
        LabError: It is missing, fails or takes longer than `timeout_s`.
    """
    words = [str(word) for word in argv]
    try:
        done = subprocess.run(words, input=stdin, capture_output=True, text=True, timeout=timeout_s)
    except FileNotFoundError:
        raise LabError(f"{words[0]} is missing; `make lab-up` installs it on Debian") from None
    except subprocess.TimeoutExpired:
        raise LabError(f"`{' '.join(words)}` still ran after {timeout_s:g} s") from None
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip())[-600:]
        raise LabError(f"`{' '.join(words)}` failed with {done.returncode}: {said}")
    return done.stdout
