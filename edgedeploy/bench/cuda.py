# Syntax and library held to Python 3.6.
# ruff: noqa: UP006, UP031, UP035, UP045, B904
"""Device memory, streams and events through the CUDA driver API, by ctypes on ``libcuda.so.1``.

Travels to devices beside ``loop.py``: a device that runs TensorRT has its driver, but seldom a
Python package for CUDA. Source: NVIDIA, CUDA Driver API reference; names with ``_v2`` are those
that its header ``cuda.h`` maps the documented ones to. On a Jetson the same library comes with L4T.

Everything lies in the primary context of one GPU: that is the one TensorRT uses, through the
runtime API (CUDA programming guide, "Interoperability between runtime and driver APIs").
"""

import ctypes
from typing import Any, Dict, Optional, Tuple

LIBRARY = "libcuda.so.1"

SPIN, BLOCKING = "spin", "blocking"
# CUctx_flags: how a thread waits for the GPU.
_SCHEDULE = {SPIN: 0x1, BLOCKING: 0x4}
_SCHEDULES = 0x7  # CU_CTX_SCHED_MASK
_NON_BLOCKING_STREAM = 0x1  # CU_STREAM_NON_BLOCKING: does not wait for the legacy default stream
_TIMING_EVENT = 0x0  # CU_EVENT_DEFAULT
_MAJOR, _MINOR, _INTEGRATED = 75, 76, 18  # CUdevice_attribute
_NAME_BYTES = 256

_WORD, _POINTER = ctypes.c_size_t, ctypes.c_void_p
_ADDRESS = ctypes.c_uint64  # CUdeviceptr
_OUT = ctypes.POINTER

# Every function that is called, with its arguments: a pointer passed as C's int would be cut.
_FUNCTIONS: Dict[str, Tuple[Any, ...]] = {
    "cuInit": (ctypes.c_uint,),
    "cuGetErrorName": (ctypes.c_int, _OUT(ctypes.c_char_p)),
    "cuDriverGetVersion": (_OUT(ctypes.c_int),),
    "cuDeviceGetCount": (_OUT(ctypes.c_int),),
    "cuDeviceGet": (_OUT(ctypes.c_int), ctypes.c_int),
    "cuDeviceGetName": (ctypes.c_char_p, ctypes.c_int, ctypes.c_int),
    "cuDeviceGetAttribute": (_OUT(ctypes.c_int), ctypes.c_int, ctypes.c_int),
    "cuDevicePrimaryCtxGetState": (ctypes.c_int, _OUT(ctypes.c_uint), _OUT(ctypes.c_int)),
    "cuDevicePrimaryCtxSetFlags_v2": (ctypes.c_int, ctypes.c_uint),
    "cuDevicePrimaryCtxRetain": (_OUT(_POINTER), ctypes.c_int),
    "cuDevicePrimaryCtxRelease_v2": (ctypes.c_int,),
    "cuCtxSetCurrent": (_POINTER,),
    "cuMemGetInfo_v2": (_OUT(_WORD), _OUT(_WORD)),
    "cuMemAlloc_v2": (_OUT(_ADDRESS), _WORD),
    "cuMemFree_v2": (_ADDRESS,),
    "cuMemHostAlloc": (_OUT(_POINTER), _WORD, ctypes.c_uint),
    "cuMemFreeHost": (_POINTER,),
    "cuMemcpyHtoDAsync_v2": (_ADDRESS, _POINTER, _WORD, _POINTER),
    "cuMemcpyDtoHAsync_v2": (_POINTER, _ADDRESS, _WORD, _POINTER),
    "cuStreamCreate": (_OUT(_POINTER), ctypes.c_uint),
    "cuStreamSynchronize": (_POINTER,),
    "cuStreamDestroy_v2": (_POINTER,),
    "cuEventCreate": (_OUT(_POINTER), ctypes.c_uint),
    "cuEventRecord": (_POINTER, _POINTER),
    "cuEventSynchronize": (_POINTER,),
    "cuEventElapsedTime": (_OUT(ctypes.c_float), _POINTER, _POINTER),
    "cuEventDestroy_v2": (_POINTER,),
}


class NoGpu(Exception):
    """There is no NVIDIA driver here, or it has no GPU."""


class CudaError(Exception):
    """A call of the driver failed."""


class Gpu:
    """One GPU with its primary context current in this thread.

    What it hands out is released by its own ``close``, at the latest when it is collected; the
    context is released last.

    Args:
        sync: ``blocking``: the thread sleeps until the GPU is done; ``spin``: it polls, which
            answers some microseconds sooner and keeps a CPU busy.
        library: The driver's library.
        ordinal: Which GPU, as the driver counts those that it shows.

    Raises:
        NoGpu: There is no driver, or no such GPU.
        CudaError: The driver refuses.
    """

    def __init__(self, sync: str = BLOCKING, library: str = LIBRARY, ordinal: int = 0) -> None:
        self._held = False
        try:
            self._library = ctypes.CDLL(library)
            for name, arguments in _FUNCTIONS.items():
                getattr(self._library, name).argtypes = arguments
        except (OSError, AttributeError) as error:
            raise NoGpu("no NVIDIA driver: %s" % error)
        self._start(ordinal)
        device = ctypes.c_int()
        self.call("cuDeviceGet", ctypes.byref(device), ordinal)
        self._device = device.value
        self._set_flags(_SCHEDULE[sync])
        context = _POINTER()
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), self._device)
        self._held = True
        self.call("cuCtxSetCurrent", context)
        self.name = self._name()
        self.capability = "%d.%d" % (self._attribute(_MAJOR), self._attribute(_MINOR))
        self.integrated = self._attribute(_INTEGRATED) == 1
        version = self._number("cuDriverGetVersion")
        self.cuda = "%d.%d" % (version // 1000, version % 1000 // 10)

    def _start(self, ordinal: int) -> None:
        status = self._library.cuInit(0)
        if status != 0:
            raise NoGpu("no NVIDIA driver that works: cuInit says %s" % self._said(status))
        count = self._number("cuDeviceGetCount")
        if ordinal >= count:
            raise NoGpu("the NVIDIA driver shows %d GPUs, GPU %d was asked for" % (count, ordinal))

    def _set_flags(self, wanted: int) -> None:
        """Choose how threads wait; that holds for all that share the context, and stays."""
        flags, active = ctypes.c_uint(), ctypes.c_int()
        self.call(
            "cuDevicePrimaryCtxGetState", self._device, ctypes.byref(flags), ctypes.byref(active)
        )
        if not active.value:
            self.call("cuDevicePrimaryCtxSetFlags_v2", self._device, wanted)
        elif flags.value & _SCHEDULES != wanted:
            raise CudaError("the GPU is in use by this process, which waits for it in another way")

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function of the driver.

        Raises:
            CudaError: It does not return success.
        """
        status = getattr(self._library, name)(*arguments)
        if status != 0:
            raise CudaError("%s: %s" % (name, self._said(status)))

    def _said(self, status: int) -> str:
        text = ctypes.c_char_p()
        if self._library.cuGetErrorName(status, ctypes.byref(text)) != 0 or not text.value:
            return "error %d" % status
        return "%s (%d)" % (text.value.decode("ascii", "replace"), status)

    def _number(self, name: str, *arguments: int) -> int:
        found = ctypes.c_int()
        self.call(name, ctypes.byref(found), *arguments)
        return found.value

    def _attribute(self, which: int) -> int:
        return self._number("cuDeviceGetAttribute", which, self._device)

    def _name(self) -> str:
        text = ctypes.create_string_buffer(_NAME_BYTES)
        self.call("cuDeviceGetName", text, _NAME_BYTES, self._device)
        return text.value.decode("utf-8", "replace")

    def free_bytes(self) -> int:
        """Return how much memory the GPU has left; on a Jetson it is the system's."""
        free, total = _WORD(), _WORD()
        self.call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return free.value

    def close(self) -> None:
        """Release the context; allowed twice."""
        if self._held:
            self._held = False
            self.call("cuDevicePrimaryCtxRelease_v2", self._device)

    def __del__(self) -> None:
        if self._held:
            self._library.cuDevicePrimaryCtxRelease_v2(self._device)


class _Owned:
    """Something of the driver's that is given back exactly once."""

    _release = ""

    def __init__(self, gpu: Gpu, handle: Any) -> None:
        self._gpu = gpu  # keeps the context until the last thing in it is gone
        self._handle: Optional[Any] = handle

    @property
    def handle(self) -> int:
        """The driver's handle or address.

        Raises:
            CudaError: It was given back.
        """
        if self._handle is None:
            raise CudaError("%s was called before this use" % self._release)
        return int(self._handle)

    def close(self) -> None:
        """Give it back; allowed twice."""
        handle, self._handle = self._handle, None
        if handle is not None:
            self._gpu.call(self._release, handle)

    def __del__(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            getattr(self._gpu._library, self._release)(handle)


class DeviceMemory(_Owned):
    """Memory of the GPU; ``handle`` is its address, aligned to 256 bytes at least."""

    _release = "cuMemFree_v2"

    def __init__(self, gpu: Gpu, nbytes: int) -> None:
        address = _ADDRESS()
        gpu.call("cuMemAlloc_v2", ctypes.byref(address), nbytes)
        super().__init__(gpu, address.value)
        self.nbytes = nbytes


class HostMemory(_Owned):
    """Page-locked memory of the host: only from such are copies asynchronous."""

    _release = "cuMemFreeHost"

    def __init__(self, gpu: Gpu, nbytes: int) -> None:
        address = _POINTER()
        gpu.call("cuMemHostAlloc", ctypes.byref(address), nbytes, 0)
        super().__init__(gpu, address.value)
        self.nbytes = nbytes

    def view(self) -> Any:
        """Return the bytes as a buffer that NumPy takes; it must not outlive this object."""
        return (ctypes.c_ubyte * self.nbytes).from_address(self.handle)


class Stream(_Owned):
    """A queue of the GPU, of its own: it waits for no other."""

    _release = "cuStreamDestroy_v2"

    def __init__(self, gpu: Gpu) -> None:
        handle = _POINTER()
        gpu.call("cuStreamCreate", ctypes.byref(handle), _NON_BLOCKING_STREAM)
        super().__init__(gpu, handle.value)

    def upload(self, goal: DeviceMemory, source: HostMemory, nbytes: int) -> None:
        """Queue a copy of the first bytes from the host."""
        if nbytes:
            call, address = self._gpu.call, source.handle
            call("cuMemcpyHtoDAsync_v2", goal.handle, address, nbytes, self.handle)

    def download(self, goal: HostMemory, source: DeviceMemory, nbytes: int) -> None:
        """Queue a copy of the first bytes to the host."""
        if nbytes:
            call, address = self._gpu.call, source.handle
            call("cuMemcpyDtoHAsync_v2", goal.handle, address, nbytes, self.handle)

    def wait(self) -> None:
        """Wait until everything that was queued is done; failures of kernels show here."""
        self._gpu.call("cuStreamSynchronize", self.handle)


class Event(_Owned):
    """A moment on a stream, with a resolution of about half a microsecond."""

    _release = "cuEventDestroy_v2"

    def __init__(self, gpu: Gpu) -> None:
        handle = _POINTER()
        gpu.call("cuEventCreate", ctypes.byref(handle), _TIMING_EVENT)
        super().__init__(gpu, handle.value)

    def record(self, stream: Stream) -> None:
        """Queue it: the moment is when everything before it is done."""
        self._gpu.call("cuEventRecord", self.handle, stream.handle)

    def ms_since(self, earlier: "Event") -> float:
        """Return the milliseconds between two events; both must have taken place."""
        found = ctypes.c_float()
        call = self._gpu.call
        call("cuEventElapsedTime", ctypes.byref(found), earlier.handle, self.handle)
        return found.value
