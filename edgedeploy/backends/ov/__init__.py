"""OpenVINO: IR artifacts for Intel CPUs, GPUs and NPUs (and the ARM CPU plugin)."""
