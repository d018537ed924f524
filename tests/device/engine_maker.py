"""``python -m tests.device.engine_maker``: builds profiles, each in a process that may be killed.

A line of standard input names a project's folder. What it prints for each: the process id of the
build, and when that ended, its exit status (minus the signal that ended it). What a build imports
is imported once, so that a build costs what it does, not what Python does.
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path

from edgedeploy import api
from edgedeploy.cli.fleet import workshop_of
from edgedeploy.deploy import engines, engineways  # noqa: F401 - what a build imports late
from edgedeploy.devices import connect, sshremote  # noqa: F401
from edgedeploy.errors import EdgedeployError
from edgedeploy.events import EventLog

DEVICES = {"inventory": None, "devices": (), "accept_new": False, "no_input": True}


def build(folder: Path) -> int:
    """Build ``small.yaml`` of a project as the command line does; return the exit status."""
    request = api.Request(profile=folder / "small.yaml", sets=(), targets=(), target_path=())
    options = api.BuildOptions(
        output=folder / "build", store=folder / "store", jobs=2, measure="known"
    )
    log = EventLog()
    try:
        result = api.build(request, options, log, workshop=workshop_of(DEVICES, folder, log))
    except EdgedeployError as error:
        print(error, file=sys.stderr)
        return int(error.exit_code)
    for outcome in result.outcomes:
        for trial in outcome.trials:
            for item in trial.diagnostics:
                print(item.code, item.message, file=sys.stderr)
    return int(result.exit_code)


def main() -> None:
    """Build what is named until the input ends."""
    for line in sys.stdin:
        folder = Path(line.strip())
        pid = os.fork()
        if pid == 0:
            status = 70
            try:
                os.chdir(folder)
                status = build(folder)
            except BaseException:
                traceback.print_exc()
            os._exit(status)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
