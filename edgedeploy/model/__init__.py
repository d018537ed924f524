"""What an ONNX model file is, read safely: our own pre-parser, and adoption of a checked copy."""

from edgedeploy.model.adopt import adopt
from edgedeploy.model.facts import ExternalFile, Limits, ModelFacts
from edgedeploy.model.scan import scan

__all__ = ["ExternalFile", "Limits", "ModelFacts", "adopt", "scan"]
