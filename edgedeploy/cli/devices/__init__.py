"""``edgedeploy devices``: list, show, probe, provision and check devices."""

from __future__ import annotations

import importlib

import click

from edgedeploy.config.nearest import nearest
from edgedeploy.errors import UsageError

# Sub-verb -> one line for --help. Each lives in cli/devices/<name>.py as `command`.
ACTIONS: dict[str, str] = {
    "list": "List the devices of devices.yaml.",
    "show": "Show what a connection to a device would use.",
    "probe": "Find out what devices are.",
    "provision": "Put a runtime on devices that have none; they need no internet.",
    "fsck": "Check, repair and clean what lies on devices.",
}


class Actions(click.Group):
    """A group that imports a sub-verb's module when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the sub-verbs in the order in which they are used."""
        return list(ACTIONS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of one sub-verb."""
        if cmd_name not in ACTIONS:
            return None
        found: click.Command = importlib.import_module(f"{__name__}.{cmd_name}").command
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the sub-verb; a mistyped one gets the nearest that exists."""
        if args and args[0] not in ACTIONS and not args[0].startswith("-"):
            guess = nearest(args[0], ACTIONS)
            raise UsageError(
                f"`devices` has no {args[0]!r}",
                code="E100",
                hint=f"did you mean `{guess}`?" if guess else "see `edgedeploy devices --help`",
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the sub-verbs without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(ACTIONS.items()))


@click.group(cls=Actions)
def command() -> None:
    """List, show, probe, provision and check devices, as devices.yaml names them."""
