"""The ``ov`` backend: OpenVINO IR, from float, fp16 or QDQ models."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgedeploy.backends import FAMILIES
from edgedeploy.backends.base import (
    Arithmetic,
    Backend,
    CompiledFile,
    CompileReport,
    LayerTime,
    NodePlacement,
    Placement,
    ProviderPlacement,
    Ranges,
    Words,
    checked_options,
)
from edgedeploy.backends.inputs import Inputs
from edgedeploy.backends.ov import convert
from edgedeploy.backends.ov.arithmetic import arithmetic
from edgedeploy.backends.ov.runner import SIGNATURE, OvRunner, fusion_limits
from edgedeploy.backends.ov.runtime import load_runtime
from edgedeploy.errors import BuildError, Diagnostic

BLOB = "model.blob"
PLACEMENT = "placement.json"
DEVICES = ("CPU", "GPU", "NPU")

_OPTIONS: Mapping[str, Any] = {
    "device": DEVICES,
    "half_weights": False,
    "dims": {},
    "blob": False,
    "precision": ("f32", "bf16", "f16"),
}


class OpenVino:
    """OpenVINO; an :class:`edgedeploy.backends.base.Backend`."""

    name = "ov"
    version = 2
    tools = FAMILIES["openvino"].tools
    reads = FAMILIES["openvino"].reads
    options: Mapping[str, str] = {
        "device": "CPU (default), GPU or NPU: where the artifact is to run",
        "half_weights": "store float32 constants as float16 (default false): for fp16 artifacts",
        "dims": "input name -> one entry per axis: a size, [low, high] or null",
        "blob": "also write the compiled form for this machine's own device (default false)",
        "precision": "f32 (default), bf16 or f16: what the device may compute in when run here",
    }

    def preflight(self, model: Path, fields: Mapping[str, Any]) -> Placement:
        """Return what each device takes of the converted model.

        A device that is not in this machine is not judged: only its plugin knows.
        """
        try:
            converted = convert.read_onnx(model)
        except BuildError as error:
            return Placement(providers=(), diagnostics=error.diagnostics)
        return _place(converted, _device(fields.get("board.processor")))

    def compile(
        self,
        model: Path,
        folder: Path,
        options: Mapping[str, Any],
        fields: Mapping[str, Any],
        *,
        ranges: Ranges | None = None,
        words: Words | None = None,
    ) -> CompileReport:
        """Write the IR, its signature and the placement, and on request the blob.

        Dims with a range are bounded in the IR; the option ``dims`` overrides it by input.

        The same inputs give the same bytes, whatever the process or folder (the blob apart).

        Raises:
            BuildError: An option that does not exist (E310), an operator or node that cannot be
                converted (E320, E321), dynamic shapes for the NPU (E322), dims that do not fit
                (E323), a blob for a device that is not here (E324), or string tensors (E325).
        """
        chosen = checked_options(
            {"device": _device(fields.get("board.processor")), **options}, _OPTIONS
        )
        device = chosen["device"]
        converted = convert.read_onnx(model)
        dims = {**convert.ranged_inputs(model, ranges or {}), **chosen["dims"]}
        convert.bind_dims(converted, dims)
        signature = convert.onnx_signature(model, converted)
        placement = _place(converted, device)
        refused = [item for item in placement.diagnostics if item.severity == "error"]
        if refused:
            raise BuildError(refused)
        places = convert.write_ir(converted, model, folder, half_weights=chosen["half_weights"])
        _write_json(folder / SIGNATURE, signature.to_json())
        _write_json(folder / PLACEMENT, placement.to_json())
        files = [
            CompiledFile(path=convert.MODEL, role="model"),
            CompiledFile(path=convert.WEIGHTS, role="weights", tensors=places),
            CompiledFile(path=SIGNATURE, role="signature"),
            CompiledFile(path=PLACEMENT, role="placement"),
        ]
        notes = []
        if chosen["blob"]:
            _write_blob(folder, device, chosen["precision"])
            files.append(CompiledFile(path=BLOB, role="blob", release=False))
            notes.append("the blob runs with this machine's device and OpenVINO version only")
        OvRunner(folder).close()
        kinds = Counter(op.get_type_name() for op in converted.get_ordered_ops())
        return CompileReport(
            entry=convert.MODEL,
            files=tuple(files),
            notes=(*notes, *_half_precision_notes(converted)),
            metadata={
                "format": "openvino-ir",
                "device": device,
                "half_weights": chosen["half_weights"],
                "kernels": dict(sorted(kinds.items())),
                "fake_quantize": kinds["FakeQuantize"],
            },
        )

    def runner(
        self, folder: Path, *, threads: int = 1, options: Mapping[str, Any] | None = None
    ) -> OvRunner:
        """Return the artifact compiled on this machine's CPU, or on the device asked for.

        Raises:
            BuildError: It does not load (E317), or the device is not in this machine (E324).
        """
        chosen = checked_options(options or {}, _OPTIONS)
        return OvRunner(
            folder, device=chosen["device"], threads=threads, precision=chosen["precision"]
        )

    def layer_times(
        self,
        folder: Path,
        inputs: Inputs,
        *,
        threads: int = 1,
        repeats: int = 10,
        options: Mapping[str, Any] | None = None,
    ) -> list[LayerTime]:
        """Return the mean time of every executed layer, in order of execution.

        Source: OpenVINO's performance counters; layers that were optimised out are left out.

        Raises:
            BuildError: It does not load (E317) or run (E330-E333), or the device is not in this
                machine (E324).
        """
        chosen = checked_options(options or {}, _OPTIONS)
        device = chosen["device"]
        totals: dict[tuple[str, str, str], float] = {}
        with OvRunner(
            folder, device=device, threads=threads, precision=chosen["precision"], count_time=True
        ) as runner:
            runner.run(inputs)
            for _ in range(repeats):
                runner.run(inputs)
                for record in runner.profile():
                    if str(record.status).endswith(".EXECUTED"):
                        key = (record.node_name, record.node_type, record.exec_type)
                        spent_ms = record.real_time.total_seconds() * 1000.0
                        totals[key] = totals.get(key, 0.0) + spent_ms
        return [
            LayerTime(name=name, op=op, provider=f"{device} {kernel}", mean_ms=total / repeats)
            for (name, op, kernel), total in totals.items()
        ]

    def arithmetic(
        self, folder: Path, inputs: Inputs, *, options: Mapping[str, Any] | None = None
    ) -> Arithmetic:
        """Return what this machine's CPU, or the device asked for, computes on integers.

        Raises:
            BuildError: It does not load (E317), or the device is not in this machine (E324).
        """
        chosen = checked_options(options or {}, _OPTIONS)
        return arithmetic(folder, inputs, device=chosen["device"], precision=chosen["precision"])


def _device(value: Any) -> str:
    return str(value).upper() if value else DEVICES[0]


def _write_json(path: Path, data: Any) -> None:
    text = json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8", newline="\n")


def _write_blob(folder: Path, device: str, precision: str) -> None:
    core = load_runtime().Core()
    if device not in core.available_devices:
        raise BuildError(
            f"this machine has no {device} to compile a blob for",
            code="E324",
            subject=device,
            hint="leave blob off, or build on a machine that has the device",
        )
    compiled = core.compile_model(
        str(folder / convert.MODEL), device, {"INFERENCE_PRECISION_HINT": precision}
    )
    (folder / BLOB).write_bytes(compiled.export_model().getvalue())


def _half_precision_notes(converted: Any) -> list[str]:
    half = any(
        op.get_output_size() and op.get_output_element_type(0).to_string() == "f16"
        for op in converted.get_ordered_ops()
        if op.get_type_name() != "Constant"
    )
    if half:
        return ["the CPU computes float16 operations in float32; float16 is fast on GPU and NPU"]
    return []


def _place(converted: Any, device: str) -> Placement:
    runtime = load_runtime()
    core = runtime.Core()
    named = [
        (name, op)
        for name, op in convert.stable_names(converted)
        if op.get_type_name() not in ("Parameter", "Constant", "Result")
    ]
    here = core.available_devices
    dynamic = {
        port.get_any_name(): str(port.get_partial_shape())
        for port in converted.inputs
        if port.get_partial_shape().is_dynamic
    }
    providers = tuple(
        _query(core, converted, named, item, runtime.__version__)
        if item in here
        else _not_judged(item, "none", f"this machine has no {item}, and only its plugin can tell")
        for item in DEVICES
    )
    if device != "NPU":
        return Placement(providers=providers)
    return Placement(
        providers=providers,
        diagnostics=tuple(
            Diagnostic(
                code="E322",
                message=f"the NPU takes fixed shapes; input {name!r} has {shape}",
                subject=name,
                hint="give every dim one value, or a list of buckets",
            )
            for name, shape in dynamic.items()
        ),
    )


def _not_judged(device: str, source: str, why: str) -> ProviderPlacement:
    return ProviderPlacement(
        provider=device,
        judged=False,
        partitions=None,
        nodes=(),
        source=source,
        notes=(f"not judged: {why}",),
    )


def _query(core: Any, converted: Any, named: Any, device: str, version: str) -> ProviderPlacement:
    source = f"query_model of OpenVINO {version}"
    try:
        taken = core.query_model(converted, device, fusion_limits(converted, device))
    except RuntimeError as error:
        return _not_judged(device, source, " ".join(str(error).split()))
    nodes = tuple(
        NodePlacement(
            node=name,
            op=f"openvino:{op.get_type_name()}",
            supported=op.get_friendly_name() in taken,
            reason=None if op.get_friendly_name() in taken else "the plugin does not take it",
        )
        for name, op in named
    )
    supported = [node.supported for node in nodes]
    pieces = sum(
        now and not before for before, now in zip([False, *supported], supported, strict=False)
    )
    return ProviderPlacement(
        provider=device,
        judged=True,
        partitions=pieces,
        nodes=nodes,
        source=source,
    )


BACKEND: Backend = OpenVino()
