"""How an application uses the artifact: `python app.py model.ort FILE...` names file types."""

import os
import sys
from pathlib import Path

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # has to stand here before onnxruntime is imported

import numpy as np
import onnxruntime
from features import config, features


def load(model: str) -> onnxruntime.InferenceSession:
    """Return a session that uses the weights in place in the mapped file, without a copy."""
    options = onnxruntime.SessionOptions()
    # The two keys work together only.
    options.add_session_config_entry("session.use_memory_mapped_ort_model", "1")
    options.add_session_config_entry("session.use_ort_model_bytes_for_initializers", "1")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def main() -> None:
    """Print one line for each file: its name, its type and how sure the model is."""
    session, settings = load(sys.argv[1]), config()
    for name in sys.argv[2:]:
        tensor = features(Path(name).read_bytes(), settings)
        (scores,) = session.run(None, {"bytes": tensor})
        best = int(np.argmax(scores[0]))
        print(f"{name}: {settings['target_labels_space'][best]} {scores[0, best]:.3f}")


if __name__ == "__main__":
    main()
