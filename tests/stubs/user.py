"""A stage that calls ``file.py:function`` of the user's project and keeps what it says."""

import importlib.util

from edgedeploy.stage import Made, StageKind, Work


def run(work: Work) -> Made:
    work.observe()
    file, _, name = work.params["function"].partition(":")
    spec = importlib.util.spec_from_file_location("_user", work.project / file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (work.outputs["text"] / "text").write_text(str(getattr(module, name)()))
    return Made()


STAGE = StageKind(kind="tests.stubs.user", run=run, outputs=("text",))
