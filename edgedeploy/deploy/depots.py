"""The depots on a device: which there are, what is in them, and whether they are sound."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgedeploy.deploy.fleet import Answer, Link
from edgedeploy.deploy.locking import take_lock
from edgedeploy.deploy.push import Opener
from edgedeploy.deploy.unit import Unit, depot_folder, pretended, short
from edgedeploy.devices.depot import Damage, Depot
from edgedeploy.devices.runtimes import FOLDER as RUNTIMES
from edgedeploy.devices.runtimes import shell_path
from edgedeploy.errors import DeviceError, Diagnostic, ExitCode, UsageError
from edgedeploy.remote import Remote, printable

MAX_DEPOTS = 1000
JOURNAL_LINES = 50

_APP = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_MARK = "edgedeploy-depot "
_ANSWER_BYTES = 256 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Care:
    """What a check of depots does besides looking.

    Attributes:
        repair: Take away what is damaged, put right what can be.
        keep: Remove versions that are not needed but so many of the newest; None removes none.
        journal: Read the end of each depot's journal.
        wait_s: How long to wait for the lock when somebody else holds it.
    """

    repair: bool = False
    keep: int | None = None
    journal: bool = False
    wait_s: float = 0.0


def app_name(text: str) -> str:
    """Return the application that is meant: of a profile's file, or by its name on devices.

    Only the name is read: a device must be cared for also where the profile is broken.

    Raises:
        ProfileError: The file is no YAML.
        UsageError: There is no such file, and it cannot be an application's name (E100).
    """
    path = Path(text)
    found: Any = text
    if path.is_file():
        from edgedeploy.config.read import read_document

        data = read_document(path).data
        found = data.get("name") if isinstance(data, dict) else None
    elif path.suffix in (".yaml", ".yml"):
        raise UsageError(
            f"there is no file {text!r:.100}",
            code="E100",
            hint="give the profile's file, or its `name:` as `devices fsck` lists it",
        )
    if not isinstance(found, str) or not _APP.fullmatch(found):
        raise UsageError(
            f"{text!r:.100} is neither a profile with a name nor the name of an application",
            code="E100",
            hint="give the profile's file, or its `name:` as `devices fsck` lists it",
        )
    return found


def find_depots(remote: Remote, root: str) -> tuple[str, ...]:
    """Return the depots below a folder on a device, sorted: applications, then runtimes of ours.

    Args:
        remote: The device.
        root: Folder of the depots; may start with ``~/``.

    Raises:
        DeviceError: The connection fails, or the answer is too long (E405).
    """
    answer = remote.run(
        f"cd {shell_path(root)} 2>/dev/null || exit 0\n"
        f"for depot in * {RUNTIMES}/*; do\n"
        f'[ -f "$depot/format" ] && printf "{_MARK}%s\\n" "$depot"; done; :',
        limit_bytes=_ANSWER_BYTES,
    )
    names = [
        line.removeprefix(_MARK)
        for line in printable(answer.stdout).split("\n")
        if line.startswith(_MARK)
    ]
    good = {name for name in names if _APP.fullmatch(name.removeprefix(f"{RUNTIMES}/"))}
    return tuple(sorted(good, key=lambda name: (name.startswith("."), name)))[:MAX_DEPOTS]


def expect_depot(remote: Remote, root: str, app: str) -> None:
    """Make sure that an application has a depot: opening one that is not there would make it.

    Args:
        remote: The device.
        root: Folder of the depots; may start with ``~/``.
        app: Application.

    Raises:
        DeviceError: There is none (E443), or as :func:`find_depots`.
    """
    there = find_depots(remote, root)
    if app not in there:
        names = ", ".join(name for name in there if not name.startswith(".")) or "none"
        raise DeviceError(
            f"nothing was pushed for `{app}` to this device",
            code="E443",
            subject=remote.name,
            hint=f"push first: `edgedeploy push`; applications on it: {names}",
        )


def care_for(link: Link, unit: Unit, app: str | None, care: Care, *, opener: Opener) -> Answer:
    """Check the depots of a device, or that of one application.

    Args:
        link: The connected device.
        unit: What the inventory says of it.
        app: Only this application.
        care: What else to do.
        opener: Opens a depot.

    Returns:
        What was found; exit status 7 for damage that was not repaired.

    Raises:
        DeviceError: Somebody else holds a lock (E421), or the connection fails.
    """
    names = find_depots(link.remote, unit.root)
    if app is not None:
        names = tuple(name for name in names if name == app)
    found = []
    for name in names:
        link.say(f"checking {name}")
        depot = opener(link.remote, depot_folder(unit, name), python=unit.python)
        try:
            found.append({"app": name, **_cared(depot, care, link)})
        finally:
            depot.close()
    answer = _answer(found, app, unit, care.repair)
    return replace(answer, text=answer.text + pretended(link))


def _cared(depot: Depot, care: Care, link: Link) -> dict[str, Any]:
    depot.hello()  # settles a trial that nobody holds
    take_lock(depot, care.wait_s, link.say)
    damage = depot.fsck(care.repair)
    freed_bytes = None if care.keep is None else depot.collect(care.keep)
    state = depot.hello()
    lines = depot.journal(JOURNAL_LINES) if care.journal else ()
    return {
        "root": state.root,
        "agent": state.agent,
        "current": state.current,
        "previous": state.previous,
        "versions": list(state.versions),
        "free_bytes": state.free_bytes,
        "freed_bytes": freed_bytes,
        "damage": [_damage(item) for item in damage],
        **({"journal": [printable(line.encode()) for line in lines]} if care.journal else {}),
    }


def _damage(item: Damage) -> dict[str, Any]:
    return {"path": printable(item.path.encode()), "what": item.what, "repaired": item.repaired}


def _answer(
    depots: Sequence[dict[str, Any]], app: str | None, unit: Unit, repaired: bool
) -> Answer:
    if not depots:
        text = "no depot" if app is None else f"no depot of {app}"
        return Answer(text=text, already=True, details={"depots": []})
    damage = [item for depot in depots for item in depot["damage"]]
    left = [item for item in damage if not item["repaired"]]
    texts = [f"{depot['app']}: {short(depot['current'])} is active" for depot in depots]
    if damage:
        texts.append(f"{len(damage)} damaged, {len(damage) - len(left)} repaired")
    fault = Diagnostic(
        code="E449",
        message=f"{len(left)} damaged in the depots of {unit.name}, first "
        f"{left[0]['path'] if left else ''} ({left[0]['what'] if left else ''})",
        subject=unit.name,
        hint="push the same version again: what is active is healed by that alone"
        if repaired
        else "`edgedeploy devices fsck --repair`, then push again",
    )
    return Answer(
        text="; ".join(texts),
        details={"depots": list(depots)},
        exit_code=ExitCode.INTEGRITY if left else ExitCode.DONE,
        diagnostics=(fault,) if left else (),
    )
