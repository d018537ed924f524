"""Stage ``engine``: what a device's TensorRT makes of a program; it runs there, not in a worker.

Params: ``options``, those of the program's backend; ``platform``, the device's
(:class:`edgedeploy.gpu.GpuPlatform` as JSON data). Input ``program``: the artifact of ``compile``.
Output ``engine``: ``model.engine`` and ``engine.json``, its provenance; output ``report``:
``layers.json``, what the builder made of the layers, and ``build.log``.
"""

from __future__ import annotations

from edgedeploy.stage import StageKind

STAGE = StageKind(kind="engine", run=None, outputs=("engine", "report"))
