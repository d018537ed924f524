"""The option of verbs that sign: a command that does it instead of a key file."""

from __future__ import annotations

import shlex

import click


def _split(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[str, ...]:
    if value is None:
        return ()
    try:
        words = tuple(shlex.split(value))
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    if not words:
        raise click.BadParameter("it names no program")
    return words


sign_command_option = click.option(
    "--sign-command",
    metavar="COMMAND",
    callback=_split,
    help="Program with arguments that signs its standard input: 64 bytes on standard output.",
)
