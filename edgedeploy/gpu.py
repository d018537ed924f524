"""What an engine is tied to, and whether a machine can load it: said before anything is loaded.

Sources of the rules: NVIDIA TensorRT documentation, "Engine Compatibility" (11.1) and "Support
Matrix: Engine Portability" (11.4); NVIDIA TensorRT for RTX documentation, "Engine Compatibility"
and "CPU-Only AOT and TensorRT-RTX Engines".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Protocol

from edgedeploy.manifest import digest

_WORDS = re.compile(r"[^a-z0-9]+")
_ID_DIGITS = 12

Runtime = Literal["tensorrt", "tensorrt-rtx"]
"""The two runtimes that load engines; neither loads those of the other."""

Hardware = Literal["none", "ampere+", "same-compute-capability"]
"""TensorRT's ``HardwareCompatibilityLevel`` that an engine was built with."""

RUNTIMES: frozenset[str] = frozenset({"tensorrt", "tensorrt-rtx"})
"""Every :data:`Runtime`."""

_NAMES: Mapping[str, str] = {"tensorrt": "TensorRT", "tensorrt-rtx": "TensorRT for RTX"}

# Pairs of major versions across which version-compatible engines load. Source: Support Matrix of
# TensorRT 11.4, Engine Portability, which says that there are no others.
_ACROSS = frozenset({(8, 10), (10, 11)})

_AMPERE = 8.0


class Machine(Protocol):
    """A machine as far as it decides which engines it loads."""

    @property
    def system(self) -> str:
        """``linux``."""

    @property
    def arch(self) -> str:
        """``x86-64`` or ``arm64``."""

    @property
    def gpu(self) -> str:
        """Name of its GPU."""

    @property
    def compute_capability(self) -> str:
        """``major.minor``."""

    @property
    def driver(self) -> str | None:
        """Version of the driver, None where it does not say."""

    @property
    def jetpack(self) -> str | None:
        """L4T release of a Jetson; None elsewhere."""

    @property
    def simulated(self) -> bool:
        """Whether something else stands for its TensorRT."""


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
        return (
            f"{gpu}-{sm(self.compute_capability).lower()}-trt{self.tensorrt}"
            f"-{self.digest[:_ID_DIGITS]}"
        )

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
        return f"TensorRT {self.tensorrt} for {self.gpu} ({sm(self.compute_capability)})"

    def refuses(
        self,
        engine: GpuPlatform,
        *,
        version_compatible: bool = False,
        hardware: Hardware = "none",
    ) -> str | None:
        """Return why this machine does not load an engine, in words; None when it does.

        Args:
            engine: The platform that built it.
            version_compatible: Whether it was built version-compatible.
            hardware: The hardware compatibility that it was built with.
        """
        needs = EngineNeeds.of(engine, version_compatible=version_compatible, hardware=hardware)
        return needs.unmet(self, self.tensorrt)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineNeeds:
    """What an engine asks of the machine that loads it; travels with it in a version's manifest.

    Attributes:
        runtime: What loads it.
        version: Of the runtime that built it.
        system: ``linux``.
        arch: ``x86-64`` or ``arm64``.
        compute_capabilities: Of the GPUs that it holds code for.
        gpu: Name of the GPU that built it; None for one that was built without.
        driver: Version of the driver then, None where it did not say.
        jetpack: L4T release of the Jetson that built it; None elsewhere.
        version_compatible: Whether newer versions load it too.
        hardware: Which other GPUs load it too.
        simulated: Whether something else stood for TensorRT: it is no engine.
    """

    runtime: Runtime
    version: str
    system: str
    arch: str
    compute_capabilities: tuple[str, ...]
    gpu: str | None = None
    driver: str | None = None
    jetpack: str | None = None
    version_compatible: bool = False
    hardware: Hardware = "none"
    simulated: bool = False

    @classmethod
    def of(
        cls,
        platform: GpuPlatform,
        *,
        version_compatible: bool = False,
        hardware: Hardware = "none",
    ) -> EngineNeeds:
        """Return the needs of an engine that TensorRT built on a platform."""
        return cls(
            runtime="tensorrt",
            version=platform.tensorrt,
            system=platform.system,
            arch=platform.arch,
            compute_capabilities=(platform.compute_capability,),
            gpu=platform.gpu,
            driver=platform.driver,
            jetpack=platform.jetpack,
            version_compatible=version_compatible,
            hardware=hardware,
            simulated=platform.simulated,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the needs as JSON data."""
        return {**asdict(self), "compute_capabilities": list(self.compute_capabilities)}

    @classmethod
    def from_json(cls, data: Any) -> EngineNeeds:
        """Return the needs that :meth:`to_json` wrote, checked: a device may have sent them.

        Raises:
            ValueError: They are none.
        """
        if not isinstance(data, dict) or data.keys() != {field.name for field in fields(cls)}:
            raise ValueError("missing or unknown fields")
        words = ("runtime", "version", "system", "arch", "hardware")
        optional = ("gpu", "driver", "jetpack")
        if not all(_is_word(data[name]) for name in words) or not all(
            data[name] is None or _is_word(data[name]) for name in optional
        ):
            raise ValueError("a field is no short text")
        capabilities = data["compute_capabilities"]
        if not isinstance(capabilities, list) or not 0 < len(capabilities) <= _MOST_GPUS:
            raise ValueError("no list of compute capabilities")
        if not all(map(is_capability, capabilities)):
            raise ValueError("no compute capabilities")
        if data["runtime"] not in _NAMES or data["hardware"] not in _HARDWARE:
            raise ValueError("unknown runtime or hardware compatibility")
        if not isinstance(data["version_compatible"], bool) or not isinstance(
            data["simulated"], bool
        ):
            raise ValueError("a field is neither true nor false")
        return cls(**{**data, "compute_capabilities": tuple(capabilities)})

    def unmet(self, machine: Machine, version: str | None) -> str | None:
        """Return why a machine does not load the engine, in words; None when it does.

        Args:
            machine: The machine.
            version: Of :attr:`runtime` there; None when it has none.
        """
        if version is None:
            return f"{self.built()}, and the device has no {_NAMES[self.runtime]}"
        why = next(
            (
                why
                for why in (
                    self._reality(machine),
                    self._other_system(machine),
                    self._other_version(version),
                    self._other_gpu(machine),
                )
                if why
            ),
            None,
        )
        if why is None:
            return None
        return f"{self.built()}, device has {version} / {sm(machine.compute_capability)}: {why}"

    def built(self) -> str:
        """Return what built it and for what, such as ``engine built with 10.3.0 for SM87``."""
        for_gpus = ", ".join(sm(item) for item in self.compute_capabilities)
        return f"engine built with {self.version} for {for_gpus}"

    def differences(self, machine: Machine) -> tuple[str, ...]:
        """Return what is another than where it was built, though it loads: one sentence each."""
        found = []
        if self.gpu is not None and self.gpu != machine.gpu:
            found.append(
                f"the engine was built on another GPU ({self.gpu}) than {machine.gpu}: it loads, "
                "and its kernels were chosen for the other one"
            )
        if self.driver is not None and self.driver != machine.driver:
            has = machine.driver or "does not say"
            found.append(f"the engine was built with driver {self.driver}, the device has {has}")
        return tuple(found)

    # Each returns why not, or None.

    def _reality(self, machine: Machine) -> str | None:
        if self.simulated and not machine.simulated:
            return "the engine is simulated, no GPU made it, and the device is real"
        if machine.simulated and not self.simulated:
            return "something stands in for TensorRT there, and the engine is real"
        return None

    def _other_system(self, machine: Machine) -> str | None:
        built, has = f"{self.system} {self.arch}", f"{machine.system} {machine.arch}"
        # An engine that no machine built is not tied to the one that wrote it.
        if self.runtime == "tensorrt-rtx" or built == has:
            return None
        return f"it was built on {built}, the device is {has}"

    def _other_version(self, version: str) -> str | None:
        if same_version(self.version, version):
            return None
        name = _NAMES[self.runtime]
        if not self.version_compatible:
            return f"{name} loads engines of its own version alone"
        built, has = version_numbers(self.version), version_numbers(version)
        if has < built:
            return f"version-compatible engines load in newer versions of {name}, not in older ones"
        if built[:1] != has[:1] and (built[0], has[0]) not in _ACROSS:
            return f"{name} {has[0]} loads no engines of {name} {built[0]}"
        return None

    def _other_gpu(self, machine: Machine) -> str | None:
        has = machine.compute_capability
        if has in self.compute_capabilities:
            return None
        if self.hardware == "ampere+":
            if self.jetpack is not None or machine.jetpack is not None:
                return "hardware compatibility does not exist on a Jetson"
            if float(has) >= _AMPERE:
                return None
            return "an engine for ampere+ needs a GPU of SM80 or later"
        return "it holds code for another GPU"


def engine_needs(platform: GpuPlatform, options: Mapping[str, Any]) -> EngineNeeds:
    """Return the needs of an engine by the options of the profile that it was built with.

    Args:
        platform: What built it.
        options: Of the ``tensorrt`` backend; ``version_compatible`` and ``hardware_compatible``
            count.
    """
    return EngineNeeds.of(
        platform,
        version_compatible=bool(options.get("version_compatible", False)),
        hardware=options.get("hardware_compatible", "none"),
    )


_HARDWARE = ("none", "ampere+", "same-compute-capability")
_WORD_LETTERS = 100
_MOST_GPUS = 32
_CAPABILITY = re.compile(r"[0-9]{1,2}\.[0-9]")


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _WORD_LETTERS and value.isprintable()


def is_capability(value: Any) -> bool:
    """Return whether a value is a compute capability such as ``8.7``."""
    return isinstance(value, str) and _CAPABILITY.fullmatch(value) is not None


def sm(compute_capability: str) -> str:
    """Return a compute capability as compilers name it, such as ``SM87``."""
    return "SM" + compute_capability.replace(".", "")


def version_numbers(version: str) -> tuple[int, ...]:
    """Return the numbers at the start of a version; ``10.3.0.30-1+cuda12.5`` -> (10, 3, 0, 30)."""
    found = re.match(r"[0-9]{1,6}(?:\.[0-9]{1,6})*", version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def same_version(one: str, other: str) -> bool:
    """Return whether two versions are equal as far as both are known; both know three numbers.

    Where both name the build, it must be the same too: the standard runtime takes engines whose
    major, minor, patch and build are its own (NVIDIA, TensorRT Release Properties for DRIVE OS).
    """
    mine, theirs = version_numbers(one), version_numbers(other)
    known = min(len(mine), len(theirs), 4)
    return known >= 3 and mine[:known] == theirs[:known]
