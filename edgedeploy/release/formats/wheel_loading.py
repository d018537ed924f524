"""What every wheel of models does at run time: pick the artifact for the machine, load it, run it.

A copy of this file lies in each wheel as ``_loading.py``: Python 3.9, NumPy, and the runtime when
a model is loaded. What is particular to a release stands in the wheel's ``__init__.py``.
"""

# ruff: noqa: B905 - zip() cannot be strict before Python 3.10

from __future__ import annotations

import hashlib
import importlib
import os
import platform
import re
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

_RUNTIMES = {"ort": "onnxruntime", "openvino": "openvino"}
_VOUCHERS = ("manifest.json", "manifest.dsse.json")
_MACHINES = {"amd64": "x86-64", "x86_64": "x86-64", "aarch64": "arm64", "armv7l": "armv7"}
_VERSION = re.compile(r"(>=|<=|==|!=|>|<)\s*([0-9]+(?:\.[0-9]+)*)")
_RELATIONS: Mapping[str, Callable[[Any, Any], bool]] = {
    ">=": lambda one, other: one >= other,
    "<=": lambda one, other: one <= other,
    "==": lambda one, other: one == other,
    "!=": lambda one, other: one != other,
    ">": lambda one, other: one > other,
    "<": lambda one, other: one < other,
}


class UnsuitableMachineError(RuntimeError):
    """No artifact of the release can be chosen for this machine; the message says why."""


@dataclass(frozen=True)
class Variant:
    """What the release holds for one target.

    Attributes:
        target: ``board/runtime``.
        os, arch: Where it runs, as edgedeploy names them.
        runtime: Id of the runtime.
        versions: Which of its versions, such as ``>=1.17``.
        entries: What the runtime opens, by model: paths below ``release/``.
        devices: Device of the runtime, by model; one that is not here: the processor.
    """

    target: str
    os: str
    arch: str
    runtime: str
    versions: str
    entries: Mapping[str, str]
    devices: Mapping[str, str]


@dataclass(frozen=True)
class Tensor:
    """An input or output: name in the graph, NumPy dtype, and a size or a text per axis."""

    name: str
    dtype: str
    shape: tuple[Any, ...]


def machine() -> tuple[str, str]:
    """Return operating system and processor of this interpreter, as edgedeploy names them."""
    name = platform.machine().lower()
    arch = _MACHINES.get(name, name)
    if arch == "arm64" and struct.calcsize("P") == 4:
        arch = "armv7"  # a 32-bit Python on a 64-bit kernel
    if hasattr(sys, "getandroidapilevel"):
        return "android", arch
    return {"darwin": "macos", "win32": "windows"}.get(sys.platform, sys.platform), arch


def choose(variants: Sequence[Variant], model: str, target: str | None = None) -> Variant:
    """Return the variant of a model for this machine.

    Args:
        variants: Of the release.
        model: Name of the model.
        target: Take this target; else the first runtime that is installed decides.

    Raises:
        UnsuitableMachineError: None is for this machine, no runtime for it is installed, or several
            boards have an artifact of their own and ``target`` does not say which this is.
    """
    holding = [variant for variant in variants if model in variant.entries]
    here = machine()
    fitting = [
        variant
        for variant in holding
        if (variant.os, variant.arch) == here and target in (None, variant.target)
    ]
    if not fitting:
        known = ", ".join(f"{item.target} ({item.os} {item.arch})" for item in holding)
        wanted = "" if target is None else f" and the target {target}"
        raise UnsuitableMachineError(
            f"there is no artifact of {model} for {' '.join(here)}{wanted}; there are: {known}"
        )
    reasons = []
    for runtime in dict.fromkeys(variant.runtime for variant in fitting):
        of_it = [variant for variant in fitting if variant.runtime == runtime]
        wrong = _unusable(of_it[0])
        if wrong:
            reasons.append(wrong)
            continue
        if len({(item.entries[model], item.devices.get(model)) for item in of_it}) > 1:
            names = ", ".join(repr(item.target) for item in of_it)
            raise UnsuitableMachineError(
                f"{model} has an artifact of its own for each of these boards: say which this is "
                f"with target=, one of {names}"
            )
        return of_it[0]
    raise UnsuitableMachineError("; ".join(reasons))


def _unusable(variant: Variant) -> str:
    """Return why the runtime of a variant cannot be used here; empty if it can."""
    name = _RUNTIMES[variant.runtime]
    try:
        version = str(_module(name).__version__)
    except ImportError as error:
        return f"{name} cannot be imported ({error}): install {name}{variant.versions}"
    if not _allows(variant.versions, version):
        return f"{name} {version} is installed, and {variant.target} needs {variant.versions}"
    return ""


def _module(name: str) -> Any:
    """Import a runtime; neither may send anything on behalf of this package."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    if name == "openvino":
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    return importlib.import_module(name)


def _allows(versions: str, version: str) -> bool:
    found = _numbers(re.split(r"[^0-9.]", version, maxsplit=1)[0])
    return all(
        _RELATIONS[relation](*_padded(found, _numbers(wanted)))
        for relation, wanted in _VERSION.findall(versions)
    )


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part)


def _padded(one: tuple[int, ...], other: tuple[int, ...]) -> list[tuple[int, ...]]:
    length = max(len(one), len(other))
    return [item + (0,) * (length - len(item)) for item in (one, other)]


class Model:
    """A loaded model; the classes of the package say what goes in and out.

    Args:
        target: Take the artifact of this target, such as ``"rpi5/ort"``; else what suits the
            machine and the runtime that is installed.
        threads: That the runtime may use; 0: as many as it likes.

    Raises:
        UnsuitableMachineError: There is no artifact for this machine, or no runtime for it.
    """

    _model: ClassVar[str]
    _inputs: ClassVar[tuple[Tensor, ...]]
    _outputs: ClassVar[tuple[Tensor, ...]]
    _variants: ClassVar[tuple[Variant, ...]]

    def __init__(self, *, target: str | None = None, threads: int = 0) -> None:
        variant = choose(self._variants, self._model, target)
        path = str(_folder() / variant.entries[self._model])
        self.target = variant.target
        open_it = {"ort": _open_ort, "openvino": _open_openvino}[variant.runtime]
        device = variant.devices.get(self._model, "CPU")
        self._call = open_it(path, device, threads, [item.name for item in self._outputs])

    def _run(self, *values: Any) -> list[Any]:
        feed = {}
        for tensor, value in zip(self._inputs, values):
            _check(tensor, value)
            feed[tensor.name] = value
        return self._call(feed)


def _check(tensor: Tensor, value: Any) -> None:
    import numpy as np

    dtype = np.dtype(object if tensor.dtype == "string" else tensor.dtype)
    if not isinstance(value, np.ndarray) or value.dtype != dtype:
        found = getattr(value, "dtype", type(value).__name__)
        raise TypeError(f"the input {tensor.name} is an array of {dtype}, not of {found}")
    fits = len(value.shape) == len(tensor.shape)
    for size, wanted in zip(value.shape, tensor.shape):
        low, _, high = str(wanted).partition("..")
        if isinstance(wanted, int):
            fits = fits and size == wanted
        elif high.isdigit():
            fits = fits and int(low) <= size <= int(high)
    if not fits:
        shape = ", ".join(map(str, tensor.shape))
        raise ValueError(f"the input {tensor.name} has shape {list(value.shape)}, not [{shape}]")


_Call = Callable[[Mapping[str, Any]], list[Any]]


def _open_ort(path: str, device: str, threads: int, outputs: Sequence[str]) -> _Call:
    runtime = _module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda feed: list(session.run(list(outputs), dict(feed)))


def _open_openvino(path: str, device: str, threads: int, outputs: Sequence[str]) -> _Call:
    # By itself it computes in bfloat16 where the processor can: other outputs than were accepted.
    settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    if threads and device == "CPU":
        settings["INFERENCE_NUM_THREADS"] = threads
    core = _module("openvino").Core()
    request = core.compile_model(path, device, settings).create_infer_request()

    def call(feed: Mapping[str, Any]) -> list[Any]:
        request.infer(dict(feed))
        # Copied: the tensors belong to the request, and the next call overwrites them.
        return [request.get_output_tensor(at).data.copy() for at in range(len(outputs))]

    return call


def _folder() -> Path:
    return Path(__file__).parent / "release"


def verify(*public_keys: str) -> dict[str, Any]:
    """Check that a key vouches for this package's files, every byte of them, and that none is gone.

    The code of the package is none of the signed files: who can change that can change this check.

    Args:
        public_keys: Files of the Ed25519 keys (PEM) that are believed.

    Returns:
        ``digest`` of the release, and ``signers``: ids of the keys.

    Raises:
        VerifyError: The signature is not right, or a file is missing or another than was signed;
            the first that is wrong is named.
        OSError: A file cannot be read.
    """
    checker, folder = importlib.import_module(f"{__package__}._verify"), _folder()
    held = {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if not path.is_dir()
    }
    for name in _VOUCHERS:
        if name not in held:
            raise checker.VerifyError("E735", "it is missing", name)
    keys = [checker.read_key(path) for path in public_keys]
    found = checker.signed(*(held[name].read_bytes() for name in _VOUCHERS), keys)
    listed = {item["path"]: item for item in found["release"]["files"]}
    for name, path in held.items():
        if name in _VOUCHERS:
            continue
        if name not in listed:
            raise checker.VerifyError("E735", "nobody signed it", name)
        if hashlib.sha256(path.read_bytes()).hexdigest() != listed[name]["sha256"]:
            raise checker.VerifyError("E735", "its content is another", name)
    for name, item in listed.items():
        if name not in held and _belongs(name, item["role"]):
            raise checker.VerifyError("E735", "it is missing", name)
    return {"digest": found["digest"], "signers": found["signers"]}


def _belongs(path: str, role: str) -> bool:
    """Return whether a file of the release is one of this package's, as its variants say."""
    if role not in ("model", "weights", "interface"):
        return role != "golden"
    variants = importlib.import_module(str(__package__))._VARIANTS
    entries = (entry for variant in variants for entry in variant.entries.values())
    return any(path.startswith(f"{entry.rpartition('/')[0]}/") for entry in entries)
