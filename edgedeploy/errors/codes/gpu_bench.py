"""E492 to E495: engines that are measured on devices."""

from edgedeploy.errors.codes import Explanation

CODES = {
    "E492": Explanation(
        title="No GPU that can be used on the device",
        text="TensorRT is there, and the NVIDIA driver (libcuda.so.1) is not, does not start, or "
        "shows no GPU. The message has the driver's own word. Check with `nvidia-smi`, on a Jetson "
        "with `cat /etc/nv_tegra_release`; a container must be started with the NVIDIA runtime, "
        "and the user must be in the group `video` on a Jetson.",
    ),
    "E493": Explanation(
        title="The engine is not loaded",
        text="An engine is code: one whose digest is not the one that was pushed is never given "
        "to TensorRT, nor is one of a stand-in to a real one, or the other way round. Or TensorRT "
        "itself refuses it: the message says which TensorRT and GPU built it, which are there, and "
        "what TensorRT says. Build it anew on a device of that platform (`edgedeploy build`), and "
        "push it.",
    ),
    "E494": Explanation(
        title="The engine does not take the inputs",
        text="An input lacks, has another type or a shape that no optimisation profile of the "
        "engine has, or an input or output is of a type that NumPy has not (BF16, FP8, INT4). The "
        "message names the tensor. Profiles come from the `shapes` of the model's inputs in the "
        "profile; outer types are those of the ONNX model.",
    ),
    "E495": Explanation(
        title="trtexec cannot do it, or failed",
        text="The device has no Python with `tensorrt`, so that its trtexec measures. It takes no "
        "bfloat16 samples, gives outputs as text, carries no state and runs one set of inputs at a "
        "time; the message says what is asked too much, or what trtexec ended with. With Python's "
        "`tensorrt` on the device (on a Jetson: `sudo apt-get install python3-libnvinfer`) all of "
        "it works.",
    ),
}
