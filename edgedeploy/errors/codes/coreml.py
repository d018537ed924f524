"""Codes of the Core ML backend (E340-E349) and of the interpreter of its packages (E360-E369)."""

from __future__ import annotations

from edgedeploy.errors.codes import Explanation

CODES: dict[str, Explanation] = {
    "E340": Explanation(
        "Core ML cannot express a node",
        "The front end has no translation for the operator, or not for the form that this node "
        "has; the message says which, and all such nodes are named at once. Often binding the "
        "model's dims to numbers is enough. Otherwise replace the node by other operators, move it "
        "out of the model into the app, or drop the Core ML target.",
    ),
    "E341": Explanation(
        "An input or output that no app can feed or read",
        "Core ML takes and gives arrays of float16, float32 and int32 (bool and other integers are "
        "given as int32), of a known rank. Strings, complex numbers and unknown ranks are neither. "
        "Convert it outside the model.",
    ),
    "E342": Explanation(
        "coremltools does not convert the program",
        "Every node was translated, yet coremltools refused the whole. Its message is shown. This "
        "is a fault of edgedeploy or of coremltools: please report it with the model.",
    ),
    "E343": Explanation(
        "The layers of a Core ML package cannot be timed here",
        "Only Core ML itself can tell, on a Mac or a device. Here packages are interpreted, which "
        "shows what they compute and not how fast. Use the performance report of Xcode.",
    ),
    "E344": Explanation(
        "An input cannot be an image",
        "With `images: true` Core ML is to take pixels for each input that the profile describes "
        "as an image, and the shape of this one does not allow it: Core ML takes one image with 1 "
        "or 3 channels. Bind the batch to 1, or leave the option off.",
    ),
    "E345": Explanation(
        "A sample that no image gives",
        "The package takes pixels. To compare it with the float model, the samples of the build "
        "are turned back into pixels, and one of them has values that no pixel becomes. Evaluate "
        "on image files, or leave `images` off.",
    ),
    "E346": Explanation(
        "Core ML cannot keep a state",
        "With `stateful: true` Core ML is to keep the model's state between predictions. It does "
        "so from iOS 18 and macOS 15 on, in float16, and of a fixed shape. Otherwise leave the "
        "option off: the state is then an input and an output, which the app carries over.",
    ),
    "E347": Explanation(
        "Core ML cannot answer with a class",
        "With `classifier: true` the first output is to be a probability for each class that "
        "stands in the profile's `classes:` file; there must be as many as the output has "
        "elements, each with a name of its own.",
    ),
    "E348": Explanation(
        "Core ML must know the sizes of an input",
        "An open dim needs limits: without them coremltools would silently allow the sizes 1 and 2 "
        "alone. Give it a size, a range or buckets in the profile. A list of shapes (`shapes: "
        "enumerated`) holds for one input, and for 128 shapes at most.",
    ),
    "E349": Explanation(
        "A node to keep in float32 does not exist",
        "`keep_float` or `keep_float_ops` names a node or an operator, and nothing in the model "
        "matches it. Names are those of the normal form, which `edgedeploy inspect` and the "
        "report show.",
    ),
    "E360": Explanation(
        "A Core ML package cannot be read",
        "The package misses a file, or a file was cut or changed. Build it again.",
    ),
    "E361": Explanation(
        "An operation that the interpreter does not know",
        "Away from a Mac, Core ML packages are run by an interpreter of our own, and it has no "
        "rule for an operation of this package. Evaluate the package on a Mac.",
    ),
    "E362": Explanation(
        "An operation of a Core ML program failed",
        "The interpreter could not compute an operation from what the package says, or its result "
        "contradicts the type that the package declares. On a device the package would fail or be "
        "wrong as well. Please report it with the model.",
    ),
    "E363": Explanation(
        "An input that a Core ML program does not take",
        "The interpreter was fed an array of another type or shape than the program declares, or "
        "none at all. A size outside the declared ones is such a case: bind the profile's dims to "
        "what the data has.",
    ),
}
