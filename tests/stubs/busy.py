"""The joining stage with hardly any CPU time."""

from edgedeploy.stage import Limits, StageKind
from tests.stubs.join import run

STAGE = StageKind(kind="tests.stubs.busy", run=run, outputs=("text",), limits=Limits(cpu_s=1))
