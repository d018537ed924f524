"""One run of a model by the real ONNX Runtime, for the stand-in of its Java interface."""

import sys
from pathlib import Path

import numpy as np
import onnxruntime

DTYPES = {
    "FLOAT": "float32",
    "DOUBLE": "float64",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
    "UINT8": "uint8",
    "FLOAT16": "float16",
}

# Python's binding frees its copy of a model before the session is made, so that these crash there;
# they are for callers that keep the model, as the Java and C interfaces let them.
IN_PLACE = (
    "session.use_ort_model_bytes_directly",
    "session.use_ort_model_bytes_for_initializers",
)


def main(folder: Path) -> None:
    """Read what is asked from a folder and write there what comes out."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    feed: dict[str, np.ndarray] = {}
    for line in (folder / "job").read_text(encoding="utf-8").splitlines():
        kind, name, *rest = line.split("\t")
        if kind == "input":
            data = np.fromfile(folder / f"input{len(feed)}", DTYPES[rest[0]])
            feed[name] = data.reshape([int(size) for size in rest[1:]])
        elif name not in IN_PLACE:
            options.add_session_config_entry(name, rest[0])
    model = (folder / "model").read_bytes()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = {dtype: name for name, dtype in DTYPES.items()}
    lines = []
    for number, value in enumerate(session.run(None, feed)):
        lines.append("\t".join([names[str(value.dtype)], *map(str, value.shape)]))
        (folder / f"output{number}").write_bytes(np.ascontiguousarray(value).tobytes())
    (folder / "result").write_text("\n".join(lines))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
