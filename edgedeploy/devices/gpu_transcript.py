"""The commands that find out what a device builds and loads engines with."""

from __future__ import annotations

from collections.abc import Mapping
from shlex import quote

from edgedeploy.devices.opening import CANDIDATES

TIMEOUT_S = 180.0
"""For all commands: the first import of TensorRT on a slow card reads several 100 MB."""

# Held to Python 3.6. Prints one line: the module that was loaded, its version, whether it says of
# itself that it only stands in, and the interpreter; or the module that is there and why it does
# not load. Ends with 0 when one was loaded.
_IMPORT = """
import importlib.util, sys
for name in sys.argv[1:]:
    try:
        if importlib.util.find_spec(name) is None:
            continue
        module = __import__(name)
        stands_in = "stand-in" if getattr(module, "__edgedeploy_stand_in__", False) else "real"
        print("loads", name, module.__version__, stands_in, sys.executable)
        sys.exit(0)
    except Exception as error:
        print("broken", name, type(error).__name__, repr(str(error))[:300])
sys.exit(1)
"""

# Where NVIDIA's packages put it: deb and JetPack into /usr/src, containers into /opt; archives are
# unpacked to /usr/local or /opt. Source: NVIDIA TensorRT documentation, "Installing TensorRT";
# "Command-Line Programs".
_TRTEXEC = (
    '"$(command -v trtexec)" /usr/src/tensorrt/bin/trtexec /opt/tensorrt/bin/trtexec '
    "/opt/TensorRT*/bin/trtexec /usr/local/tensorrt*/bin/trtexec /usr/local/TensorRT*/bin/trtexec"
)
_MOST_TRTEXEC = 4


def commands(python: str | None) -> Mapping[str, str]:
    """Return the sections of a probe for GPUs and TensorRT, and their shell commands.

    Args:
        python: The interpreter to ask; None asks each of
            :data:`~edgedeploy.devices.opening.CANDIDATES` until one has the module.
    """
    pythons = " ".join(quote(name) for name in ((python,) if python else CANDIDATES))

    def imported(*modules: str) -> str:
        return (
            f'for p in {pythons}; do command -v "$p" >/dev/null && '
            f'"$p" -c {quote(_IMPORT)} {" ".join(modules)} && break; done'
        )

    return {
        "uname": "uname -s; uname -r; uname -m",
        "bits": "getconf LONG_BIT",
        # The second is what the first one links to; in some containers only it is there.
        "compatible": "cat /proc/device-tree/compatible || "
        "cat /sys/firmware/devicetree/base/compatible",
        "l4t": "head -n 1 /etc/nv_tegra_release",
        "nvidia-smi": "nvidia-smi --query-gpu=index,uuid,name,driver_version,compute_cap "
        "--format=csv,noheader,nounits",
        "visible": 'echo "devices $CUDA_VISIBLE_DEVICES"; echo "order $CUDA_DEVICE_ORDER"',
        "cuda-json": "cat /usr/local/cuda/version.json",
        "cuda-text": "cat /usr/local/cuda/version.txt",
        "nvcc": "PATH=$PATH:/usr/local/cuda/bin; nvcc --version",
        "python-trt": imported("tensorrt"),
        "python-rtx": imported("tensorrt_rtx", "tensorrt_rtx_bindings"),
        # The banner is the first line, before anything is done; the rest is not waited for.
        "trtexec": f'n=0; for t in {_TRTEXEC}; do [ -n "$t" ] && [ -x "$t" ] && '
        f"[ $n -lt {_MOST_TRTEXEC} ] || continue; n=$((n + 1)); "
        'echo "path $t"; "$t" --help 2>&1 | head -n 5 | cut -c 1-300; done',
        "dpkg": "dpkg-query -W -f '${Package} ${Version}\\n' 'libnvinfer*'",
        "header": "for h in /usr/include/NvInferVersion.h /usr/include/*/NvInferVersion.h "
        "/usr/local/*/include/NvInferVersion.h /opt/*/include/NvInferVersion.h; do "
        '[ -r "$h" ] && grep -E "^#define (NV_TENSORRT|TRT)_(MAJOR|MINOR|PATCH|BUILD)" "$h" '
        "&& break; done",
        "rtx-library": "ls /usr/lib/*/libtensorrt_rtx.so.[0-9]* "
        "/usr/local/lib/libtensorrt_rtx.so.[0-9]* /opt/*/lib/libtensorrt_rtx.so.[0-9]*",
        "nvpmodel": "nvpmodel -q",
        # Readable without privileges; `jetson_clocks --show` is not, on older releases.
        "devfreq": "for d in /sys/class/devfreq/*; do "
        '[ -r "$d/min_freq" ] && '
        'echo "${d##*/} $(cat "$d/min_freq") $(cat "$d/max_freq")"; done',
        "jetson-clocks": "jetson_clocks --show",
    }
