"""Where everything printed goes: results to stdout, all else to stderr, JSON as one document."""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TextIO

import click

from edgedeploy.errors import DeviceError, Diagnostic, EdgedeployError, ExitCode
from edgedeploy.errors.render import render

JSON_SCHEMA = 1
COLOURS = {"error": "red", "warning": "yellow", "note": "cyan"}


class Output:
    """One run's printing.

    Args:
        as_json: Print exactly one JSON document on stdout.
        debug: Print traces.
        quiet: Print results and errors only.
        verbose: Print every stage, hits too.
        colour: ``auto``, ``always`` or ``never``.
        annotations: ``github``: print every diagnostic also as a command that GitHub Actions
            turns into an annotation.
    """

    def __init__(
        self,
        *,
        as_json: bool = False,
        debug: bool = False,
        quiet: bool = False,
        verbose: bool = False,
        colour: str = "auto",
        annotations: str | None = None,
    ) -> None:
        self.as_json = as_json
        self.debug = debug
        self.quiet = quiet
        self.verbose = verbose
        self._colour = colour
        self.annotations = annotations

    @classmethod
    def from_arguments(cls, arguments: Sequence[str]) -> Output:
        """Return the output that the raw arguments ask for, also when they do not parse."""
        values: dict[str, str] = {}
        for argument, following in zip(arguments, [*arguments[1:], None], strict=True):
            name, given, value = argument.partition("=")
            if given:
                values[name] = value
            elif following is not None:
                values[name] = following
        return cls(
            as_json="--json" in arguments,
            debug="--debug" in arguments,
            quiet="-q" in arguments or "--quiet" in arguments,
            verbose="-v" in arguments or "--verbose" in arguments,
            colour=values.get("--color", "auto"),
            annotations=values.get("--annotations"),
        )

    def colours_on(self, stream: TextIO) -> bool:
        """Whether a stream gets colours (NO_COLOR and TERM=dumb are honoured)."""
        if self._colour != "auto":
            return self._colour == "always"
        plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
        return not plain and stream.isatty()

    @property
    def live(self) -> bool:
        """Whether moving progress bars make sense."""
        return sys.stderr.isatty() and not self.quiet and not self.as_json

    def say(self, text: str = "") -> None:
        """Print one line of progress or advice to stderr, unless quiet."""
        if not self.quiet:
            # In one piece: print() writes the end of the line by itself, and devices are many.
            sys.stderr.write(f"{text}\n")

    def result(self, text: str, data: dict[str, Any], code: ExitCode = ExitCode.DONE) -> int:
        """Print a verb's result (text, or ``data`` as the JSON document); return ``code``."""
        if self.as_json:
            self._document({"ok": code == ExitCode.DONE, "exit_code": int(code), **data})
        elif text:
            print(text)
        return int(code)

    def diagnostics(self, found: Iterable[Diagnostic]) -> None:
        """Print findings to stderr."""
        for item in found:
            text = render(item)
            if self.colours_on(sys.stderr):
                head, _, rest = text.partition(":")
                text = click.style(head, fg=COLOURS[item.severity], bold=True) + f":{rest}"
            print(text, file=sys.stderr)
            self.annotate(item)

    def annotate(self, item: Diagnostic) -> None:
        """Print a finding as an annotation to stderr, where they are asked for."""
        if self.annotations != "github":
            return
        from edgedeploy.errors.annotations import annotation

        print(annotation(item, os.environ.get("GITHUB_WORKSPACE")), file=sys.stderr)

    def failure(self, error: EdgedeployError) -> int:
        """Print a typed failure; return its exit status."""
        code = error.exit_code
        if self.as_json:
            data: dict[str, Any] = {
                "ok": False,
                "exit_code": int(code),
                "diagnostics": [item.to_json() for item in error.diagnostics],
            }
            if isinstance(error, DeviceError):
                data["retryable"] = error.retryable
            self._document(data)
        self.diagnostics(error.diagnostics)
        return int(code)

    def interrupted(self, code: ExitCode) -> int:
        """Say that the run was ended from outside; return ``code``."""
        if self.as_json:
            self._document({"ok": False, "exit_code": int(code), "diagnostics": []})
        print("interrupted; what was finished is kept", file=sys.stderr)
        return int(code)

    def _document(self, data: dict[str, Any]) -> None:
        print(json.dumps({"schema": JSON_SCHEMA, **data}, ensure_ascii=False, indent=1))


def verb(function: Callable[..., int]) -> Callable[..., int]:
    """Add the options of every verb; ``function`` gets an :class:`Output` first."""

    @functools.wraps(function)
    def run(**options: Any) -> int:
        output = Output(
            as_json=options.pop("as_json"),
            debug=options.pop("debug"),
            quiet=options.pop("quiet"),
            verbose=options.pop("verbose"),
            colour=options.pop("colour"),
            annotations=options.pop("annotations"),
        )
        return function(output, **options)

    colours = click.Choice(["auto", "always", "never"])
    forms = click.Choice(["github"])
    for option in (
        click.option("--annotations", type=forms, help="Print findings also as CI annotates them."),
        click.option("--color", "colour", type=colours, default="auto", help="Colour stderr."),
        click.option("--debug", is_flag=True, help="Print traces of failures."),
        click.option("-q", "--quiet", is_flag=True, help="Print results and errors only."),
        click.option("-v", "--verbose", is_flag=True, help="Print more."),
        click.option("--json", "as_json", is_flag=True, help="Print one JSON document."),
    ):
        run = option(run)
    return run
