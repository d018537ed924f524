"""The float reference: a plain ONNX model in ONNX Runtime with graph optimisation off."""

from __future__ import annotations

from pathlib import Path

from edgedeploy.backends.ortmobile.runner import OrtRunner, load_runtime, session_options


def reference_runner(model: Path, *, threads: int = 1) -> OrtRunner:
    """Return a runner that computes every node as it is written.

    Without optimisation nothing is fused and QDQ pairs stay pairs around float operators, so that
    the result is what the graph says and not what a kernel makes of it.

    Args:
        model: ``model.onnx``, with its external data beside it.
        threads: Intra-op threads; 1 also fixes the order of sums.

    Raises:
        BuildError: The runtime does not load it (E317), or an input or output is no tensor (E318).
    """
    runtime = load_runtime()
    options = session_options(threads, {})
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.use_deterministic_compute = True
    return OrtRunner(model, options)
