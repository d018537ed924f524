"""The joining stage with hardly any time."""

from edgedeploy.stage import Limits, StageKind
from tests.stubs.join import run

STAGE = StageKind(
    kind="tests.stubs.brief", run=run, outputs=("text",), limits=Limits(deadline_s=0.7)
)
