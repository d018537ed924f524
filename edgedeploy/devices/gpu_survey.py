"""What a device builds and loads engines with, as frozen data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from edgedeploy.errors import DeviceError
from edgedeploy.gpu import EngineNeeds, GpuPlatform, same_version

WayKind = Literal["python", "trtexec"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way to a runtime of NVIDIA's on a device.

    Attributes:
        kind: ``python`` (its module) or ``trtexec``.
        path: The interpreter, or the program.
        version: Of the runtime, as this way tells it.
        simulated: It says of itself that it only stands in for the runtime.
    """

    kind: WayKind
    path: str
    version: str
    simulated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuSurvey:
    """What a probe found; None or empty is what the device does not say.

    A :class:`edgedeploy.gpu.Machine`.

    Attributes:
        device: Its name in the inventory.
        system: ``linux`` or what ``uname -s`` says, in lower case.
        arch: ``x86-64``, ``arm64`` or what ``uname -m`` says.
        gpu: The GPU that is used: of a Jetson, the name of its module; empty without one.
        compute_capability: Its own, such as ``8.7``; empty where nothing tells it.
        gpus: Names of all GPUs.
        unclear: Why it cannot be said which GPU is used, or what it is; empty when it can.
        driver: Version of the driver.
        cuda: Version of the CUDA toolkit that is installed.
        jetpack: L4T release of a Jetson.
        ways: To TensorRT, the best first: what agrees with the installed library goes before what
            does not, Python before ``trtexec``.
        installed: Version of the TensorRT library by who tells it (``dpkg``, ``header``).
        rtx: Version of TensorRT for RTX.
        rtx_simulated: Whether something only stands in for that.
        power_mode: Of a Jetson (``nvpmodel``), such as ``MAXN_SUPER``.
        clocks: Whether the GPU's frequency is held at its highest, as ``jetson_clocks`` does.
        trouble: What is there and does not work, one sentence each.
        conflicts: What does not agree with each other, one sentence each.
    """

    device: str
    system: str
    arch: str
    gpu: str = ""
    compute_capability: str = ""
    gpus: tuple[str, ...] = ()
    unclear: str = ""
    driver: str | None = None
    cuda: str | None = None
    jetpack: str | None = None
    ways: tuple[Way, ...] = ()
    installed: Mapping[str, str]
    rtx: str | None = None
    rtx_simulated: bool = False
    power_mode: str | None = None
    clocks: Literal["locked", "free"] | None = None
    trouble: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()

    @property
    def simulated(self) -> bool:
        """Whether what is used there only stands in for TensorRT."""
        return self.ways[0].simulated if self.ways else self.rtx_simulated

    @property
    def version(self) -> str | None:
        """Version of the TensorRT that is used, with its build where the device tells it."""
        if not self.ways:
            return None
        said = self.ways[0].version
        longer = [item for item in self.installed.values() if same_version(item, said)]
        return max((said, *longer), key=lambda item: item.count("."))

    def platform(self) -> GpuPlatform:
        """Return the platform that engines are built on and for there.

        Raises:
            DeviceError: It has no GPU that is known (E485), or no TensorRT (E486).
        """
        self.check_gpu()
        version = self.version
        if version is None:
            raise self.no_runtime("TensorRT")
        return GpuPlatform(
            system=self.system,
            arch=self.arch,
            gpu=self.gpu,
            compute_capability=self.compute_capability,
            tensorrt=version,
            driver=self.driver,
            cuda=self.cuda,
            jetpack=self.jetpack,
            simulated=self.simulated,
        )

    def check_gpu(self) -> None:
        """Let a device pass whose GPU is known.

        Raises:
            DeviceError: It is not (E485).
        """
        if not self.gpu or not self.compute_capability:
            raise DeviceError(
                f"{self.device}: {self.unclear or 'there is no GPU of NVIDIA'}",
                code="E485",
                subject=self.device,
                hint=f"see what `edgedeploy devices probe -d {self.device}` finds, and what "
                "`nvidia-smi` prints there",
            )

    def no_runtime(self, name: str) -> DeviceError:
        """Return the refusal of a device without a runtime (E486)."""
        why = f": {'; '.join(self.trouble)}" if self.trouble else ""
        return DeviceError(
            f"{self.device} has no {name}{why}",
            code="E486",
            subject=self.device,
            hint="it is a part of JetPack: `sudo apt-get install tensorrt python3-libnvinfer` there"
            if self.jetpack and name == "TensorRT"
            else "install its Python package or `trtexec` there, or name the interpreter that has "
            "it with `python:` in devices.yaml",
        )

    def refuses(self, needs: EngineNeeds) -> str | None:
        """Return why the device does not load an engine, in words; None when it does.

        Raises:
            DeviceError: Its GPU is not known (E485).
        """
        self.check_gpu()
        version = self.rtx if needs.runtime == "tensorrt-rtx" else self.version
        return needs.unmet(self, version)

    def in_words(self) -> list[tuple[str, str]]:
        """Return what was found as names and texts; what the device does not say is left out."""
        kinds = [f"{way.kind} {way.version} ({way.path})" for way in self.ways]
        clocks = self.clocks and f"clocks {self.clocks}"
        said = [
            ("gpu", ", ".join(filter(None, (self.gpu, self.compute_capability)))),
            ("gpu unclear", self.unclear),
            ("driver", self.driver),
            ("cuda", self.cuda),
            ("jetpack", self.jetpack),
            ("tensorrt", self.version and f"{self.version}: {', '.join(kinds)}"),
            ("tensorrt-rtx", self.rtx),
            ("power mode", ", ".join(filter(None, (self.power_mode, clocks)))),
            ("simulated", "something stands in for TensorRT" if self.simulated else ""),
            *(("trouble", text) for text in self.trouble),
            *(("conflict", text) for text in self.conflicts),
        ]
        return [(name, text) for name, text in said if text]

    def to_json(self) -> dict[str, Any]:
        """Return the survey as JSON data."""
        data = asdict(self)
        return {
            name: list(value) if isinstance(value, tuple) else value for name, value in data.items()
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> GpuSurvey:
        """Return the survey that :meth:`to_json` wrote.

        Raises:
            ValueError: It is none, or another edgedeploy's.
        """
        if data.keys() != {field.name for field in fields(cls)}:
            raise ValueError("missing or unknown fields")
        values: dict[str, Any] = {
            name: tuple(item) if isinstance(item, list) else item for name, item in data.items()
        }
        values["ways"] = tuple(Way(**way) for way in data["ways"])
        return cls(**values)
