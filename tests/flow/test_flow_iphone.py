"""The bundled profile for iPhones: built as it is, on fewer lines, and run at three widths."""

from __future__ import annotations

from pathlib import Path

import onnxruntime as ort
import pytest
from flow_samples import images
from running import ROOT, edgedeploy, targets_of

from edgedeploy.backends.apple.runner import CoreMlRunner
from edgedeploy.errors import BuildError
from tests.coreml.models import MODELS, difference, installed

pytestmark = pytest.mark.slow


def test_the_profile_for_iphones(tmp_path: Path) -> None:
    """Both packages are accepted; each takes lines of all widths, as ONNX Runtime reads them."""
    built = edgedeploy(
        *("build", ROOT / "profiles/iphone.yaml", "-o", "results"),
        *("--set", "model.data.calibrate={source: quickstart_lines.py:calibration, samples: 4}"),
        *("--set", "model.data.evaluate.samples=4"),
        cwd=tmp_path,
        EDGEDEPLOY_STORE=str(tmp_path / "store"),
    )
    assert built.code == 0, built.err
    found = targets_of(tmp_path / "results/iphone")
    assert {target["verdict"] for target in found.values()} == {"accepted"}
    exact = ort.InferenceSession(installed(MODELS["rec"]), providers=["CPUExecutionProvider"])
    for name in ("ios17", "ios18"):
        with CoreMlRunner(tmp_path / "results/iphone/main" / name / "coreml") as runner:
            for width in (64, 200, 640):
                ((given, *_),) = images("x", 48, width, 3, count=1)
                (wanted,) = exact.run(None, given)
                made = runner.run(given)
                (scores,) = made.values()
                assert scores.shape == wanted.shape
                assert (scores.argmax(-1) == wanted.argmax(-1)).all(), (name, width)
                # 33 to 43 dB where this was written.
                assert difference([dict.fromkeys(made, wanted)], [made]).sqnr_db > 28, width
            ((wide, *_),) = images("x", 48, 641, 3, count=1)
            with pytest.raises(BuildError, match=r"64\.\.640"):
                runner.run(wide)
