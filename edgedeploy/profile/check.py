"""What can be said of a profile together with its targets, before any model is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from edgedeploy.config.nearest import advice, shorten
from edgedeploy.config.units import UnitError, size_bytes
from edgedeploy.errors import Diagnostic, Severity
from edgedeploy.profile.dims import format_dim
from edgedeploy.profile.types import DataRole, DimSpec, ModelSpec, Profile, TargetUse
from edgedeploy.profile.unbuilt import QUANTIZE_MODES
from edgedeploy.target.host import is_this_machine
from edgedeploy.target.types import Target

CALIBRATED = ("w8a8", "w8a16", "fp8")
"""Quantize modes that need calibration data."""

NOT_BY_NNCF = (
    "symmetric_activations",
    "per_channel",
    "activation_dtype",
    "weight_bits",
    "ranges",
    "rounding",
    "bias_correction",
    "smooth",
)
"""Keys of ``quantize`` that NNCF decides itself."""

INTEGERS_ALONE = tuple(key for key in NOT_BY_NNCF if key not in ("per_channel", "ranges"))
"""Keys of ``quantize`` that shape integers."""


def cross_check(profile: Profile, targets: Mapping[str, Target]) -> list[Diagnostic]:
    """Return what does not fit between the profile and its targets; notes hinder nothing.

    Args:
        profile: The profile.
        targets: Every target that the profile names, by id.
    """
    found: list[Diagnostic] = []
    for use in profile.targets:
        target = targets[use.target]
        found.extend(_quantize(use, target, profile))
        found.extend(_options(use, target))
        found.extend(_gates(use, target, profile))
        for model in profile.models.values():
            found.extend(_dims(use, target, model))
    return _with_snippets(found, profile) if found else found


def _with_snippets(found: list[Diagnostic], profile: Profile) -> list[Diagnostic]:
    """Return the findings with the lines of the profile that they point at."""
    try:
        lines = profile.file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeError):
        return found  # the profile may come from its expanded form, its file gone
    return [
        replace(item, snippet=lines[item.place.line - 1])
        if item.place is not None
        and item.place.file == str(profile.file)
        and item.place.line <= len(lines)
        else item
        for item in found
    ]


def _at(
    use: TargetUse, code: str, message: str, hint: str, severity: Severity = "error"
) -> Diagnostic:
    return Diagnostic(
        code=code,
        message=message,
        severity=severity,
        place=use.place,
        subject=use.target,
        hint=hint,
    )


def _quantize(use: TargetUse, target: Target, profile: Profile) -> Iterator[Diagnostic]:
    mode = use.quantize.mode
    legal = [item for item in target.get("runtime.quantize") if item not in QUANTIZE_MODES]
    if mode != "auto" and mode not in legal:
        yield _at(
            use,
            "E161",
            f"`{use.target}` cannot take `quantize: {mode}`",
            "use one of " + ", ".join(f"`{item}`" for item in ("auto", *legal)),
        )
    if use.quantize.rounding == "second-order":
        yield from _rounding(use, profile)
    if mode == "fp8":
        yield from _float8(use)
    scheme = target.get("runtime.scheme") or {}
    for key in scheme.get("fixed", ()):
        given = getattr(use.quantize, key)
        if given is not None and given != scheme[key]:
            yield _at(
                use,
                "E161",
                f"`{use.target}` cannot take `{key}: {_word(given)}`",
                f"write `{key}: {_word(scheme[key])}`, or leave it out",
            )
    if use.quantize.method == "nncf":
        yield from _nncf(use, target, profile)
    if mode in CALIBRATED:
        for model in profile.models.values():
            if "calibrate" not in {**_fed(profile), **model.data}:
                yield _at(
                    use,
                    "E147",
                    f"`quantize: {mode}` needs data to calibrate the model `{model.name}` on",
                    "add `data: {calibrate: ...}`, or use `quantize: fp16`",
                )


def _fed(profile: Profile) -> Mapping[str, DataRole]:
    """Return the data of a model without its own: what the pipeline feeds it."""
    return {} if profile.pipeline is None else profile.pipeline.data


def _rounding(use: TargetUse, profile: Profile) -> Iterator[Diagnostic]:
    """A calibration table stands for its samples in all but second-order rounding."""
    for model in profile.models.values():
        data = model.data.get("calibrate")
        if data is not None and data.tables is not None:
            yield _at(
                use,
                "E166",
                f"`rounding: second-order` needs samples, and the model `{model.name}` has a table",
                "name the samples, or leave `rounding` out",
            )


def _float8(use: TargetUse) -> Iterator[Diagnostic]:
    """Floats of 8 bits have one form; what shapes integers says nothing of them."""
    for key in INTEGERS_ALONE:
        if getattr(use.quantize, key) is not None:
            message = f"`quantize: fp8` does not take `{key}`, which is about integers"
            yield _at(use, "E161", message, f"leave `{key}` out, or write `mode: w8a8`")


def _nncf(use: TargetUse, target: Target, profile: Profile) -> Iterator[Diagnostic]:
    """NNCF makes one form, for one runtime, and decides itself what our keys decide."""
    if target.runtime != "openvino":
        hint = "leave `method` out, or override it under the OpenVINO target alone"
        yield _at(use, "E165", f"`{use.target}` cannot take `method: nncf`", hint)
        return
    if use.quantize.mode != "w8a8":
        message = f"`method: nncf` cannot make `quantize: {use.quantize.mode}`"
        yield _at(use, "E165", message, "write `mode: w8a8`, or leave `method` out")
    for model in profile.models.values():
        data = model.data.get("calibrate")
        if data is not None and data.tables is not None:
            message = f"`method: nncf` needs samples, and the model `{model.name}` has a table"
            yield _at(use, "E165", message, "name the samples, or leave `method` out")
    for key in NOT_BY_NNCF:
        if getattr(use.quantize, key) is not None:
            message = f"`method: nncf` does not take `{key}`"
            yield _at(use, "E165", message, f"leave `{key}` out, or `method`")


def _word(value: bool | str) -> str:
    return str(value).lower() if isinstance(value, bool) else value


def _options(use: TargetUse, target: Target) -> Iterator[Diagnostic]:
    known: Mapping[str, Mapping[str, Any]] = target.get("runtime.options") or {}
    refused: Mapping[str, str] = target.get("runtime.refused_options") or {}
    for name, value in use.options.items():
        if name in refused:
            message = f"`{target.runtime}` does not take the option `{name}`: {refused[name]}"
            yield _at(use, "E162", message, "remove it")
        elif name not in known:
            yield _at(
                use,
                "E162",
                f"`{target.runtime}` has no option `{shorten(name)}`",
                advice(name, list(known)),
            )
        else:
            yield from _value(use, target, name, value, known[name])


def _value(
    use: TargetUse, target: Target, name: str, value: object, option: Mapping[str, Any]
) -> Iterator[Diagnostic]:
    """Yield what is wrong with the value of an option that exists."""
    message = f"the option `{name}` of `{target.runtime}` cannot be `{shorten(value)}`"
    kind = option["type"]
    if kind == "choice":
        if value not in option["values"]:
            yield _at(use, "E163", message, advice(str(value), option["values"]))
    elif kind == "size":
        try:
            size_bytes(value)
        except UnitError as error:
            yield _at(use, "E163", f"{message}: {error}", error.hint)
    elif type(value) is not {"bool": bool, "int": int, "text": str}[kind]:
        yield _at(use, "E163", message, f"write a value of type {kind}")
    elif isinstance(value, int) and option.get("within"):
        least, most = option["within"]
        if not least <= value <= most:
            yield _at(use, "E163", message, f"write a number from {least} to {most}")


def _gates(use: TargetUse, target: Target, profile: Profile) -> Iterator[Diagnostic]:
    # With a pipeline, the metric gate holds the combination.
    for model in profile.models.values() if profile.pipeline is None else ():
        wanted = [
            what
            for what, given in (
                ("`metric`", model.metric),
                ("`data: {evaluate: ...}`", model.data.get("evaluate")),
            )
            if given is None
        ]
        for what, gate in (
            ("metric", use.gates.metric),
            ("worst_class", use.gates.worst_class),
        ):
            if gate is not None and wanted:
                yield _at(
                    use,
                    "E148",
                    f"the {what} gate cannot be judged for the model `{model.name}`",
                    f"add {' and '.join(wanted)}, or remove the gate",
                )
    machine_gates = [
        name
        for name, given in (
            ("latency", use.gates.latency_ms),
            ("memory", use.gates.memory_bytes),
            ("energy", use.gates.energy_j),
        )
        if given
    ]
    if machine_gates and not is_this_machine(target):
        hint = "bench on the device (`edgedeploy bench -d DEVICE`) to have it judged"
        if target.get("board.os") == "ios":
            hint = "iPhones are measured with Xcode on a Mac alone, in an app or by its reports"
        yield _at(
            use,
            "E164",
            f"{' and '.join(machine_gates)} of `{use.target}` will not be judged on this machine",
            hint,
            severity="note",
        )


def _dims(use: TargetUse, target: Target, model: ModelSpec) -> Iterator[Diagnostic]:
    shapes = target.get("runtime.shapes")
    given: list[tuple[str, DimSpec]] = list(model.dims.items())
    for name, item in model.inputs.items():
        for axis, dim in enumerate(item.shape or ()):
            if isinstance(dim, DimSpec):
                given.append((f"{name}[{axis}]", dim))
    for name, dim in given:
        form = "fixed" if dim.fixed is not None else "buckets" if dim.buckets else "range"
        if form in shapes:
            continue
        yield _at(
            use,
            "E160",
            f"`{use.target}` cannot take the {form} `{format_dim(dim)}` of the dim `{name}`",
            "use a size (`8`)" + (" or buckets (`[160, 320]`)" if "buckets" in shapes else ""),
        )
