"""What verbs share that take a signed bundle to devices, or change whom devices believe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgedeploy.cli.believing import believing_options, trust_file
from edgedeploy.cli.fleet import fleet_of, fleet_options, show_rows
from edgedeploy.cli.output import Output
from edgedeploy.cli.request import device_options
from edgedeploy.errors import UsageError
from edgedeploy.places import default_state_path

if TYPE_CHECKING:
    from edgedeploy.deploy.fleet import Row
    from edgedeploy.deploy.released import FromBundle
    from edgedeploy.release.trust import Trust

_FILE = click.Path(path_type=Path, dir_okay=False)


def bundle_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--release`` and who is believed; see :func:`bundle_of`."""
    for option in (
        click.option(
            "--allow-downgrade", is_flag=True, help="Take an older release than the newest."
        ),
        click.option(
            "--state", type=_FILE, help="File that remembers the newest releases (else in home)."
        ),
        believing_options,
        click.option(
            "--release",
            "bundle",
            type=click.Path(path_type=Path),
            metavar="BUNDLE",
            help="This signed bundle instead of what PROFILE built.",
        ),
    ):
        function = option(function)
    return function


def bundle_of(options: dict[str, Any]) -> FromBundle | None:
    """Take what :func:`bundle_options` added out of a verb's options; None without ``--release``.

    With it, the options of a profile are taken out too.

    Raises:
        UsageError: There is a bundle and a profile or something that is of one, or neither; or
            something that is of a bundle without one (E100).
    """
    from edgedeploy import api

    path, keys, trust = (options.pop(name) for name in ("bundle", "keys", "trust"))
    state, downgrade = options.pop("state"), options.pop("allow_downgrade")
    if path is None:
        if keys or trust or state:
            raise _unfit("--key, --trust and --state are of a bundle", "add --release BUNDLE")
        if options["profile"] is None:
            raise _unfit("nothing says what is meant", "give a PROFILE, or --release BUNDLE")
        options["allow_downgrade"] = downgrade
        return None
    if options.pop("profile") is not None or options.pop("sets"):
        raise _unfit("a bundle needs no profile", "leave out PROFILE and --set")
    return api.FromBundle(
        path=path,
        verify=api.VerifyOptions(
            keys=keys,
            trust=trust_file(keys, trust),
            state=state or default_state_path(),
            allow_downgrade=downgrade,
        ),
        targets=options.pop("targets"),
        target_path=options.pop("target_path"),
    )


def trust_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--app`` and which devices; see :func:`is_on_devices`."""
    option = click.option(
        "--app", metavar="PROFILE|NAME", help="On devices: the application whose depot it is."
    )
    return device_options(fleet_options(option(function)))


def is_on_devices(options: dict[str, Any], trust: Path | None) -> bool:
    """Return whether devices are meant, not the trust file here.

    Raises:
        UsageError: ``-d`` without ``--app`` or the other way round, or with ``--trust`` (E100).
    """
    if bool(options["devices"]) != (options["app"] is not None):
        raise _unfit("a trust file on a device is an application's", "give both -d and --app")
    if options["devices"] and trust is not None:
        raise _unfit("a device has its own trust file", "leave out --trust")
    return bool(options["devices"])


def change_on_devices(
    output: Output, options: dict[str, Any], change: Callable[[Trust], Trust]
) -> int:
    """Change whom devices believe; print the rows and return the exit status."""
    from edgedeploy import api

    app, wait_s = options.pop("app"), options.pop("wait_s")
    fleet = fleet_of(output, options, Path(app).parent)
    result = api.change_trust_on(api.app_name(app), fleet, change, wait_s=wait_s)
    return show_rows(output, result, lines=_lines)


def list_on_devices(output: Output, options: dict[str, Any]) -> int:
    """Print whom devices believe; return the exit status."""
    from edgedeploy import api

    app = options.pop("app")
    fleet = fleet_of(output, options, Path(app).parent)
    return show_rows(output, api.trust_on(api.app_name(app), fleet), lines=_lines)


def _lines(row: Row) -> list[str]:
    return [f"  {line}" for line in key_lines(row.details.get("keys", ()))]


def key_lines(keys: Sequence[dict[str, Any]]) -> list[str]:
    """Return keys of a trust file, as JSON data, line by line: why each is believed or not."""
    width = max((len(key["name"]) for key in keys), default=0)
    lines = []
    for key in keys:
        why = "enrolled" if key["by"] is None else f"by {key['by'][:16]}"
        revoked = "" if key["revoked"] is None else f"  revoked: {key['revoked']}"
        lines.append(f"{key['id']}  {key['name']:<{width}}  {why}{revoked}")
    return lines


def _unfit(message: str, hint: str) -> UsageError:
    return UsageError(message, code="E100", hint=hint)
