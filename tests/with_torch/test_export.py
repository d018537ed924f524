"""What torch exports is what edgedeploy is given."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

# The exporters warn about themselves at length.
pytestmark = pytest.mark.filterwarnings("ignore")


def test_the_environment_is_the_cpu_build() -> None:
    """A CUDA build would be another product, with gigabytes of libraries."""
    assert torch.__version__ == "2.13.0+cpu"
    assert torch.version.cuda is None
    assert tuple(int(part) for part in np.__version__.split(".")[:2]) < (2, 4)


@pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])
def test_efficientnet_exports_with_equal_outputs(
    efficientnet: torch.nn.Module, image: np.ndarray, tmp_path: Path, dynamo: bool
) -> None:
    """Both exporters, against torch itself."""
    file = tmp_path / "efficientnet.onnx"
    opset = 18 if dynamo else 17
    torch.onnx.export(
        efficientnet,
        (torch.from_numpy(image),),
        file,
        dynamo=dynamo,
        opset_version=opset,
        input_names=["image"],
        output_names=["logits"],
    )
    assert [item.version for item in onnx.load(file).opset_import if not item.domain] == [opset]
    session = ort.InferenceSession(file, providers=["CPUExecutionProvider"])
    with torch.no_grad():
        expected = efficientnet(torch.from_numpy(image)).numpy()
    (got,) = session.run(None, {"image": image})
    np.testing.assert_allclose(got, expected, atol=1e-4, rtol=1e-4)
