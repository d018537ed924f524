"""Units of a Mac."""


class MLComputeDevice:
    """A unit that computes."""


class MLCPUComputeDevice(MLComputeDevice):
    """The CPU."""


class MLGPUComputeDevice(MLComputeDevice):
    """The GPU."""


class MLNeuralEngineComputeDevice(MLComputeDevice):
    """The Neural Engine."""
