"""Where the windows of convolutions and poolings lie: strides, dilations, pads, ``auto_pad``.

Pads are made explicit wherever sizes are known, because MIL's own words for ``same`` padding leave
out the stride (https://apple.github.io/coremltools/source/coremltools.converters.mil.mil.ops.defs.html,
``conv``). The arithmetic is that of ONNX's Conv, ConvTranspose and the pools.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgedeploy.backends.apple.mil_api import is_symbolic
from edgedeploy.backends.apple.node import Node


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """Windows over the spatial axes of a value; one entry per axis.

    Attributes:
        sizes: Sizes of the input; symbols where they are open.
        kernel: Taps.
        strides: Steps.
        dilations: Distances between taps.
        pads: Elements before and after; empty where ``same`` padding meets open sizes.
        same: MIL's word where ``pads`` is empty: ``same`` or ``same_lower``.
        overhang: Elements after the padded input that the last window of ``ceil_mode`` reaches.
    """

    sizes: tuple[Any, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    same: str = ""
    overhang: tuple[int, ...] = ()

    @property
    def extents(self) -> tuple[int, ...]:
        """How far one window reaches on each axis."""
        return tuple(
            (taps - 1) * step + 1 for taps, step in zip(self.kernel, self.dilations, strict=True)
        )

    @property
    def dilated(self) -> bool:
        """Whether taps lie apart anywhere."""
        pairs = zip(self.kernel, self.dilations, strict=True)
        return any(taps > 1 and step > 1 for taps, step in pairs)

    @property
    def open(self) -> bool:
        """Whether a size is known only at run time."""
        return any(map(is_symbolic, self.sizes))

    def padding(self) -> dict[str, Any]:
        """Return the parameters that tell MIL the pads, what hangs over included."""
        if not self.pads:
            return {"pad_type": self.same}
        over = self.overhang or (0,) * len(self.pads)
        flat = [
            size
            for (before, after), more in zip(self.pads, over, strict=True)
            for size in (before, after + more)
        ]
        if not any(flat):
            return {"pad_type": "valid"}
        return {"pad_type": "custom", "pad": flat}

    def outputs(self) -> tuple[int, ...]:
        """Return the number of windows on each axis; sizes must be known."""
        over = self.overhang or (0,) * len(self.pads)
        return tuple(
            (size + before + after + more - extent) // stride + 1
            for size, (before, after), more, extent, stride in zip(
                self.sizes, self.pads, over, self.extents, self.strides, strict=True
            )
        )


def windows(node: Node, sizes: Sequence[Any], kernel: Sequence[int]) -> Windows:
    """Return the windows that a node's attributes describe.

    Args:
        node: A convolution or pooling.
        sizes: Spatial sizes of its input.
        kernel: Taps on each axis.

    Raises:
        Refusal: Attributes of other lengths, or negative pads.
    """
    rank = len(sizes)
    strides = tuple(node.attribute("strides") or [1] * rank)
    dilations = tuple(node.attribute("dilations") or [1] * rank)
    given = node.attribute("pads") or [0] * (2 * rank)
    if {len(kernel), len(strides), len(dilations), len(given) // 2} != {rank}:
        node.refuse(f"attributes that do not fit {rank} spatial axes", "repair the model")
    if min(given) < 0:
        node.refuse("negative pads", "crop with a Slice instead")
    made = Windows(
        sizes=tuple(sizes),
        kernel=tuple(kernel),
        strides=strides,
        dilations=dilations,
        pads=tuple(zip(given[:rank], given[rank:], strict=True)),
    )
    auto = node.attribute("auto_pad", "NOTSET")
    if auto == "VALID":
        made = replace(made, pads=((0, 0),) * rank)
    if auto in ("VALID", "NOTSET"):
        return made
    return _same(node, made, lower=auto == "SAME_LOWER")


def check_reach(node: Node, found: Windows) -> None:
    """Refuse windows that are larger than the padded input; ``same`` padding makes none."""
    for size, pads, extent in zip(found.sizes, found.pads, found.extents, strict=False):
        if not is_symbolic(size) and size + sum(pads) < extent:
            node.refuse("a window larger than the padded input", "repair the model")


def _same(node: Node, made: Windows, *, lower: bool) -> Windows:
    """Return windows padded so that there are ``ceil(size / stride)``."""
    pads, fixed = [], True
    for size, stride, extent in zip(made.sizes, made.strides, made.extents, strict=True):
        total = extent - stride  # where strides divide the size: no size needs less
        if is_symbolic(size):
            fixed = fixed and stride == 1
        else:
            total = (-(-size // stride) - 1) * stride + extent - size
        if total < -1 and node.op != "ConvTranspose":
            node.refuse(
                "auto_pad with strides that leave elements out, some of which ONNX Runtime "
                "leaves out in front",
                "give pads",
            )
        total = max(total, 0)
        small = total // 2
        pads.append((total - small, small) if lower else (small, total - small))
    if not fixed:
        return replace(made, pads=(), same="same_lower" if lower else "same")
    return replace(made, pads=tuple(pads))


def hung_over(made: Windows) -> Windows:
    """Return pooling windows for ``ceil_mode``: as many as start before the end padding.

    Source: ONNX MaxPool-22 and AveragePool-22 ("sliding windows that would start in the right
    padded region are ignored"). Sizes must be known.
    """
    over = []
    for size, (before, after), stride, extent in zip(
        made.sizes, made.pads, made.strides, made.extents, strict=True
    ):
        count = -(-(size + before + after - extent) // stride) + 1
        if (count - 1) * stride >= size + before:
            count -= 1
        over.append(max(0, (count - 1) * stride + extent - (size + before + after)))
    return replace(made, overhang=tuple(over))
