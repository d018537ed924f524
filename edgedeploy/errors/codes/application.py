"""E840-E899: applications: tasks, decoding, pipelines, streams, preprocessing, trying, retraining.

One table for all of them, in the order of the codes.
"""

from __future__ import annotations

from edgedeploy.errors.codes import Explanation

CODES: dict[str, Explanation] = {
    "E856": Explanation(
        "A released model does not fit the present data",
        "`compare RELEASE PROFILE` runs the release's artifacts on the samples that the profile "
        "evaluates now, and this one takes other inputs, gives other outputs, or has other classes "
        "or characters than the present model. Leave the target out with `-t`, or compare with a "
        "release that takes the same data.",
    ),
    "E857": Explanation(
        "Samples cannot be parted into slices",
        "`--slices` names a column of the table of labels, or a function `file.py:function` that "
        "gives the slice of a sample's name. The column is not there, the function fails, or it "
        "makes no slice at all or too many: every slice is one more test, and makes all of them "
        "less sharp.",
    ),
    "E858": Explanation(
        "Nothing of a release can be paired with the last build",
        "Samples are paired where a model on a target stands in the release and in the profile, "
        "has a metric with a truth and evaluation data, and runs on this machine. The message says "
        "what is missing for each. Give the profile `metric:` and `data: {evaluate: ...}`, or "
        "compare two bundles, which needs no samples.",
    ),
    "E859": Explanation(
        "A folder does not hold one profile",
        "A folder stands for the profile in it: the YAML file with the key `edgedeploy`. There is "
        "none here, or there are several. Name the file.",
    ),
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
    "E880": Explanation(
        "A pipeline that cannot be judged or called",
        "A pipeline is a function of inputs and models, `def read(inputs, models)`, with `metric` "
        "and `data: {evaluate: ...}` of its own at the top of the profile: without them nothing "
        "says what the models are worth together. Add what the message names.",
    ),
    "E881": Explanation(
        "The pipeline's function failed",
        "Your function raised, with the float models or with artifacts: the place is its own "
        "line. Where it works with float models alone, it trips over an answer that those never "
        "give, such as no box at all: an application would meet that too.",
    ),
    "E882": Explanation(
        "The pipeline's function returned no arrays",
        "A pipeline returns a dict of names to arrays of numbers, booleans or texts, the same "
        "names for every sample. Anything else cannot be scored; return a text as "
        "`numpy.array(text)`.",
    ),
    "E883": Explanation(
        "The pipeline calls a model that is not there",
        "Models are attributes by the names under `models:`, such as `models.detector`; a name "
        "that Python cannot write is asked for as `models['my-model']`. Correct the name in the "
        "function or in the profile.",
    ),
    "E884": Explanation(
        "The pipeline calls a model with what it does not take",
        "Names, dtypes and shapes have to be the model's, as `edgedeploy inspect` prints them and "
        "`inputs:` and `dims:` bind them. Nothing is cast or reshaped on the way; an "
        "application's runtime would refuse it too. State is fed by itself, and not given.",
    ),
    "E885": Explanation(
        "The pipeline never called a model",
        "A model without data of its own is calibrated and compared on what the float pipeline "
        "feeds it, one sample per call; to calibrate there must be two. Give the pipeline samples "
        "on which it calls the model (a page with lines), or the model data of its own.",
    ),
    "E887": Explanation(
        "A pipeline was given calibration tables",
        "Tables are of one model's activations, and the data at the top is what the pipeline's "
        "function is given. Write `data: {calibrate: {tables: ...}}` under each model that shall "
        "do without samples; the pipeline's own `calibrate` may then be left out.",
    ),
    "E896": Explanation(
        "The baked steps are not the last ones",
        "An application and its model share the work at one point: what is in `bake` is done "
        "behind all that is not, and colour, scale, then mean and std have that order. Bake the "
        "later step as well, or leave the earlier one outside. `uint8` brings scale, mean and std "
        "along. A scale of 0 cannot be baked: nothing would be left of the picture.",
    ),
    "E897": Explanation(
        "Preprocessing cannot be baked into an input",
        "`bake` puts the declared steps in front of an input of the model, which has to be a float "
        "tensor of four axes with 1 or 3 channels where `layout` says, and no output at the same "
        "time. The message says what does not hold. Correct `layout` or `colour`, or leave `bake` "
        "out: the application does the steps then.",
    ),
}
