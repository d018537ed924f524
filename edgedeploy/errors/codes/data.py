"""Codes of data, metrics and parity: E250-E259 and E280-E299."""

from __future__ import annotations

from edgedeploy.errors.codes import Explanation

CODES: dict[str, Explanation] = {
    "E250": Explanation(
        "data source missing or unreadable",
        "A data role names a file or folder that does not exist or cannot be read, or has no "
        "source at all. Paths are relative to the profile's folder. Where private data lies "
        "belongs in a git-ignored data.yaml beside the profile.",
    ),
    "E251": Explanation(
        "no samples",
        "The source exists, but no sample was found in it: no file with a known suffix, no file "
        "that the labels name, or a data function that yields nothing. Hidden files and folders "
        "are passed over. Check the source and the `reader`.",
    ),
    "E252": Explanation(
        "too few samples to calibrate",
        "Calibration finds the range of every activation from the `calibrate` data. One sample "
        "gives ranges that fit only itself, so it is refused. Give at least 2, better 100 or more "
        "typical samples.",
    ),
    "E253": Explanation(
        "tensor pack cannot be read",
        "A tensor pack, the intermediate form of data, is missing, cut off or not of this "
        "version. Run the build again; if the store is damaged, `edgedeploy cache verify` finds "
        "and drops the entry.",
    ),
    "E254": Explanation(
        "ambiguous data source",
        "The folder holds files of several kinds, so `reader: auto` cannot decide, or .npy and "
        ".npz files are mixed. Set `reader` to numpy, images or audio, or keep one kind of file "
        "in the folder.",
    ),
    "E255": Explanation(
        "sample names other inputs than the model",
        "Every sample must give exactly the model's inputs by name, save those with a constant "
        "`value` and those fed back as state. A .npy file can only serve a model with a single "
        "input. `edgedeploy inspect` lists the inputs.",
    ),
    "E256": Explanation(
        "sample has the wrong dtype",
        "Data is cast only where nothing is lost: whole numbers that the model's type holds "
        "exactly, or floats to a narrower float that does not overflow. Anything else is refused "
        "rather than changed silently. Give the data in the model's own dtype.",
    ),
    "E257": Explanation(
        "sample has the wrong shape",
        "The number of axes or a fixed dim differs from what the model takes with the dims bound "
        "in the profile. A missing leading batch axis of size 1 is added by itself. Reshape the "
        "data, or bind other dims.",
    ),
    "E258": Explanation(
        "sample is not finite",
        "A sample holds NaN or infinite values. Such values would spoil ranges and metrics "
        "silently. Remove the sample or mend what makes it.",
    ),
    "E259": Explanation(
        "broken data file",
        "A data file cannot be decoded: cut off, not of the kind that its suffix says, or of a "
        "variant that is not supported (pickled arrays, floating-point images, compressed WAV). "
        "Replace or remove the file.",
    ),
    "E280": Explanation(
        "malformed labels",
        "The labels are not of a known form: a CSV with the header `file,label`, COCO JSON with "
        "images and annotations, or a folder of YOLO .txt files. A data function yields its truth "
        "itself and takes no labels.",
    ),
    "E281": Explanation(
        "labels and files do not match",
        "The labels name a file that is not in the source, or a sample has no label. Paths in a "
        "label file are relative to the source folder, with `/` and the suffix; for a single "
        "array file they are row numbers.",
    ),
    "E282": Explanation(
        "user function not found or not callable so",
        "The profile names `file.py:function`, but the file or function does not exist, or its "
        "arguments do not agree with the profile's `parameters`. A data function is called with "
        "the parameters only, a metric function with (outputs, truth) and the parameters.",
    ),
    "E283": Explanation(
        "user function failed",
        "Python code of the profile raised an exception. The place shown is the innermost line "
        "that lies in the project. Mend the function and run the build again.",
    ),
    "E284": Explanation(
        "data function yields something else",
        "A data function yields a dict of input name to array, or a tuple (dict, truth), "
        "(dict, truth, id) or (dict, truth, id, sequence). The truth must be JSON data, ids must "
        "differ, and the samples of a sequence must stand in a row.",
    ),
    "E285": Explanation(
        "metric or gate cannot be used so",
        "The metric is not known, a parameter is not one of its own or has a wrong value, or a "
        "gate on it makes no sense: points on a metric that is no fraction, or a sign that would "
        "allow any loss. The message names the choices.",
    ),
    "E286": Explanation(
        "metric lacks its truth",
        "The metric compares outputs with ground truth, but a sample has none, or one of another "
        "kind (a text where a class number is needed), or one sample of a pair is missing. Give "
        "`labels`, yield the truth from the data function, or use `agreement` or `cosine`, which "
        "compare with the float model.",
    ),
    "E287": Explanation(
        "output does not suit the metric",
        "The scored output is missing or has a shape that the metric cannot read, such as fewer "
        "classes than the truth names. Set `metric.output` to the right output.",
    ),
    "E288": Explanation(
        "preprocessing not declared",
        "Image and WAV files become tensors only by a declared preprocessing: exactly one input "
        "must have `image:` or `audio:`, with one mean and std value per channel.",
    ),
    "E290": Explanation(
        "reference outputs do not belong to the samples",
        "The recorded float outputs hold other samples than the evaluation data. They are made "
        "by the same build; run it again.",
    ),
    "E291": Explanation(
        "output shape differs from the float model's",
        "For the same input the artifact and the float model give outputs of different shape, so "
        "they cannot be compared. Usual causes are a dim that a backend fixed or a data-dependent "
        "size (boxes after NMS, CTC length). Compare such models by their metric.",
    ),
    "E292": Explanation(
        "artifact gives NaN or infinite values",
        "The float model's output is finite and the artifact's is not. Usual causes are an fp16 "
        "overflow or a broken scale; keep the node in float (`keep_float`).",
    ),
    "E294": Explanation(
        "evaluation samples are calibration samples",
        "The ranges of a quantized model were taken from samples that it is then scored on, so "
        "the score would flatter it. Samples are compared by content, not by name. Split the data "
        "so that none stands in both roles.",
    ),
    "E293": Explanation(
        "artifact lacks an output",
        "The float model has an output that the artifact does not give under that name. Nothing "
        "can be said of it then; name the outputs that you need under `outputs:` in the profile.",
    ),
}
