"""The options that name a profile, shared by the verbs that take one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from edgedeploy.opening import Request


def profile_options(function: Callable[..., Any], *, required: bool = True) -> Callable[..., Any]:
    """Add PROFILE, ``-t``, ``--set`` and ``--target-path``; see :func:`request_of`."""
    for option in (
        click.option(
            "--target-path",
            type=click.Path(path_type=Path, exists=True, file_okay=False),
            multiple=True,
            help="Look here for targets first.",
        ),
        click.option(
            "--set", "sets", multiple=True, metavar="KEY=VALUE", help="Change the profile."
        ),
        click.option(
            "-t", "--target", "targets", multiple=True, help="Only these targets (patterns)."
        ),
        click.argument("profile", type=click.Path(path_type=Path), required=required),
    ):
        function = option(function)
    return function


def request_of(options: dict[str, Any]) -> Request:
    """Take the options that :func:`profile_options` added out of a verb's options."""
    from edgedeploy.opening import Request

    return Request(
        profile=options.pop("profile"),
        sets=options.pop("sets"),
        targets=options.pop("targets"),
        target_path=options.pop("target_path"),
    )


device_option = click.option(
    "-d",
    "--device",
    "devices",
    multiple=True,
    metavar="NAME",
    help="Which devices: a name or pattern, @GROUP or tag:TAG; may be repeated.",
)
"""``-d``: which devices."""

inventory_option = click.option(
    "--devices",
    "inventory",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Use this devices.yaml (EDGEDEPLOY_DEVICES).",
)
"""``--devices``: which inventory."""


def device_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``-d``, ``--devices``, ``--accept-new`` and ``--no-input``: which devices, and how."""
    for option in (
        click.option("--no-input", is_flag=True, help="Never ask for a passphrase."),
        click.option(
            "--accept-new",
            is_flag=True,
            help="Trust the host key of a device that is not known yet, and keep it.",
        ),
        inventory_option,
        device_option,
    ):
        function = option(function)
    return function
