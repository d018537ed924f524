"""E300-E349: compiling an artifact and running it."""

from __future__ import annotations

from edgedeploy.errors.codes import Explanation

CODES: dict[str, Explanation] = {
    "E300": Explanation(
        "A build stage failed",
        "A converter or runtime refused, crashed or ran out of its limits, and nothing more exact "
        "is known. The message carries what it said. Run again with --debug and look at the "
        "stage's log.",
    ),
    "E301": Explanation(
        "The runtime refuses the model",
        "The runtime's loader or converter refused the model for a reason that has no code of its "
        "own; the message is the runtime's. Often the graph uses an operator in a way that the "
        "checker allows and the runtime does not. Change the node that is named, or keep it out "
        "of the model.",
    ),
    "E302": Explanation(
        "An operator is unknown to the runtime",
        "The runtime has no definition of this operator: it belongs to a custom domain, or it does "
        "not exist in the model's opset. Replace it by standard operators, export the model "
        "without it, or write it as a function in the model.",
    ),
    "E303": Explanation(
        "No kernel for an operator",
        "The operator exists, but the runtime's CPU provider has no implementation for the element "
        "types used here. Cast the node's inputs to float32 or int64 before it and back after it, "
        "or keep the node in float when quantizing.",
    ),
    "E304": Explanation(
        "The model's opset is newer than the target's oldest runtime",
        "The target states a range of runtime versions and an artifact must load in the oldest. "
        "This model uses a newer opset than that runtime knows. Export the model with a lower "
        "opset, or raise the oldest version in the target's runtime file.",
    ),
    "E305": Explanation(
        "The model's graph is invalid for the runtime",
        "The runtime's type and structure check refused a node: element types that the operator "
        "does not take, a wrong number of inputs, a name used twice. Correct the node that is "
        "named and export again.",
    ),
    "E310": Explanation(
        "A backend option that does not exist",
        "The profile sets an option of a target that its backend does not know, or gives it a "
        "value that it cannot have. The hint lists what exists.",
    ),
    "E311": Explanation(
        "There is no such backend",
        "The target's runtime names a backend family that this version of edgedeploy does not "
        "have. Choose another runtime for the target.",
    ),
    "E312": Explanation(
        "The model file cannot be read",
        "The model that a backend was given is missing or is no ONNX file. The store may have "
        "been changed from outside: run `edgedeploy cache verify`.",
    ),
    "E314": Explanation(
        "The .ort file would exceed 2 GiB",
        "The ORT model format is a flatbuffer with signed 32-bit offsets, and this model's weights "
        "do not fit into one. It is said as soon as the size of the weights is known. Set "
        "`quantize:` to a mode with fewer bits (the hint names those that fit), split the model, "
        "or choose an OpenVINO target, whose format has no such limit.",
    ),
    "E315": Explanation(
        "The artifact would be bound to this machine",
        "The optimised graph holds operators of a layout that exists only on machines like this "
        "one (domain com.microsoft.nchwc), so the artifact would not load on the target. Remove "
        "such nodes from the model; a model must be exported before that optimisation.",
    ),
    "E316": Explanation(
        "An unknown form of the ORT format",
        "The runtime wrote a file with fields that this version of edgedeploy does not know, so "
        "it cannot be brought to its reproducible form. Use a version of onnxruntime from the "
        "supported range, or update edgedeploy.",
    ),
    "E317": Explanation(
        "The artifact does not load",
        "The files of an artifact are incomplete or the runtime refuses them. If they were just "
        "built this is a defect of the converter: report it with the message. If they come from "
        "elsewhere check them with `edgedeploy verify`.",
    ),
    "E318": Explanation(
        "An input or output is no tensor",
        "The model takes or gives a sequence, a map or an optional value, which runners and apps "
        "cannot exchange as arrays. Export the model without that conversion (for scikit-learn "
        "models: without ZipMap).",
    ),
    "E320": Explanation(
        "OpenVINO has no conversion for an operator",
        "OpenVINO's ONNX frontend does not know the operator, so no IR can be written. Replace it "
        "by standard operators, or drop the OpenVINO target for this model.",
    ),
    "E321": Explanation(
        "OpenVINO cannot convert a node",
        "The frontend knows the operator but not this use of it: an attribute, an element type or "
        "a shape that must be known. Bind the model's dims in the profile when a rank or shape is "
        "said to be unknown; otherwise change the node that is named.",
    ),
    "E322": Explanation(
        "The NPU needs fixed shapes",
        "The compiler of the NPU takes static shapes only, and an input of this model has a "
        "dynamic or bounded axis. Give every dim one value in the profile, or a list of buckets "
        "(one artifact each).",
    ),
    "E323": Explanation(
        "Dims that do not fit the model",
        "The dims asked for name an input that does not exist, have another rank, or contradict "
        "an axis that is fixed in the model. Compare them with the inputs printed by `edgedeploy "
        "inspect`.",
    ),
    "E324": Explanation(
        "The device is not in this machine",
        "A compiled blob can be made only by the device that it is for, with its driver. Leave the "
        "blob option off, or build on a machine that has the device; the IR runs there in either "
        "case.",
    ),
    "E325": Explanation(
        "OpenVINO takes no string tensors here",
        "An input or output of the model is a string tensor, which OpenVINO handles only with an "
        "extension that is not part of it. Move the lookup of strings out of the model, or use "
        "the ONNX Runtime target.",
    ),
    "E330": Explanation(
        "The runtime failed while running the artifact",
        "The inputs fitted the artifact's signature and the runtime stopped with an error: values "
        "out of range for an index, sizes that contradict each other, or too little memory. The "
        "message names the node.",
    ),
    "E331": Explanation(
        "Inputs are missing or unknown",
        "A run needs exactly the artifact's inputs, by name. The finding names what is missing or "
        "too much and lists the artifact's own names.",
    ),
    "E332": Explanation(
        "An input has the wrong dtype",
        "The array's element type is not the one that the artifact states; nothing is converted "
        "silently. Convert the data, or declare the preprocessing in the profile.",
    ),
    "E333": Explanation(
        "An input has the wrong shape",
        "The array's rank or the size of a fixed or bounded axis is not what the artifact takes. "
        "Feed the stated shape, or build the artifact with other dims.",
    ),
}
