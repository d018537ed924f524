"""Static 8-bit quantization by NNCF, for OpenVINO: its ranges, choice of nodes, bias correction.

NNCF is an optional package; nothing else here needs it.
"""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from edgedeploy.data.pack import PackReader
from edgedeploy.errors import BuildError, DataError
from edgedeploy.quant.layers import load_checked
from edgedeploy.quant.qdq import QuantizeReport, nothing_to_quantize
from edgedeploy.quant.scheme import Scheme
from edgedeploy.quant.selection import check_patterns
from edgedeploy.quant.session import open_session, sample_inputs, zero_state
from edgedeploy.quant.storage import save
from edgedeploy.runner import StateCarrier

Q, DQ = "QuantizeLinear", "DequantizeLinear"


def load_nncf() -> Any:
    """Return the nncf module, imported so that it reports nothing to anybody.

    It sends events as soon as the package ``openvino_telemetry`` can be imported, so that import is
    made to fail; NNCF then takes its own silent stub.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import nncf

    nncf.set_log_level(logging.ERROR)
    return nncf


def quantize_by_nncf(
    model: Path,
    samples: Path,
    folder: Path,
    *,
    state: Sequence[tuple[str, str]] = (),
    keep_float: Sequence[str] = (),
    keep_float_ops: Sequence[str] = (),
) -> QuantizeReport:
    """Write ``folder/model.onnx``, the QDQ form that NNCF makes of ``model``.

    Args:
        model: ONNX model in the normal form, its scales and shifts folded into weights.
        samples: Tensor pack folder; all of its samples are run.
        folder: Existing folder; big models also get ``model.data`` there.
        state: ``(input, output)`` names of state that is carried along each sequence of the pack.
        keep_float: Names or glob patterns of nodes that stay in float.
        keep_float_ops: Op types that stay in float.

    Returns:
        What became integer; of what did not, NNCF gives no reasons.

    Raises:
        ModelError: Nothing was quantized (E262), or see ``layers.load_checked``.
        ProfileError: A ``keep_float`` pattern matches no node (E266).
        DataError: There is no sample (E260), or the model does not run on one (E267).
        BuildError: NNCF failed (E275).
    """
    graph = load_checked(model).graph
    kept = Scheme(keep_float=tuple(keep_float), keep_float_ops=tuple(keep_float_ops))
    check_patterns(graph, kept)
    ignored = [
        str(node.name)
        for node in graph
        if node.op_type in kept.keep_float_ops or kept.keeps(str(node.name))
    ]
    feeds = _Feeds(model, samples, state)
    nncf = load_nncf()
    try:
        quantized = nncf.quantize(
            onnx.load(model),
            nncf.Dataset(feeds),
            subset_size=len(feeds),
            ignored_scope=nncf.IgnoredScope(names=ignored),
        )
    except DataError:
        raise
    except Exception as error:  # many undocumented types
        raise BuildError(
            f"NNCF does not quantize the model: {' '.join(str(error).split())[:2000]}",
            code="E275",
            subject=model.name,
            hint="list what it names in `keep_float`, or leave `method: nncf` out",
        ) from error
    made = ir.from_proto(quantized)
    report = _report(made.graph)
    if not report.quantized:
        raise nothing_to_quantize(())
    save(made, folder)
    return report


class _Feeds:
    """The inputs of every sample, as often as NNCF asks; state comes from the float model."""

    def __init__(self, model: Path, samples: Path, state: Sequence[tuple[str, str]]) -> None:
        self._pack = PackReader(samples)
        if not len(self._pack):
            raise DataError(
                "there is no calibration sample",
                code="E260",
                hint="Name at least one sample under `data: calibrate` in the profile.",
            )
        self._state = tuple(state)
        self._session = open_session(ir.load(model), model.parent)
        self._inputs = [item.name for item in self._session.get_inputs()]

    def __len__(self) -> int:
        return len(self._pack)

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        carrier: StateCarrier | None = None
        kept = [made for _, made in self._state]
        for sample in self._pack:
            inputs = sample_inputs(sample, self._inputs, [given for given, _ in self._state])
            if carrier is None:
                carrier = StateCarrier(self._state, zero_state(self._session, self._state, inputs))
            feed = carrier.feed(inputs, sample.sequence)
            yield feed
            if kept:
                carrier.keep(dict(zip(kept, self._run(feed, kept, sample.id), strict=True)))

    def _run(self, feed: dict[str, np.ndarray], kept: list[str], name: str) -> list[np.ndarray]:
        try:
            return list(self._session.run(kept, feed))
        except Exception as error:  # the runtime raises many undocumented types
            raise DataError(
                f"the model does not run on calibration sample {name!r}: {error}",
                code="E267",
                subject=name,
                hint="Check the shapes and dtypes of the calibration data against the inputs.",
            ) from error


def _report(graph: ir.Graph) -> QuantizeReport:
    """Return the nodes that read a dequantized value and do not only pass it on."""
    found = [
        node
        for node in graph
        if node.op_type not in (Q, DQ)
        and any(
            value is not None and (producer := value.producer()) and producer.op_type == DQ
            for value in node.inputs
        )
    ]
    return QuantizeReport(
        quantized=tuple(str(node.name) for node in found),
        kept=(),
        ops=dict(Counter(node.op_type for node in found)),
        activations=sum(node.op_type == Q for node in graph),
    )
