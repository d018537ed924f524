"""Stage ``engine``: what a device's TensorRT makes of a program; it runs there, not in a worker.

Params: ``options``, those of the program's backend; ``platform``, the device's
(:class:`edgedeploy.gpu.GpuPlatform` as JSON data). Input ``program``: the artifact of ``compile``.
Output ``engine``: ``model.engine`` and ``engine.json``, its provenance; output ``report``:
``layers.json``, what the builder made of the layers, and ``build.log``.

``layers.json`` is :meth:`edgedeploy.backends.trt.inspector.EngineLayers.to_json`, the same for
every version of TensorRT::

    {"schema": 1, "detail": "full" | "names" | "none",
     "layers": [{"name", "kind", "nodes": [NAME, ...], "within": [FIRST, LAST] | null,
                 "inputs": [{"name", "dims": [1, 8] | null, "dtype", "layout"}], "outputs": [...],
                 "dtype": "int8" | null, "device": "gpu" | "dla" | null, "kernel"}]}

Its layers are those of the first optimisation profile, in order of execution; ``nodes`` are nodes
of ``program/model.onnx``. An engine that tells nothing has ``none`` and no layers.
"""

from __future__ import annotations

from edgedeploy.stage import StageKind

STAGE = StageKind(kind="engine", run=None, outputs=("engine", "report"))
