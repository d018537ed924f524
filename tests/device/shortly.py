"""``python -m tests.device.shortly``: the command line as it is, but every measurement is short.

For tests that ask what becomes of a measurement; how steady one is, its length decides.
"""

from edgedeploy.bench import job
from edgedeploy.cli.main import main

PLAN = job.BenchPlan(
    warmup_max_s=0.2, window_s=0.02, min_s=0.2, min_count=16, max_s=60, layer_runs=1
)

if __name__ == "__main__":
    job.PLANS = dict.fromkeys(job.PLANS, PLAN)
    main()
