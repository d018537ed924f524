"""Codes of measuring (E350-E369) and of the report documents (E370-E379)."""

from __future__ import annotations

from edgedeploy.errors.codes import Explanation

CODES: dict[str, Explanation] = {
    "E350": Explanation(
        "The runtime died while it was measured",
        "The process that loads and times the artifact was ended by the signal that the message"
        " names. SIGILL means that the runtime uses an instruction this CPU lacks, SIGKILL mostly"
        " that memory ran out, SIGSEGV and SIGABRT a fault of the runtime or of the artifact. No"
        " figure of such a run is kept. Try another version of the runtime or another scheme for"
        " this target, or give the machine more memory.",
    ),
    "E351": Explanation(
        "The runtime refused the artifact or its inputs",
        "Loading the artifact or running it with the bench inputs raised the runtime's own error,"
        " which the message repeats. The usual causes are an artifact made for another version of"
        " the runtime, an input whose shape or dtype does not fit, and an option that this version"
        " does not know. Rebuild for the runtime you measure with, or correct the option.",
    ),
    "E352": Explanation(
        "The measurement did not end in time",
        "The measuring process was killed at its deadline. Either the runtime hangs, or the model"
        " is so slow that the minimum time and count of the mode cannot be reached. Use the mode"
        " `quick`, or raise the deadline.",
    ),
    "E353": Explanation(
        "The measuring process gave no readable result",
        "The process ended without a signal and without a result. The usual causes are an"
        " interpreter that lacks NumPy and a full disk. The message repeats the last line that it"
        " wrote.",
    ),
    "E355": Explanation(
        "The interpreter for the measurement cannot be started",
        "The Python that should run the measuring loop is missing or may not be executed. Name an"
        " interpreter that has the runtime of the artifact installed.",
    ),
    "E370": Explanation(
        "The file is not a build document",
        "A report, a comparison or `accept` was given a file that is not the `build.json` of a"
        " build: it is no JSON, or a field is missing or of the wrong type. The message names the"
        " field. Give the `build.json` from the build folder, or build again.",
    ),
    "E371": Explanation(
        "The build document has another schema version",
        "The document was written by a version of edgedeploy whose schema this one does not read."
        " Use the version that the document names, or build again with this one.",
    ),
    "E372": Explanation(
        "The build did not look at the sensitivity of layers",
        "`edgedeploy inspect BUILD` shows what a build found out about its layers. A build looks "
        "at that where `quantize: auto` needs it, and wherever it can with `edgedeploy build "
        "--sensitivity`; it takes `calibrate` samples and a mode that may be `w8a8`.",
    ),
}
