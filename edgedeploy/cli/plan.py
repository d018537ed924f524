"""``edgedeploy plan``: what a build would do and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgedeploy.cli.output import Output, verb
from edgedeploy.cli.request import profile_options, request_of
from edgedeploy.engines import is_built_on_device
from edgedeploy.executor import Builder, Node
from edgedeploy.memory import Memory
from edgedeploy.opening import open_profile
from edgedeploy.places import default_store_path
from edgedeploy.plan import Item, Plan
from edgedeploy.profile.expand import expand
from edgedeploy.store import Store


@click.command()
@profile_options
@click.option("--expand", "show_form", is_flag=True, help="Print the expanded profile instead.")
@click.option("--store", type=click.Path(path_type=Path), help="Store folder (EDGEDEPLOY_STORE).")
@verb
def command(output: Output, show_form: bool, store: Path | None, **options: Any) -> int:
    """Show every stage of PROFILE: hit, or why it must run; runs nothing.

    Candidates behind the first run only if a gate refuses those before them.
    """
    request = request_of(options)
    plan, notes = open_profile(request)
    output.diagnostics(notes)
    if show_form:
        return _form(output, plan)
    opened = Store(store or default_store_path())
    memory = Memory.of(opened, request.profile)
    builder = Builder(opened, plan.profile.folder.absolute(), known=memory.components)
    needed = _needed(plan)
    stages = [
        {
            "id": node.id,
            "kind": node.kind,
            "why": builder.explain(node),
            "spare": node not in needed,
        }
        for node in plan.nodes()
    ] + [_engine(item) for item in plan.items if is_built_on_device(item)]
    lines = [
        f"{'hit ' if stage['why'] == 'hit' else 'spare' if stage['spare'] else 'run ':<5}  "
        f"{stage['id']}" + ("" if stage["why"] == "hit" else f"  ({stage['why']})")
        for stage in stages
    ]
    return output.result("\n".join(lines), {"stages": stages})


def _engine(item: Item) -> dict[str, Any]:
    """Return the row of an item's engines: how many there will be, its devices say."""
    base = item.candidates[0].compiled.id.rpartition(".")[0]
    why = f"unknown until the devices of {item.target.board} are probed"
    return {"id": f"{base}.engine", "kind": "engine", "why": why, "spare": False}


def _form(output: Output, plan: Plan) -> int:
    import yaml

    form = expand(plan.profile, plan.targets)
    text = yaml.safe_dump(form, sort_keys=False, allow_unicode=True, width=100)
    return output.result(text.rstrip("\n"), {"expanded": form})


def _needed(plan: Plan) -> set[Node]:
    """Return the nodes that run whatever the gates say: those of first candidates."""
    firsts = plan.first_choices()
    return set(firsts.nodes())
