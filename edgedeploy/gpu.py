"""What an engine is tied to: the GPU, its driver and the TensorRT that built it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from edgedeploy.manifest import digest

_WORDS = re.compile(r"[^a-z0-9]+")
_ID_DIGITS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuPlatform:
    """A machine as far as it decides which engines it builds and loads.

    Source: NVIDIA TensorRT documentation, "Engine portability": an engine is specific to the
    TensorRT version, the platform (operating system and architecture) and the GPU it was built on.

    Attributes:
        system: ``linux``.
        arch: ``x86-64`` or ``arm64``.
        gpu: Name as its driver or the device tree gives it, such as ``Orin``.
        compute_capability: ``major.minor``, such as ``8.7``.
        tensorrt: Version, such as ``10.3.0`` or ``10.3.0.30``.
        driver: Version of the driver; None where it does not say (a Jetson's comes with L4T).
        cuda: Version of the CUDA runtime, None where it does not say.
        jetpack: L4T release of a Jetson, such as ``R36.4.3``; None elsewhere.
        simulated: Whether something else stands for the builder there: what it makes is no engine,
            and never mixes with what a GPU made.
    """

    system: str
    arch: str
    gpu: str
    compute_capability: str
    tensorrt: str
    driver: str | None = None
    cuda: str | None = None
    jetpack: str | None = None
    simulated: bool = False

    @property
    def id(self) -> str:
        """A name for folders: equal for equal platforms, such as ``orin-sm87-trt10.3.0-0123...``.

        It ends with 12 hexadecimal digits of :attr:`digest`.
        """
        gpu = _WORDS.sub("-", self.gpu.lower()).strip("-")[:40] or "gpu"
        sm = "sm" + self.compute_capability.replace(".", "")
        return f"{gpu}-{sm}-trt{self.tensorrt}-{self.digest[:_ID_DIGITS]}"

    @property
    def digest(self) -> str:
        """SHA-256 (64 hexadecimal digits) over all fields."""
        return digest("gpu-platform", self.to_json())

    def to_json(self) -> dict[str, Any]:
        """Return the platform as JSON data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> GpuPlatform:
        """Return the platform that :meth:`to_json` wrote."""
        return cls(**data)

    def in_words(self) -> str:
        """Return it as messages name it, such as ``TensorRT 10.3.0 for Orin (SM87)``."""
        sm = self.compute_capability.replace(".", "")
        return f"TensorRT {self.tensorrt} for {self.gpu} (SM{sm})"
