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
"""How the name of every network namespace and interface of the lab starts; it touches no others."""


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
    """Hold the lock file `path`, whose folder is made; waits for who holds it.

    The holder may remove the file and its folder: whoever waited then starts over with a new one.
    """
    held = False
    while not held:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            file = open(path, "w")  # noqa: SIM115 - closed below
            fcntl.flock(file, fcntl.LOCK_EX)
            held = os.path.samestat(os.fstat(file.fileno()), path.stat())
    with file:
        yield


@contextlib.contextmanager
def appearing(goal: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes `goal` when the block ends well, and goes when not.

    Call it under the goal's lock: what a run that was killed has left of it is removed first.
    """
    for left in goal.parent.glob(f"{goal.name}.part-*"):
        shutil.rmtree(left)
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
