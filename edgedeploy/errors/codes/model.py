"""Codes of refused models."""

from __future__ import annotations

from edgedeploy.errors.codes import Explanation

CODES: dict[str, Explanation] = {
    "E200": Explanation(
        "the model file cannot be opened",
        "The path that the profile names does not exist, may not be read, or is a folder, FIFO or "
        "device. Check the path (it is relative to the profile) and its permissions.",
    ),
    "E201": Explanation(
        "not a whole ONNX model",
        "The bytes of the file are not one well-formed ONNX protobuf message: it is empty, cut "
        "off, a Git LFS pointer, another format, or damaged. Download or export the model again. "
        "A field that may occur once but occurs twice is refused too, because readers disagree on "
        "what it means.",
    ),
    "E202": Explanation(
        "the model is too large",
        "The file or a count in it (nodes, names, tensors, bytes of text) is beyond what the tool "
        "reads. The limits are far above real models; they bound time and memory on files made to "
        "exhaust them. Simplify or split the model; keep weights above 2 GiB in external data.",
    ),
    "E203": Explanation(
        "the model nests too deeply",
        "Messages (subgraphs in attributes, types in types) are nested more than 100 levels deep, "
        "where every ONNX reader stops. Flatten the subgraphs and export again.",
    ),
    "E204": Explanation(
        "external data outside of the model's folder",
        "A tensor's external data location is not a plain relative path: it is absolute, has "
        "'..', wildcards, or a reserved marker. Such a model could read any file of the machine. "
        "Save the model again with its data in one file beside it.",
    ),
    "E205": Explanation(
        "external data in a file that is not plain",
        "The external data file is missing, is a symbolic link (or lies behind one), has more "
        "than one hard link, or is no regular file. Download caches often store links: copy the "
        "model and its data as plain files into one folder of their own.",
    ),
    "E206": Explanation(
        "external data reference is not valid",
        "An entry of a tensor's external data is unknown or given twice, a number is malformed, "
        "a range lies beyond the end of the file, or two tensors' ranges overlap. Fetch the whole "
        "data file again, or save the model again with fresh external data.",
    ),
    "E207": Explanation(
        "dims and bytes of a tensor do not agree",
        "The product of a tensor's dims times its element size is not the number of bytes or "
        "values that it stores, or a dim is negative. The tensor is damaged or was made by hand; "
        "export the model again.",
    ),
    "E208": Explanation(
        "a tensor's element type or storage is not valid",
        "The element type is not one of the ONNX specification, or the values are stored in a "
        "field that does not go with it, or in two at once. Export the model again.",
    ),
    "E209": Explanation(
        "weights are not finite",
        "A weight holds NaN or infinite values: training diverged or a conversion overflowed, and "
        "every output would be worthless. Retrain or export again. If the values are meant (a mask "
        "with infinities), set 'allow_nonfinite: true' for this model in the profile. A single "
        "infinite constant is always accepted.",
    ),
    "E210": Explanation(
        "the opset is not supported",
        "The model is written for a version of the ONNX operators that the tools here do not read, "
        "or uses a domain that it does not import. Export it again; opset 17 suits every target.",
    ),
    "E211": Explanation(
        "the IR version is not supported",
        "The file format version is older than 3 or newer than the tools here read. Export the "
        "model again with a current exporter.",
    ),
    "E212": Explanation(
        "one name for two values",
        "Two nodes make a value of the same name, or one is declared twice, so that it is unclear "
        "which is meant. Give every output a name of its own and export again. (Nodes with equal "
        "names are no error: they are renamed.)",
    ),
    "E213": Explanation(
        "the graph has a cycle",
        "Nodes, or local functions, feed each other in a circle. Export the model again; iteration "
        "is expressed with the operators Loop and Scan.",
    ),
    "E214": Explanation(
        "a value is used but not made",
        "A node uses a value that no node, input or initialiser makes, or an output is made by "
        "nothing in its own graph. A part of the model was cut away; export it again.",
    ),
    "E215": Explanation(
        "operator of an unknown domain",
        "The model uses a custom operator that no runtime here has. Export it without custom "
        "operators, or with the operator as a local function made of standard ones.",
    ),
    "E216": Explanation(
        "a node breaks its operator's definition",
        "The operator does not exist in the opset that the model claims, or has attributes or "
        "inputs that it does not allow. Export the model again, with the opset that its operators "
        "are of.",
    ),
    "E217": Explanation(
        "the model changed while it was read",
        "What was copied is not what was checked. Wait until nothing else writes to the file and "
        "run again.",
    ),
    "E220": Explanation(
        "dims do not fit the model",
        "The profile gives an input another number of axes than the model, another size than a "
        "fixed one, two sizes for one named dim, or names an input that does not exist. "
        "'edgedeploy inspect' shows the model's inputs and dims; change the profile to fit them.",
    ),
    "E221": Explanation(
        "a constant does not fit the input",
        "The 'value' that the profile gives for an input has another type or shape than the input, "
        "or there is no such input. 'edgedeploy inspect' shows the inputs; give a number or nested "
        "lists of that type and shape.",
    ),
    "E222": Explanation(
        "no such output",
        "The profile asks for an output that the model does not have. The message lists the ones "
        "that exist.",
    ),
    "E223": Explanation(
        "a node cannot be converted to the opset",
        "Bringing the model to the opset that all targets read would change what this node "
        "computes. Export the model again with that opset, or raise the target's oldest runtime.",
    ),
    "E224": Explanation(
        "a pass failed",
        "A step towards the normal form met a model that it cannot handle, or left it in a state "
        "that the next steps do not accept. Try another opset or a simplified model, and report "
        "it.",
    ),
    "E225": Explanation(
        "the reference runtime refuses the model",
        "onnxruntime, whose outputs are the reference for every artifact, does not load or run "
        "the model. Check that it runs there as it was exported; the message is the runtime's.",
    ),
    "E226": Explanation(
        "the model uses a form that is not supported",
        "Sparse weights and experimental attributes are read by no backend here. Export the model "
        "with dense tensors.",
    ),
    "E228": Explanation(
        "nothing matches a keep_float name",
        "A name or pattern of 'keep_float' matches no node and no operator of the model, so the "
        "setting would have no effect. 'edgedeploy inspect' lists the nodes.",
    ),
}
