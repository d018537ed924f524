"""E10x-E12x: YAML files; E13x-E14x: profiles; E15x: targets; E16x: a profile with its targets."""

from __future__ import annotations

from edgedeploy.errors.codes import Explanation

CODES: dict[str, Explanation] = {
    "E101": Explanation(
        "A file cannot be read",
        "The path does not exist, is a folder, a pipe or a device, or you may not read it. "
        "Give the path of a YAML file, relative to where you are.",
    ),
    "E102": Explanation(
        "The file is empty",
        "The file holds nothing but white space and comments. Write at least the required keys; "
        "`edgedeploy init model.onnx` writes a valid start from a model's real inputs.",
    ),
    "E103": Explanation(
        "The file is too large",
        "Profiles and target files are at most 1 MiB, so that reading one is always quick. "
        "Data does not belong into them: put it into a file of its own and name its path.",
    ),
    "E104": Explanation(
        "Unknown key",
        "The map has a key that this version does not know, often a misspelling. Nothing is "
        "ignored silently, since a mistyped gate would gate nothing. Correct or remove the key; "
        "docs/profile.md lists all.",
    ),
    "E105": Explanation(
        "A required key is missing",
        "The map at the place shown lacks a key without which it means nothing. Add it; "
        "docs/profile.md says what it takes.",
    ),
    "E106": Explanation(
        "A value of the wrong type",
        "A map, list, text or number stands where another one is wanted; an empty value counts as "
        "none of them. Values are never converted silently. Write the value in the form that the "
        "hint names.",
    ),
    "E107": Explanation(
        "A value that is not allowed",
        "The value has the right type and is outside what the key takes: not one of the legal "
        "words, out of range, or malformed. The hint names the nearest legal one.",
    ),
    "E108": Explanation(
        "Text that needs quotes",
        "Unquoted, YAML reads this scalar as a number, true, false or nothing, and text is wanted: "
        "a version `1.10` would become 1.1. Put it in double quotes.",
    ),
    "E109": Explanation(
        "A malformed quantity",
        "Durations, sizes and changes carry their unit: `20 ms`, `4 MB` (10^6 bytes), `4 MiB` "
        "(2^20 bytes), `-1 pt`. A bare number would leave the unit to guessing. Changes of a "
        "metric need a sign as well.",
    ),
    "E110": Explanation(
        "Not UTF-8, or a forbidden character",
        "The file must be UTF-8 text without NUL and other control characters. Save it as UTF-8 "
        "in your editor, and write such characters as escapes in double quotes.",
    ),
    "E111": Explanation(
        "Not YAML",
        "The parser cannot read on at the place shown. Usual causes are text with `: ` in it that "
        "is not quoted, a bracket that is not closed, and indentation that does not line up.",
    ),
    "E112": Explanation(
        "A tab as indentation",
        "YAML does not allow tabs in the indentation, because their width is not defined. "
        "Indent with spaces.",
    ),
    "E113": Explanation(
        "A duplicate key",
        "The same key stands twice in one map. Other readers silently take the last one; here "
        "you decide. Keep one of the two.",
    ),
    "E114": Explanation(
        "A merge key",
        "`<<` is no part of YAML 1.2, and nested merges grow without bound. Write the keys out; "
        "defaults at the top level of a profile hold for every model and target.",
    ),
    "E115": Explanation(
        "A tag that is not allowed",
        "Tags such as `!!python/object` ask a reader to build objects; a configuration file holds "
        "plain data only. Remove the tag.",
    ),
    "E116": Explanation(
        "Several documents",
        "A `---` line starts a second YAML document, which would be ignored. Keep one document "
        "per file.",
    ),
    "E117": Explanation(
        "Nested too deep",
        "Maps and lists may be nested 50 levels deep, also through aliases. No profile needs "
        "that; it is a slip in the brackets or an attack. Flatten the structure.",
    ),
    "E118": Explanation(
        "Too many values or aliases",
        "A file holds at most 50 000 values, where an alias counts as all that it stands for, and "
        "at most 100 aliases: a few lines of nested aliases could stand for billions. Write values "
        "out where they are needed.",
    ),
    "E119": Explanation(
        "A number that cannot be held",
        "The number has more than 64 characters, is larger than a double, or is infinite or not "
        "a number. Write a finite number.",
    ),
    "E120": Explanation(
        "An alias without an anchor",
        "`*name` stands for a value that was marked `&name` further up; this one was not, or the "
        "alias stands inside the value itself. Text that starts with `*` needs quotes.",
    ),
    "E121": Explanation(
        "A key that is no plain text",
        "Keys are words or quoted text; maps and lists as keys, and anchors on keys, have no "
        "meaning here. Text with brackets in it needs quotes.",
    ),
    "E122": Explanation(
        "More faults than are listed",
        "At most 100 faults of a file are listed. Mend these first and check again.",
    ),
    "E130": Explanation(
        "`edgedeploy: 1` is missing",
        "The first key of a profile is `edgedeploy`, the number of its form, so that a later "
        "version can read or migrate it. Add `edgedeploy: 1` as the first line.",
    ),
    "E131": Explanation(
        "A profile form that never was",
        "The number behind `edgedeploy:` is that of the profile's form, which started at 1. "
        "Write `edgedeploy: 1`.",
    ),
    "E132": Explanation(
        "A profile of a newer form",
        "The profile was written for a later version of edgedeploy. Update edgedeploy; reading it "
        "with this version could misunderstand it.",
    ),
    "E133": Explanation(
        "No model, or two ways to name one",
        "A profile has either `model` (one) or `models` (a map of several), not both and not "
        "neither. `model: ...` is short for `models: {main: ...}`.",
    ),
    "E134": Explanation(
        "A malformed dim",
        "A dim is a size (`8`), a range (`1..64`, in steps `320..960/32`) or rising buckets "
        "(`[160, 320, 640]`, one artifact each). The steps of a range must reach its end.",
    ),
    "E135": Explanation(
        "A dim without a size",
        "A shape names a dim that does not stand in the model's `dims`. Add it there, or write a "
        "size into the shape.",
    ),
    "E136": Explanation(
        "Hosts, secrets or commands in a profile",
        "A profile is shared and committed; where devices are, how to log in and what to run on "
        "them belongs into devices.yaml, which is git-ignored and never shipped. A data function "
        "takes secrets from the environment.",
    ),
    "E137": Explanation(
        "Not built yet",
        "The key or value is part of the profile's form, and this version has no backend for it. "
        "Nothing is silently left out, so the profile is refused. Remove the part for now; "
        "docs/profile.md lists what is not built.",
    ),
    "E138": Explanation(
        "Calibration data is the evaluation data",
        "Ranges measured on the very samples that accuracy is judged on make int8 look better "
        "than it is. Give the two roles different data, or different parameters of one function.",
    ),
    "E139": Explanation(
        "An unknown target",
        "A target is `board/runtime`, and no file of that name was found on the search path. "
        "`edgedeploy targets list` shows all; `--target-path` adds a folder.",
    ),
    "E140": Explanation(
        "A runtime that does not serve the board",
        "Both exist, and the runtime has no build for that system and processor. The hint lists "
        "what serves the board, and which boards the runtime serves.",
    ),
    "E141": Explanation(
        "A target named twice",
        "The list of targets has the same id twice; it would be built twice with one result. "
        "Settings per target go into the map form of `targets`.",
    ),
    "E142": Explanation(
        "State that is fed in two ways",
        "Each state input is fed from one output, starting from zeros. It stands in one pair and "
        "has no `image`, `audio` or `value` of its own.",
    ),
    "E143": Explanation(
        "A malformed --set",
        "`--set key.key=value` changes one value before the profile is checked; the value is "
        "YAML in one line. The path leads through maps, and through lists by position.",
    ),
    "E144": Explanation(
        "Data without a source",
        "The role has no `source`, which means that data.yaml beside the profile says where the "
        "data lies on this machine, and it does not. Write `role: path` or `model.role: path` "
        "into data.yaml.",
    ),
    "E145": Explanation(
        "An input fed in two ways",
        "`image`, `audio` and `value` each say where the tensor of an input comes from; an input "
        "has at most one of them.",
    ),
    "E146": Explanation(
        "A path of one machine",
        "A profile works wherever it is checked out, so its paths are relative to it. Where "
        "private or large data lies on one machine belongs into data.yaml.",
    ),
    "E147": Explanation(
        "Quantization without data",
        "`w8a8` measures activation ranges on calibration data, and the model has none. Add "
        "`data: {calibrate: ...}`, or use fp16.",
    ),
    "E148": Explanation(
        "A metric gate that cannot be judged",
        "The gates `metric` and `worst_class` compare a metric on evaluation data with the float "
        "model's; `metric` and `data: {evaluate: ...}` are both needed. Add them, or remove the "
        "gate.",
    ),
    "E150": Explanation(
        "A target file whose id is not its name",
        "Boards and runtimes are found by file name, and `id` must agree, so that a copied file "
        "cannot pass for another. Change one of the two.",
    ),
    "E153": Explanation(
        "A target file that extends nothing, or itself",
        "`extends` names one parent of the same kind on the search path, from the same folder on; "
        "a chain of parents must end. A file may extend the one of its own name further down the "
        "search path.",
    ),
    "E154": Explanation(
        "A fact without its source",
        "Every physical number of a board or runtime says which document it was taken from, so "
        "that it can be checked. Write `{value: ..., source: URL or document and section}`.",
    ),
    "E160": Explanation(
        "A shape that the target cannot take",
        "Some runtimes or processors compile for fixed shapes only. Give the dim a size, or "
        "buckets, which make one artifact each.",
    ),
    "E161": Explanation(
        "A number representation that the target cannot take",
        "The runtime has no support for this quantize mode or this detail of it on this board. "
        "Use one of the listed, under this target alone if others can take it. "
        "`edgedeploy targets show ID` prints what is legal there and what is fast, with sources.",
    ),
    "E162": Explanation(
        "An unknown option",
        "Options belong to a runtime, and this one does not have it. "
        "`edgedeploy targets show ID` lists the options with their values.",
    ),
    "E163": Explanation(
        "An option value that is not allowed",
        "The option exists and takes other values. `edgedeploy targets show ID` lists them.",
    ),
    "E164": Explanation(
        "A gate that needs the device",
        "Latency and memory are judged only by measurements on the board itself; the clock of "
        "another machine says nothing of it. The build prints `not judged`, which is no failure; "
        "bench on the device to have it judged.",
    ),
    "E165": Explanation(
        "`method: nncf` does not fit",
        "NNCF quantizes to `w8a8` for OpenVINO, from samples; it chooses ranges, scales and types "
        "itself, and takes only `keep_float` and `keep_float_ops`. Override `quantize` under the "
        "OpenVINO target alone, or leave `method` out: the own quantizer serves every target.",
    ),
    "E166": Explanation(
        "The rounding needs calibration samples",
        "`rounding: second-order` looks at which inputs of a layer go together, and what it keeps "
        "of that is too large for a calibration table. Name samples under `data: {calibrate: ...}`,"
        " or leave `rounding` out: from a table weights are rounded to the nearest.",
    ),
}
