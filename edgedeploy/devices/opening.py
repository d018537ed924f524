"""Opening a depot: the agent where the device has Python 3.6 or newer, else the shell's.

One command decides: its shell starts the first Python there is, which reads the agent from its
input, or says that there is none.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import zlib
from pathlib import Path
from shlex import quote

from edgedeploy.devices.agent_depot import AgentDepot
from edgedeploy.devices.depot import Depot
from edgedeploy.devices.refusals import no_answer
from edgedeploy.errors import DeviceError
from edgedeploy.remote import Pipe, Reader, Remote, printable

CANDIDATES = ("python3", "/usr/bin/python3", "/usr/local/bin/python3", "/opt/bin/python3")

_MARK = "edgedeploy-agent"
_NOISE_LINES = 1000
_ON_DEVICE = ("disk", "layout", "lock", "admission", "switch", "transfer", "versions", "care")
_CHECKERS = ("verify_file", "trust_file")
"""Programs that check a release on any device; the agent's modules load them by these names."""

# Python 2.7 and 3.0 can read this, so that they can say that they are too old.
_BOOT = """\
import sys
if sys.version_info < (3, 6):
    sys.stdout.write({old!r})
    sys.exit(0)
import hashlib, json, os, types, zlib
data = b""
while len(data) < {size}:
    more = os.read(0, {size} - len(data))
    if not more:
        sys.exit("the program did not arrive")
    data += more
if hashlib.sha256(data).hexdigest() != {digest!r}:
    sys.exit("the program arrived damaged")
for name, text in json.loads(zlib.decompress(data).decode()):
    module = types.ModuleType(name)
    module.__path__ = []
    sys.modules[name] = module
    parent, _, leaf = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], leaf, module)
    exec(compile(text, name, "exec"), module.__dict__)
module.main({greeting!r})
"""


def open_depot(remote: Remote, folder: str, *, python: str | None = None) -> Depot:
    """Return an open depot on a device; close it when done.

    Args:
        remote: The device, connected.
        folder: Absolute path of the depot there, or one that starts with ``~/``.
        python: The interpreter that the inventory names; None looks for one.

    Raises:
        DeviceError: The interpreter that was named does not run (E428), the folder cannot be a
            depot (E429, E430), its disk refuses (E423, E424), or the connection fails.
    """
    found = _start(remote, folder, python)
    if found is not None:
        return found
    return _shell_depot(remote, folder)


def _start(remote: Remote, folder: str, python: str | None) -> AgentDepot | None:
    """Start the agent; None when the device has no Python that can run it."""
    nonce = os.urandom(8).hex()
    program = payload()
    pipe = remote.open(command(program, nonce, python))
    try:
        request = json.dumps({"op": "open", "folder": folder}).encode()
        try:
            head = len(request).to_bytes(4, "big") + bytes(4)
            pipe.write(program + head + request)
        except BrokenPipeError:
            pass  # there is no Python; the answer says so
        reader = Reader(pipe)
        said = _greeting(reader, nonce)
        if said != "1":
            if python is None:
                pipe.close()
                return None
            raise _no_python(python, said, pipe)
    except BaseException:
        pipe.close()
        raise
    return AgentDepot(pipe, reader)


def _greeting(reader: Reader, nonce: str) -> str:
    """Return what the agent or its shell said, past what a login shell printed; "" for nothing."""
    try:
        for _ in range(_NOISE_LINES):
            words = reader.line().decode("utf-8", "replace").split(" ")
            if len(words) == 3 and words[0] == _MARK and words[2] == nonce:
                return words[1]
    except EOFError:
        return ""
    raise no_answer("prints without end when a command is started")


def _no_python(python: str, said: str, pipe: Pipe) -> DeviceError:
    why = printable(pipe.errors())[-200:].strip()
    if said == "old":
        why = "it is older than Python 3.6"
    return DeviceError(
        f"{python} does not run on the device: {why or 'it does not say why'}",
        code="E428",
        hint="correct `python:` in devices.yaml, or leave it out",
    )


def command(program: bytes, nonce: str, python: str | None) -> str:
    """Return the shell command that starts the agent, or says that there is no Python."""
    boot = _BOOT.format(
        old=_said("old", nonce),
        size=len(program),
        digest=hashlib.sha256(program).hexdigest(),
        greeting=_said("1", nonce),
    )
    # One line, whatever the login shell does to line ends: the text is a literal within exec().
    arguments = f"-IS -c {quote(f'exec({json.dumps(boot)})')}"
    if python is not None:
        return f"exec {quote(python)} {arguments}"
    none = quote(_said("none", nonce).strip())
    names = " ".join(map(quote, CANDIDATES))
    return (
        f'for p in {names}; do command -v "$p" >/dev/null 2>&1 && exec "$p" {arguments}; done; '
        f"echo {none}"
    )


def _said(what: str, nonce: str) -> str:
    return f"\n{_MARK} {what} {nonce}\n"


@functools.cache
def payload() -> bytes:
    """Return the agent as it is sent: names and sources of its modules, compressed."""
    here = Path(__file__).parent
    root = "edgedeploy.devices"
    modules = [("edgedeploy", ""), (root, ""), (f"{root}.ondevice", "")]
    for name in _CHECKERS:
        modules.append((name, (here.parent / "release" / f"{name}.py").read_text("utf-8")))
    for name in _ON_DEVICE:
        text = (here / "ondevice" / f"{name}.py").read_text("utf-8")
        modules.append((f"{root}.ondevice.{name}", text))
    modules.append((f"{root}.agent", (here / "agent.py").read_text("utf-8")))
    return zlib.compress(json.dumps(modules).encode(), 9)


def _shell_depot(remote: Remote, folder: str) -> Depot:
    from edgedeploy.devices.shell_depot import ShellDepot

    return ShellDepot(remote, folder)
