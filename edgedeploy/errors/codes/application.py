"""E840-E899: applications: tasks, decoding, pipelines, streams, preprocessing, trying, retraining.

One table for all of them, in the order of the codes.
"""

from __future__ import annotations

from edgedeploy.errors.codes import Explanation

CODES: dict[str, Explanation] = {
    "E870": Explanation(
        "There is no such task",
        "`task:` names a preset, and there is none of that name. `docs/tasks.md` lists them: "
        "`classify`, `detect/yolo`, `ocr/ctc`, `vad`, `kws`, `embed`. Without `task:` write "
        "metric, decoder and gates yourself.",
    ),
    "E871": Explanation(
        "A parameter of a task cannot be used",
        "The preset does not take the parameter, or takes another kind of value for it. "
        "`docs/tasks.md` lists the parameters of each preset; everything else is a key of the "
        "profile, and overrides what the preset stands for.",
    ),
    "E872": Explanation(
        "The tasks of two models contradict each other",
        "Gates and quantization hold for all models of a profile, and the presets of two of its "
        "models ask for different values of one key. Write that key yourself: what the profile "
        "says overrides every preset.",
    ),
    "E873": Explanation(
        "There is no such decoder",
        "`decode:` names how outputs become an answer, and there is no decoder of that name. "
        "Write one of `yolo`, `boxes`, `ctc`, `classes`, `speech`, `vector`, or leave `decode` "
        "out: then outputs are numbers.",
    ),
    "E874": Explanation(
        "An output cannot be decoded",
        "The output that the decoder reads does not exist, or has another type or shape than "
        "that decoder takes. The message says which; name the right one under `decode: {output: "
        "...}`, or choose another decoder. `edgedeploy inspect` lists outputs.",
    ),
    "E875": Explanation(
        "A parameter of a decoder cannot be used",
        "The decoder does not take the parameter, takes another kind of value for it, or cannot "
        "find what it refers to, such as a key of the model's metadata. The message says what it "
        "takes; `docs/tasks.md` lists the parameters of each decoder.",
    ),
    "E876": Explanation(
        "The metric and the decoder do not fit",
        "The metric reads another kind of answer than the model's decoder gives (a text where "
        "there are boxes), or says itself how an output is read where the model already has a "
        "decoder for that. Choose a metric of the answer's kind, or say it in one place only.",
    ),
    "E877": Explanation(
        "A file of classes cannot be read",
        "`classes:` names a text file in UTF-8 with one class (or character) per line, and this "
        "one is in another encoding, or has an empty line: a class without a name, or one that "
        "some readers would skip. Save it as UTF-8 and remove empty lines.",
    ),
    "E890": Explanation(
        "Suppression cannot become a part of the model",
        "With `nms: model` the head of the detector, a float32 tensor of 4 + classes numbers for "
        "each of n boxes, is replaced by rows of chosen boxes. Its sizes must be known, and "
        "differ, so that it can be told which axis is which. Fix the shape of the input, name the "
        "head under `decode: {output: ...}`, or leave suppression to the app with `nms: app`.",
    ),
}
