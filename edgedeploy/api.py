"""The library's front door: what the command line does, callable from Python.

``build`` is the main job: profile -> plan -> stages -> choice -> measurement -> published folder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from edgedeploy.building import BuildOptions, BuildResult, BuildRun
from edgedeploy.comparing import ReleaseComparison, compare_releases
from edgedeploy.config.bundled import is_bundled
from edgedeploy.deploy.depots import Care, app_name
from edgedeploy.deploy.provision import Wish
from edgedeploy.deploy.released import FromBundle
from edgedeploy.deploy.trusting import change_trust_on, trust_on
from edgedeploy.deploy.verbs import (
    ActivateOptions,
    PushOptions,
    activate,
    activate_release,
    fsck,
    provision,
    push,
    push_release,
    rollback,
)
from edgedeploy.devices.depot import Allowed
from edgedeploy.disk import disk_errors
from edgedeploy.engines import Workshop
from edgedeploy.errors import ExitCode
from edgedeploy.events import EventLog
from edgedeploy.footprint import confirmed, footprint, used_records
from edgedeploy.freshness import take
from edgedeploy.importing import Imported, import_bench
from edgedeploy.lockfile import check_lock, read_lock, write_lock
from edgedeploy.measuring import Site
from edgedeploy.memory import Memory
from edgedeploy.opening import Request, open_profile
from edgedeploy.places import default_store_path
from edgedeploy.plan import Plan
from edgedeploy.release import applying
from edgedeploy.release import keys as key_files
from edgedeploy.release import trust as trust_files
from edgedeploy.release.applying import Applied
from edgedeploy.release.believing import believed
from edgedeploy.release.enrolling import (
    enrol,
    enrolment,
    hand_over,
    revocation,
    revoke,
    state_revoked,
)
from edgedeploy.release.keys import SigningKey, read_public_part
from edgedeploy.release.packages import Package, PackageOptions, package
from edgedeploy.release.signing import key_id
from edgedeploy.release.statements import Statement
from edgedeploy.release.trust import Trust, TrustedKey
from edgedeploy.release.verifying import Verified, VerifyOptions, verify
from edgedeploy.releasing import Released, ReleaseOptions, release
from edgedeploy.report.files import write_reports
from edgedeploy.report.platforms import last_platforms
from edgedeploy.retraining.findings import Retrained
from edgedeploy.retraining.running import RetrainOptions, compare_with_release, profile_at
from edgedeploy.store import Store

__all__ = [
    "ActivateOptions",
    "Allowed",
    "Applied",
    "BuildOptions",
    "BuildResult",
    "Care",
    "FromBundle",
    "Imported",
    "Package",
    "PackageOptions",
    "PushOptions",
    "ReleaseComparison",
    "ReleaseOptions",
    "Released",
    "Request",
    "RetrainOptions",
    "Retrained",
    "SigningKey",
    "Statement",
    "Trust",
    "TrustedKey",
    "Verified",
    "VerifyOptions",
    "Wish",
    "activate",
    "activate_release",
    "app_name",
    "apply_delta",
    "build",
    "change_trust_on",
    "compare_releases",
    "compare_with_release",
    "enrol",
    "enrolment",
    "fsck",
    "hand_over",
    "import_bench",
    "key_id",
    "new_key",
    "open_profile",
    "package",
    "profile_at",
    "provision",
    "push",
    "push_release",
    "read_public_part",
    "read_trust",
    "release",
    "revocation",
    "revoke",
    "rollback",
    "state_revoked",
    "trust_on",
    "verify",
]


def build(
    request: Request,
    options: BuildOptions,
    events: EventLog | None = None,
    *,
    fresh: Path | None = None,
    sites: Callable[[Plan], Sequence[Site]] | None = None,
    workshop: Callable[[Plan, Store], Workshop | None] | None = None,
) -> BuildResult:
    """Build everything that a profile asks for.

    Args:
        request: Which profile.
        options: How.
        events: Where progress is told.
        fresh: Where to leave a snapshot, by which the next build may see that nothing changed.
        sites: Returns, for the plan, devices on which what is for their boards is measured.
        workshop: Returns, for the plan, devices that build engines; they are reached when the
            first engine is wanted. Without any, those of the last build are used as long as they
            are up to date.

    Raises:
        ProfileError: The profile, or ``--locked``, refuses.
        StoreError: The store cannot be used.
        IntegrityError: Under ``--locked``, an artifact differs.
        KeyboardInterrupt: Passed on after every worker has been ended.
    """
    events = events or EventLog()
    store = Store(options.store or default_store_path(), events)
    with store.in_use():
        memory = Memory.of(store, request.profile)
        plan, notes = open_profile(request, memory)
        folder = plan.profile.folder
        locked = read_lock(folder, plan.profile.name) if options.locked else None
        measured_on = sites(plan) if sites else ()
        made_by = workshop(plan, store) if workshop else None
        made_by = made_by or last_platforms(options.output / plan.profile.name)
        run = BuildRun(store, plan, options, events, memory, locked, measured_on, made_by)
        try:
            outcomes = run.build()
            lock = run.lock(outcomes)
            if locked is not None:
                check_lock(locked, lock)
            outcomes = tuple(run.placed(outcome) for outcome in outcomes)
            for outcome in outcomes:
                run.publish(outcome)
            run.publish_tables()
            states = [found.state for found in outcomes]
            states += [found.state for found in run.combinations]
            complete = "failed" not in states
            keeps_lock = complete and _keeps_lock(request)
            if locked is None and keeps_lock:
                write_lock(folder, plan.profile.name, lock)
            result = BuildResult(
                plan=plan,
                outcomes=outcomes,
                folder=options.output / plan.profile.name,
                references=run.references(),
                signatures=run.signatures(),
                states=run.builder.states,
                lock=lock,
                keeps_lock=keeps_lock,
                notes=(*notes, *dict.fromkeys(run.notes)),
                combinations=run.combinations,
                float_pipeline=run.float_pipeline(),
            )
            write_reports(result)
            whole = all(state.state != "failed" for state in run.builder.states.values())
            if fresh is not None and whole and result.exit_code <= ExitCode.REFUSED:
                kept = {
                    "status": int(result.exit_code),
                    "folder": str(result.folder),
                    "notes": [item.to_json() for item in result.notes],
                }
                take(
                    fresh,
                    footprint(request, result, run, store),
                    [store.action_path(item.key) for item in used_records(result, run.builder)],
                    lambda: confirmed(request, result, run, store, memory),
                    kept,
                    store.scratch,
                )
            return result
        finally:
            run.close()
            memory.components.update(run.known())
            memory.save()


def _keeps_lock(request: Request) -> bool:
    """Whether a build of the request stands in a lock file.

    A changed or narrowed profile is another one, and bundled profiles are not the user's.
    """
    if request.sets or request.targets:
        return False
    return not is_bundled(request.profile)


def apply_delta(
    delta: Path,
    old: Path,
    goal: Path,
    keys: Sequence[Path] = (),
    trust: Path | None = None,
    *,
    unverified: bool = False,
) -> Applied:
    """Rebuild a bundle from the one before and a delta, to the last byte.

    Args:
        delta: The delta, from anywhere.
        old: The bundle that it was made from.
        goal: Where the new one is written; replaced when all of it is right.
        keys: Files of public keys that are believed; one that is must have signed it.
        trust: Trust file whose keys are believed too; None: there is none.
        unverified: Look at no signature.

    Raises:
        EdgedeployError: As :func:`edgedeploy.release.applying.apply_delta` and
            :func:`edgedeploy.release.believing.believed`.
        StoreError: A file cannot be read, or the disk refuses (E601, E602).
    """
    whom = None if unverified else believed(keys, trust)
    with disk_errors("cannot apply the delta"):
        if whom is None:
            return applying.apply_delta(delta, old, goal, None)
        return applying.apply_delta(delta, old, goal, whom.trusted, whom.revoked)


def new_key(path: Path) -> SigningKey:
    """Make a key that signs: the private part in ``path`` (mode 0600), the public in ``path.pub``.

    Raises:
        UsageError: One of the files exists (E750).
        StoreError: The disk refuses (E601, E602).
    """
    with disk_errors("cannot make the key"):
        return key_files.new_key(path)


def read_trust(path: Path) -> Trust:
    """Return what a trust file says.

    Raises:
        EdgedeployError: As :func:`edgedeploy.release.trust.read_trust`.
        StoreError: It cannot be read (E602).
    """
    with disk_errors("cannot read the trust file"):
        return trust_files.read_trust(path)
