"""``edgedeploy check``: what is wrong with a profile, and what a code means."""

from __future__ import annotations

import functools
import textwrap
from typing import Any

import click

from edgedeploy.cli.output import Output, verb
from edgedeploy.cli.request import profile_options, request_of
from edgedeploy.errors import UsageError
from edgedeploy.opening import open_profile


@click.command()
@functools.partial(profile_options, required=False)
@click.option("--explain", metavar="CODE", help="Explain a diagnostic code, such as E104.")
@verb
def command(output: Output, explain: str | None, **options: Any) -> int:
    """Check PROFILE, its targets, models and data sources; run nothing."""
    if explain:
        return _explain(output, explain)
    if options["profile"] is None:
        raise UsageError("no profile is given", code="E100", hint="`edgedeploy check profile.yaml`")
    request = request_of(options)
    plan, notes = open_profile(request)
    output.diagnostics(notes)
    names = ", ".join(use.target for use in plan.profile.targets)
    models = ", ".join(plan.profile.models)
    text = f"{plan.profile.name}: sound; models {models}; targets {names}"
    return output.result(text, {"notes": [item.to_json() for item in notes]})


def _explain(output: Output, code: str) -> int:
    from edgedeploy.errors.codes import catalogue

    known = catalogue()
    found = known.get(code.upper())
    if found is None:
        raise UsageError(
            f"there is no diagnostic code {code!r}",
            code="E100",
            hint="codes look like E104; docs/diagnostics.md lists them",
        )
    text = f"{code.upper()}: {found.title}\n\n{textwrap.fill(found.text, 80)}"
    return output.result(text, {"code": code.upper(), "title": found.title, "text": found.text})
