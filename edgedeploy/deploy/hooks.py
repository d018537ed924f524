"""The operator's own commands on a device: restart what uses a version, ask whether it is well.

They stand in devices.yaml alone. Whatever such a command does, this side waits no longer than it
was told, reads no more than it must, and shows its words without what could steer a terminal.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from shlex import quote
from typing import Protocol

from edgedeploy.deploy.fleet import Interrupted, Link
from edgedeploy.errors import DeviceError
from edgedeploy.remote import LIMIT_BYTES, printable, too_much

SLICE_S = 0.2
"""How soon a wait notices that the run is being ended."""

POLL_S = 1.0
"""Between two questions whether the application is well."""

_TAIL_BYTES = 4096
_SHOWN = 300
_NO_CLIENT = 97

# Runs a command in a session of its own where there is `setsid`, without our input, and ends it
# (with what it started) when our input ends: nobody waits for it any more. Its end is a line of
# our own: a service that it leaves behind may keep the output open for ever.
_SCRIPT = """\
new= all=; if command -v setsid >/dev/null 2>&1; then new=setsid all=-; fi
exec 3<&0
$new sh -c {command} </dev/null 2>&1 3<&- & run=$!
{{ cat <&3; kill -TERM $all$run; sleep 1; kill -KILL $all$run; }} >/dev/null 2>&1 & end=$!
exec 3<&-
wait $run; status=$?
kill $end 2>/dev/null
printf '\\n{mark} %d\\n' $status
"""

# The first that is there decides. What the page says is of no interest, only that it is there.
_FETCH = """\
if command -v curl >/dev/null 2>&1; then exec curl -fsS -m {seconds} -o /dev/null --url {url}; fi
if command -v wget >/dev/null 2>&1; then exec wget -q -T {seconds} -O /dev/null {url}; fi
for python in {python} python3; do
if command -v $python >/dev/null 2>&1; then exec $python -c {code} {url} {seconds}; fi
done
exit {none}"""

_PYTHON = """\
import sys, urllib.request as r
try: r.urlopen(sys.argv[1], timeout=float(sys.argv[2])).close()
except Exception as e: sys.exit(str(e))"""


class Hooks(Protocol):
    """What devices.yaml says of the application on a device."""

    @property
    def restart(self) -> str | None:
        """Shell command that makes the application load the active version."""

    @property
    def health(self) -> str | None:
        """Shell command that ends with 0 when the application is well."""

    @property
    def health_url(self) -> str | None:
        """URL that answers 2xx, seen from the device, when the application is well."""

    @property
    def timeout_s(self) -> float:
        """How long a restart may take, and how long to wait for health, each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How an operator's command ended.

    Attributes:
        status: Exit status; None when it was ended because it took too long.
        seconds: How long it ran.
        said: The end of what it printed, safe to show.
    """

    status: int | None
    seconds: float
    said: str

    def __str__(self) -> str:
        how = "did not end" if self.status is None else f"ended with {self.status}"
        words = f": {self.said}" if self.said else ""
        return f"{how} after {self.seconds:.1f} s{words}"


def run_command(
    link: Link, command: str, timeout_s: float, *, until_interrupted: bool = True
) -> Ended:
    """Run a shell command of the operator's on a device.

    Args:
        link: The device.
        command: For ``sh``; from devices.yaml, never from a profile.
        timeout_s: After this it is ended.
        until_interrupted: Give up at once when the run is being ended.

    Raises:
        DeviceError: The connection is lost (E403), or it printed too much (E405).
        Interrupted: The run is being ended.
    """
    mark = os.urandom(12).hex()
    started = time.monotonic()
    deadline = started + timeout_s
    pipe = link.remote.open(_SCRIPT.format(command=quote(command), mark=mark))
    sign = re.compile(rb"\n%s ([0-9]{1,3})\n" % mark.encode())
    output, size, status = b"", 0, None
    try:
        while (left_s := deadline - time.monotonic()) > 0:
            if until_interrupted and link.interrupted:
                raise Interrupted
            try:
                data = pipe.read(stall_s=min(SLICE_S, left_s))
            except DeviceError as error:
                if error.diagnostics[0].code != "E404":
                    raise
                continue
            size += len(data)
            if size > LIMIT_BYTES:
                raise too_much("an output", LIMIT_BYTES)
            output = (output + data)[-_TAIL_BYTES:]
            if found := sign.search(output):
                output, status = output[: found.start()], int(found[1])
                break
            if not data:  # its shell was killed
                status = pipe.wait(SLICE_S)
                break
    finally:
        pipe.close()
    said = " ".join(printable(output).split())[-_SHOWN:]
    return Ended(status=status, seconds=time.monotonic() - started, said=said)


def start_command(link: Link, command: str) -> None:
    """Start a shell command of the operator's and let it run, for when there is no time to wait.

    Raises:
        DeviceError: The connection is lost (E403).
    """
    own = f"new=; command -v setsid >/dev/null 2>&1 && new=setsid; $new sh -c {quote(command)}"
    link.remote.run(f"{own} </dev/null >/dev/null 2>&1 &", timeout_s=1.0)


def wait_until_well(link: Link, hooks: Hooks, python: str | None = None) -> list[tuple[str, Ended]]:
    """Ask the health command and the URL until both say yes, or the time is over.

    Args:
        link: The device.
        hooks: Its hooks; what they lack is not asked.
        python: Its Python, which fetches the URL where there is no other client.

    Returns:
        The last answer of each, by ``health`` and ``health_url``.

    Raises:
        DeviceError: The connection is lost (E403), or a command printed too much (E405).
        Interrupted: The run is being ended.
    """
    deadline = time.monotonic() + hooks.timeout_s
    commands = {"health": hooks.health, "health_url": None}
    if hooks.health_url:
        commands["health_url"] = fetch_command(hooks.health_url, hooks.timeout_s, python)
    found = []
    for name, command in commands.items():
        if command is None:
            continue
        while True:
            left_s = max(SLICE_S, deadline - time.monotonic())
            ended = run_command(link, command, left_s)
            if ended.status == 0 or time.monotonic() + POLL_S > deadline:
                break
            link.wait(POLL_S)
        if name == "health_url" and ended.status == _NO_CLIENT:
            said = "the device has no curl, wget or Python to ask it with"
            ended = Ended(status=_NO_CLIENT, seconds=ended.seconds, said=said)
        found.append((name, ended))
        if ended.status != 0:
            break
    return found


def fetch_command(url: str, timeout_s: float, python: str | None = None) -> str:
    """Return a shell command that ends with 0 when a URL answers, whatever client there is."""
    return _FETCH.format(
        url=quote(url),
        seconds=max(1, round(timeout_s)),
        python=quote(python or "python3"),
        code=quote(_PYTHON),
        none=_NO_CLIENT,
    )
