"""The tools that ``benchmarks/quantize.py`` compares, each in the process that called this.

Every onnxruntime session that a tool opens gets one thread without spinning, whatever the tool
asks for: the time of a waiting thread says nothing of the tool.
"""

from __future__ import annotations

import importlib
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnxruntime.capi.onnxruntime_pybind11_state import RuntimeException

from edgedeploy.data.pack import PackReader
from edgedeploy.quant import by_nncf

MEMORY_BYTES = 10 << 30
"""What a stock histogram calibrator may take; more would take it from the whole machine."""

OURS = {
    "ours min-max": "minmax",
    "ours entropy": "entropy",
    "ours percentile": "percentile-99.999",
}
"""Kind -> its range method. The last two come from one collection."""

STOCK = {
    "stock min-max": "MinMax",
    "stock entropy": "Entropy",
    "stock percentile": "Percentile",
}
"""Kind -> its CalibrationMethod."""

OUR_TENSORS = ", our tensors"
"""Ending of a stock kind that collects what ours collects, and makes no model."""

_IMPORTS = {
    "plain": (),
    "ours": ("edgedeploy.quant.calibrate", "edgedeploy.quant.qdq"),
    "stock": ("onnxruntime.quantization",),
    "nncf": ("onnx",),
}
_Options = onnxruntime.SessionOptions


def _one_thread() -> Any:
    options = _Options()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4
    return options


onnxruntime.SessionOptions = _one_thread


def _session(model: Path | bytes) -> Any:
    return onnxruntime.InferenceSession(model, _one_thread(), providers=["CPUExecutionProvider"])


@dataclass
class Reader:
    """A pack as onnxruntime's calibrators want it (a ``CalibrationDataReader``)."""

    samples: Iterator[Any]

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the inputs of the next sample, None after the last."""
        sample = next(self.samples, None)
        return sample and sample.tensors()

    def __iter__(self) -> Reader:
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        given = self.get_next()
        if given is None:
            raise StopIteration
        return given


def watched(kind: str, model: Path, pack: Path) -> set[str]:
    """Return the names of the tensors that a kind measures."""
    if kind in STOCK:
        calibrator = _calibrator(kind, model, pack)
        return set(calibrator.select_tensors_to_calibrate(calibrator.model)[0])
    import onnx_ir as ir

    from edgedeploy.quant.calibrate import watched_values
    from edgedeploy.quant.layers import find_layers

    graph = ir.load(model).graph
    return {str(value.name) for value in watched_values(graph, find_layers(graph)).values()}


def plain(model: Path, pack: Path) -> None:
    """Run the samples one by one, all optimisations on."""
    session = _session(model)
    for sample in PackReader(pack):
        session.run(None, sample.tensors())


def collect_ours(kind: str, model: Path, pack: Path) -> None:
    """Write our calibration table."""
    from edgedeploy.quant.calibrate import calibrate

    calibrate(model, pack, pack / "table.json", histograms=kind != "ours min-max")


def collect_stock(kind: str, model: Path, pack: Path, names: set[str]) -> None:
    """Run a stock calibrator over some tensors."""
    calibrator = _calibrator(kind, model, pack)
    _, infos = calibrator.select_tensors_to_calibrate(calibrator.model)
    calibrator.select_tensors_to_calibrate = lambda model: (names, infos)
    calibrator.augment_graph()
    calibrator.create_inference_session()
    calibrator.collect_data(Reader(iter(PackReader(pack))))
    calibrator.compute_data()


def _calibrator(kind: str, model: Path, pack: Path) -> Any:
    from onnxruntime.quantization import calibrate as stock

    make = getattr(stock, f"{STOCK[kind]}Calibrater")
    return make(model, augmented_model_path=str(pack / "augmented.onnx"))


def whole_ours(kind: str, model: Path, pack: Path, made: Path) -> None:
    """Calibrate and write the QDQ model of the scheme for ONNX Runtime."""
    from edgedeploy.quant.calibrate import calibrate
    from edgedeploy.quant.qdq import quantize
    from edgedeploy.quant.scheme import Scheme

    table = calibrate(model, pack, pack / "table.json", histograms=kind != "ours min-max")
    made.mkdir()
    quantize(model, table, Scheme(ranges=OURS[kind]), made)


def whole_stock(kind: str, model: Path, pack: Path, made: Path) -> None:
    """Run quantize_static with the types that are fast on x86-64 and arm64."""
    from onnxruntime import quantization as stock

    made.mkdir()
    stock.quantize_static(
        model,
        made / "model.onnx",
        Reader(iter(PackReader(pack))),
        per_channel=True,
        activation_type=stock.QuantType.QUInt8,
        weight_type=stock.QuantType.QInt8,
        calibrate_method=stock.CalibrationMethod[STOCK[kind]],
    )


def whole_nncf(model: Path, pack: Path, made: Path) -> None:
    """Run NNCF on the ONNX model, over all samples."""
    import onnx

    nncf = by_nncf.load_nncf()
    samples = PackReader(pack)
    data = nncf.Dataset(samples, lambda sample: sample.tensors())
    quantized = nncf.quantize(onnx.load(model), data, subset_size=len(samples))
    made.mkdir()
    onnx.save(quantized, made / "model.onnx")


def measured(part: str, kind: str, model: Path, pack: Path, made: Path) -> dict[str, Any]:
    """Do one piece of work and return what it took.

    Args:
        part: ``collect`` (up to the ranges) or ``whole`` (up to the written model).
        kind: ``plain``, ``nncf``, or one of :data:`OURS` or :data:`STOCK`, the latter perhaps with
            :data:`OUR_TENSORS`.
        model: The float model.
        pack: The samples.
        made: Folder to make for a whole tool's model.

    Returns:
        CPU seconds and seconds without imports, peak resident memory in MiB, and the number of
        measured tensors; ``{"failed": why}`` where memory ran out.
    """
    restricted = kind.endswith(OUR_TENSORS)
    kind = kind.removesuffix(OUR_TENSORS)
    for name in _IMPORTS[kind.partition(" ")[0]]:
        importlib.import_module(name)
    names: set[str] = set()
    if part == "collect" and kind != "plain":
        names = watched("ours" if restricted else kind, model, pack)
    if kind == "nncf":
        by_nncf.load_nncf()
    if kind in STOCK:
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    jobs: dict[tuple[str, str], Callable[[], None]] = {
        ("collect", "plain"): lambda: plain(model, pack),
        ("collect", "ours"): lambda: collect_ours(kind, model, pack),
        ("collect", "stock"): lambda: collect_stock(kind, model, pack, names),
        ("whole", "ours"): lambda: whole_ours(kind, model, pack, made),
        ("whole", "stock"): lambda: whole_stock(kind, model, pack, made),
        ("whole", "nncf"): lambda: whole_nncf(model, pack, made),
    }
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    try:
        jobs[part, kind.partition(" ")[0]]()
    except (MemoryError, RuntimeException):
        if kind not in STOCK:
            raise
        return {"failed": f"needs more than {MEMORY_BYTES >> 30} GiB"}
    return {
        "cpu_s": time.process_time() - cpu_s,
        "wall_s": time.perf_counter() - wall_s,
        "peak_mib": peak_mib(),
        "tensors": len(names),
    }


def peak_mib() -> float:
    """Return this program's peak resident memory.

    Not ``ru_maxrss``, which a process inherits from the one that started it.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def closeness(model: Path, quantized: Path, pack: Path) -> dict[str, float]:
    """Compare a quantized model with the float one.

    Returns:
        Mean cosine of their outputs, share of equal top classes, and bytes of the file.
    """
    sessions = [_session(model), _session(quantized)]
    cosines, equal = [], []
    for sample in PackReader(pack):
        given = sample.tensors()
        truth, found = (session.run(None, given)[0].reshape(-1) for session in sessions)
        norms = np.linalg.norm(truth) * np.linalg.norm(found)
        cosines.append(float(truth @ found / norms))
        equal.append(int(truth.argmax() == found.argmax()))
    return {
        "cosine": float(np.mean(cosines)),
        "agreement": float(np.mean(equal)),
        "size_bytes": quantized.stat().st_size,
    }


def deviations(model: Path, pack: Path) -> list[float]:
    """Return, for each tensor, how far the 99.99 % range is from the exact one, by its width."""
    import onnx_ir as ir

    from edgedeploy.quant.calibrate import calibrate

    table = calibrate(model, pack, pack / "table.json")
    loaded = ir.load(model)
    values = {str(value.name): value for node in loaded.graph for value in node.outputs}
    names = [name for name in table.tensors if name in values]
    for name in names:
        if values[name] not in loaded.graph.outputs:
            values[name].type = ir.TensorType(ir.DataType.FLOAT)
            loaded.graph.outputs.append(values[name])
    session = _session(ir.to_proto(loaded).SerializeToString())
    found = []
    for name in names:  # one at a time: all elements of all tensors would not fit
        parts = [session.run([name], s.tensors())[0].reshape(-1) for s in PackReader(pack)]
        exact = np.quantile(np.concatenate(parts), [0.0001, 0.9999])
        low, high = table.range_of(name, "percentile-99.99", symmetric=False)
        width = max(float(exact[1] - exact[0]), 1e-12)
        found.append(max(abs(low - exact[0]), abs(high - exact[1])) / width)
    return found
