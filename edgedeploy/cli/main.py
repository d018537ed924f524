"""The entry point: finds the verb; turns whatever happens into text, JSON and an exit status."""

from __future__ import annotations

import importlib
import keyword
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

import click

from edgedeploy import __version__
from edgedeploy.cli.output import Output
from edgedeploy.errors import Diagnostic, EdgedeployError, ExitCode, InternalError, UsageError

# Verb -> one line for --help. Each lives in cli/<verb>.py as `command` (try_.py: `try` is a word of
# Python's); only the one that is
# called gets imported.
VERBS = {
    "init": "Write a commented starter profile for a model.",
    "check": "Check profiles and targets; explain diagnostic codes.",
    "plan": "Show what a build would do and why; run nothing.",
    "build": "Build, verify and gate the artifacts of a profile.",
    "push": "Stage what was built on devices; what they run stays as it is.",
    "bench": "Measure built artifacts, here or on devices.",
    "try": "Show what was built answers to a picture, a sound, a text or arrays.",
    "accept": "Judge the gates of the last build again.",
    "activate": "Switch devices to a pushed version, if it is well there.",
    "rollback": "Switch devices to the version before.",
    "release": "Write a signed bundle of what was accepted.",
    "apply": "Rebuild a bundle from the one before and a delta.",
    "verify": "Check a signed bundle, and extract it.",
    "keys": "Make keys that sign releases, and say which are believed.",
    "package": "Write packages for apps from a signed bundle.",
    "ship": "Build, push, bench, accept and activate.",
    "inspect": "Say what a model file is.",
    "report": "Show the last build as a table, JSON, Markdown or HTML.",
    "compare": "Compare two builds, two releases, or a release with a build.",
    "doctor": "Check this machine and the installed tools.",
    "devices": "List, probe and provision devices, and look after them.",
    "targets": "List and show targets.",
    "profiles": "List and show bundled profiles.",
    "cache": "List, check and clean the store.",
    "schema": "Print the JSON Schema of profiles.",
}


class Verbs(click.Group):
    """A group that imports a verb's module when the verb is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the verbs in the order in which they are used."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of one verb."""
        if cmd_name not in VERBS:
            return None
        module = f"{cmd_name}_" if keyword.iskeyword(cmd_name) else cmd_name
        command: click.Command = importlib.import_module(f"edgedeploy.cli.{module}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb; a mistyped one gets the nearest that exists."""
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            from edgedeploy.config.nearest import nearest

            guess = nearest(args[0], VERBS)
            raise UsageError(
                f"there is no verb {args[0]!r}",
                code="E100",
                hint=f"did you mean `{guess}`?" if guess else "see `edgedeploy --help`",
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="edgedeploy")
def cli() -> None:
    """Turn a model into verified artifacts for every edge target that a profile names.

    Start with `edgedeploy init model.onnx`, then `edgedeploy build profile.yaml`.
    """


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit; the only place that ends the process."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    output = Output.from_arguments(arguments)
    signal.signal(signal.SIGTERM, _terminate)
    code: int
    try:
        code = cli.main(args=arguments, prog_name="edgedeploy", standalone_mode=False) or 0
    except click.exceptions.Exit as error:
        code = error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.ctx.get_help() if error.ctx else "", file=sys.stderr)
        code = ExitCode.USAGE
    except click.ClickException as error:
        code = output.failure(_usage(error))
    except EdgedeployError as error:
        code = output.failure(error)
        if output.debug:
            traceback.print_exc()
    except (KeyboardInterrupt, click.Abort):
        code = output.interrupted(ExitCode.INTERRUPTED)
    except _Terminated:
        code = output.interrupted(ExitCode.TERMINATED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except Exception as error:
        code = output.failure(_bug(error))
        if output.debug:
            traceback.print_exc()
    sys.exit(int(code))


class _Terminated(BaseException):
    """SIGTERM arrived."""


def _terminate(number: int, frame: FrameType | None) -> None:
    raise _Terminated


def _usage(error: click.ClickException) -> UsageError:
    hint = None
    if isinstance(error, click.UsageError) and error.ctx is not None:
        hint = f"see `{error.ctx.command_path} --help`"
    return UsageError(error.format_message(), code="E100", hint=hint)


def _bug(error: Exception) -> InternalError:
    return InternalError(
        Diagnostic(
            code="E900",
            message=f"{type(error).__name__}: {error}",
            hint="this is a bug of edgedeploy; run again with --debug and report the trace",
        )
    )


if __name__ == "__main__":
    main()
