"""Builds one engine in a process of its own: ``python -I -S onebuild.py job.json``, and ends.

Engines of equal inputs are equal only if the builder starts from equal memory: TensorRT for RTX
1.7.1 orders some tensors by their addresses, and a build that failed changes those after it in the
same process. So every engine has its own process, and in it a new thread, whose allocator has an
arena that nothing was ever freed in.

The job is JSON data:
    paths: Folders that the builder's packages lie in.
    model: Path of the typed graph, relative to the working folder, so that it reads alike anywhere.
    engine: Path that the engine is written to.
    result: Path of the answer.
    capabilities: Names of the builder's, such as ``SM89``.
    profiles: One per optimisation profile: input name -> ``[min, opt, max]`` shapes.
    flags: Flags of the builder to set; all others of its own are cleared.
    workspace: Bytes of scratch memory that a kernel may use on the GPU; null for no limit.
    details: Whether the engine keeps what an inspector shows of its layers.

The answer:
    stage: ``parse``, ``profile`` or ``build``, where it failed; null where it did not.
    errors: The parser's: ``node`` (its number, or -1), ``name``, ``op``, ``text``, ``check``.
    messages: ``[severity, text]``, the last ones that were no mere progress.
    shape_inputs: Inputs whose values decide on shapes.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections import deque
from collections.abc import Mapping
from typing import Any

MOST_MESSAGES = 64
LONGEST_MESSAGE = 1000
STACK_BYTES = 64 << 20


def main(place: str) -> None:
    """Run the job in a file."""
    # Python ignores it: the limit of a file's size would be told as some error of a write.
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    with open(place, encoding="utf-8") as file:
        job = json.load(file)
    sys.path += job["paths"]
    import tensorrt_rtx_bindings as trt

    # A stack for graphs that are walked node by node, deeper than a thread's usual one.
    threading.stack_size(STACK_BYTES)
    made: list[dict[str, Any]] = []
    thread = threading.Thread(target=lambda: made.append(build(trt, job)))
    thread.start()
    thread.join()
    if not made:
        sys.exit(1)
    with open(job["result"], "w", encoding="utf-8") as file:
        json.dump(made[0], file)


def build(trt: Any, job: Mapping[str, Any]) -> dict[str, Any]:
    """Build the engine of a job; return its answer."""
    logger = listener(trt)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    answer: dict[str, Any] = {"stage": None, "errors": [], "shape_inputs": []}
    if not parser.parse_from_file(job["model"]):
        answer.update(stage="parse", errors=parser_errors(parser))
    else:
        inputs = [network.get_input(place) for place in range(network.num_inputs)]
        answer["shape_inputs"] = [item.name for item in inputs if item.is_shape_tensor]
        config = configure(trt, builder, job)
        if config is None or answer["shape_inputs"]:
            answer["stage"] = "profile"
        else:
            engine = builder.build_serialized_network(network, config)
            if engine is None:
                answer["stage"] = "build"
            else:
                with open(job["engine"], "wb") as file:
                    file.write(engine)
    answer["messages"] = list(logger.kept)
    return answer


def configure(trt: Any, builder: Any, job: Mapping[str, Any]) -> Any:
    """Return the configuration; None where a profile is not accepted."""
    config = builder.create_builder_config()
    config.flags = sum(1 << int(getattr(trt.BuilderFlag, name)) for name in job["flags"])
    config.num_compute_capabilities = len(job["capabilities"])
    for place, name in enumerate(job["capabilities"]):
        config.set_compute_capability(getattr(trt.ComputeCapability, name), place)
    if job["workspace"] is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, job["workspace"])
    if job["details"]:
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    for shapes in job["profiles"]:
        profile = builder.create_optimization_profile()
        for name, (low, best, high) in shapes.items():
            profile.set_shape(name, low, best, high)
        if config.add_optimization_profile(profile) < 0:
            return None
    return config


def parser_errors(parser: Any) -> list[dict[str, Any]]:
    """Return what a parser refused, in its order, as an answer tells it."""
    found = []
    for place in range(parser.num_errors):
        error = parser.get_error(place)
        found.append(
            {
                "node": error.node(),
                "name": error.node_name(),
                "op": error.node_operator(),
                "text": error.desc()[:LONGEST_MESSAGE],
                "check": error.func(),
            }
        )
    return found


def listener(trt: Any) -> Any:
    """Return a logger that keeps the last messages that are no mere progress."""

    class Listener(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.kept: deque[list[str]] = deque(maxlen=MOST_MESSAGES)

        def log(self, severity: Any, text: str) -> None:
            if severity.name not in ("VERBOSE", "INFO"):
                self.kept.append([severity.name.lower(), text[:LONGEST_MESSAGE]])

    return Listener()


if __name__ == "__main__":
    main(sys.argv[1])
