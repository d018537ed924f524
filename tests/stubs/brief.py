"""The joining stage with hardly any time."""

from edgedeploy.stage import Limits, StageKind
from tests.stubs.join import run

STAGE = StageKind(
    kind="tests.stubs.brief", run=run, outputs=("text",), limits=Limits(cpu_s=1, deadline_s=1.5)
)
