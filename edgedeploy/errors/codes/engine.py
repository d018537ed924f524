"""Codes of engines that devices build and load (E482-E489)."""

from __future__ import annotations

from edgedeploy.errors.codes import Explanation

CODES: dict[str, Explanation] = {
    "E482": Explanation(
        "No device is known that could build the engine",
        "TensorRT builds an engine on the GPU that will run it, so the target needs a device of "
        "its board. Name one in devices.yaml with `board:`, or choose devices with -d.",
    ),
    "E483": Explanation(
        "The engine was not built in time",
        "A build on a device is ended after four hours, and nothing of it stays there. The builder "
        "times many kernels for every layer: lower `optimisation_level`, give it fewer or narrower "
        "sizes (`dims:`), end what else runs on the device, and set its power mode (`nvpmodel`).",
    ),
    "E484": Explanation(
        "The engine was not built",
        "The build on the device ended without an engine, and it was not TensorRT that refused the "
        "program (that is E339): it was killed (signal 9 mostly means that memory ran out), "
        "TensorRT does not start there, the disk refused, or what came out cannot be what it says. "
        "The message names the device and repeats the last thing that was said; the build's folder "
        "on the device is gone. Free memory or space there, and run the same command again.",
    ),
    "E485": Explanation(
        "The device's GPU is not known",
        "No GPU of NVIDIA was found, its driver is too old to tell the compute capability, or "
        "there are GPUs of several kinds and nothing says which one CUDA takes; the message says. "
        "`nvidia-smi` must list the GPU for the user who logs in; with several kinds, set "
        "CUDA_DEVICE_ORDER=PCI_BUS_ID and CUDA_VISIBLE_DEVICES for that user.",
    ),
    "E486": Explanation(
        "The device has no TensorRT",
        "Neither a Python that imports `tensorrt` (`tensorrt_rtx` for TensorRT for RTX) nor a "
        "`trtexec` was found: on the PATH, in /usr/src/tensorrt/bin, or below /opt and /usr/local. "
        "Install it, or name the interpreter that has it with `python:` in devices.yaml.",
    ),
    "E487": Explanation(
        "The engine does not load on the device",
        "An engine loads in the TensorRT version and on the kind of GPU that it was built with, "
        "unless it was built to be compatible with more; the message names both sides. It was "
        "found before anything was loaded or sent. Build again with this device among the others "
        "(`edgedeploy build -d`): what is built stays, the missing engine is added. What is "
        "simulated never loads on a real device, nor the other way round.",
    ),
    "E488": Explanation(
        "The device's GPU is another than the board's",
        "The board names the compute capabilities of its GPU, and the device has another one. Name "
        "the right board in devices.yaml, or choose a target that fits: `edgedeploy targets list`.",
    ),
    "E489": Explanation(
        "The device's TensorRT is outside of what the target allows",
        "The runtime's target file states the versions that programs are written for. Install one "
        "of them on the device, or write a runtime file with another range.",
    ),
}
