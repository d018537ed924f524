"""The profile that ``edgedeploy init model.onnx`` writes: valid, with the model's real inputs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePath

from edgedeploy.signature import Signature, TensorSpec
from edgedeploy.tasks import guess_tasks

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_WORDS = frozenset(["true", "false", "null", "on", "off", "yes", "no", "y", "n"])
_IMAGE_CHANNELS = (1, 3)
_GUESSED_SIZE = 64
_GUESSED_PIXELS = 224


def starter_profile(model_path: str, signature: Signature, metadata: Mapping[str, str]) -> str:
    """Return the text of a starter profile.

    Args:
        model_path: Path of the ONNX file, relative to where the profile will lie.
        signature: The model's inputs and outputs.
        metadata: The model's metadata properties; a ``license`` or ``licence`` entry is taken over.
    """
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", PurePath(model_path).stem).strip("-._") or "model"
    dims: dict[str, tuple[int, str]] = {}
    inputs = [line for spec in signature.inputs for line in _input(spec, dims)]
    licence = metadata.get("license") or metadata.get("licence")
    lines = [
        "# A deployment profile: what to ship, where to, and what is acceptable.",
        "# All keys: docs/profile.md.  Check it: edgedeploy check.  Build it: edgedeploy build.",
        "edgedeploy: 1",
        f"name: {_text(stem)}",
        "",
        "model:",
        f"  source: {_text(model_path)}",
    ]
    lines += _task(signature, metadata)
    if licence and licence.isprintable():
        lines.append(f"  licence: {_text(licence)}")
    if dims:
        lines.append(
            "  dims:  # sizes of the model's open dims; a range (1..64) or buckets also do"
        )
        lines += [f"    {_text(k)}: {size}  # {why}" for k, (size, why) in dims.items()]
    if inputs:
        lines += ["  inputs:", *inputs]
    names = ", ".join(_quoted(spec.name) for spec in signature.outputs)
    lines += [f"  # outputs: {names}", "", *_TAIL]
    return "\n".join(lines) + "\n"


_TAIL = """\
# Data and a metric let accuracy be judged and int8 be tried (on two different sets of data).
# data:
#   calibrate: data/calibrate   # folder of images, WAV or .npz files, or file.py:function
#   evaluate: {source: data/evaluate, labels: data/labels.csv}
# metric: top1                  # or f1, map, cer, wer, mse, cosine, agreement, file.py:function

quantize: none                  # change to auto as soon as there is data to calibrate on
# gates: {metric: -1 pt, size: 4 MB, latency: {p50: 20 ms}}
bench: quick

targets:                        # `edgedeploy targets list` shows all
  - linux-x86-64/ort
  # - rpi5/ort
  # - intel-cpu/openvino
""".splitlines()


def _task(signature: Signature, metadata: Mapping[str, str]) -> Iterator[str]:
    """Yield the line of the task: in force where the metadata tells it, else as a proposal."""
    found = guess_tasks(signature, metadata)
    names = found["sure"] or found["perhaps"]
    if len(found["sure"]) == 1:
        yield f"  task: {names[0]}  # metric, decoder and gates: edgedeploy plan --expand"
    else:
        more = f" or {', '.join(names[1:])}" if names[1:] else ""
        why = f"{more} by its shapes" if names else ", or another of docs/tasks.md"
        yield f"  # task: {names[0] if names else 'classify'}  #{why}: metric, decoder and gates"


def _input(spec: TensorSpec, dims: dict[str, tuple[int, str]]) -> Iterator[str]:
    """Yield the lines of one input; open dims get an entry in ``dims``."""
    if spec.dims is None:
        yield f"    {_text(spec.name)}: {{}}  # {spec.dtype} of unknown rank: give its shape"
        return
    axes = [_axis(spec, axis, dims) for axis in range(len(spec.dims))]
    yield f"    {_text(spec.name)}:  # {spec.dtype}"
    yield f"      shape: [{', '.join(axes)}]"
    sizes = [dims[a][0] if a in dims else s for a, s in zip(axes, spec.dims, strict=True)]
    if spec.dtype == "float32" and len(spec.dims) == 4:
        if spec.dims[1] in _IMAGE_CHANNELS:
            yield _image(sizes[2], sizes[3], "nchw", spec.dims[1])
        elif spec.dims[3] in _IMAGE_CHANNELS:
            yield _image(sizes[1], sizes[2], "nhwc", spec.dims[3])


def _image(height: object, width: object, layout: str, channels: object) -> str:
    colour = "gray" if channels == 1 else "rgb"
    size = f"[{_number(height)}, {_number(width)}]"
    return f"      # image: {{size: {size}, layout: {layout}, colour: {colour}, scale: 1/255}}"


def _number(size: object) -> object:
    return size if isinstance(size, int) else _GUESSED_PIXELS


def _axis(spec: TensorSpec, axis: int, dims: dict[str, tuple[int, str]]) -> str:
    """Return one entry of a shape; an open dim is named and gets a size."""
    dim = (spec.dims or ())[axis]
    if isinstance(dim, int) and dim > 0:
        return str(dim)
    name = dim if isinstance(dim, str) and dim.strip() and ".." not in dim else None
    if name is None or not name.isprintable():
        name = f"{re.sub(r'[^A-Za-z0-9_]', '_', spec.name)}_axis{axis}"
    rank = len(spec.dims or ())
    if axis == 0 and rank > 1:
        guess = (1, "the batch: one sample per call")
    elif rank == 4 and spec.dtype == "float32":
        guess = (_GUESSED_PIXELS, "a guess: write what your application feeds")
    else:
        guess = (_GUESSED_SIZE, "a guess: write what your application feeds")
    dims.setdefault(name, guess)
    return _text(name)


def _text(value: str) -> str:
    """Return a text as a YAML scalar, quoted where it could be read as something else."""
    plain = _PLAIN.fullmatch(value) and value.lower() not in _WORDS
    return value if plain else _quoted(value)


def _quoted(value: str) -> str:
    """Return a text in double quotes, unprintable characters as YAML escapes."""
    shown = (
        f"\\{char}" if char in '"\\' else char if char.isprintable() else f"\\U{ord(char):08x}"
        for char in value
    )
    return '"' + "".join(shown) + '"'
