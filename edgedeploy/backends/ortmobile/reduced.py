"""What a reduced build of ONNX Runtime needs for a model, as text files.

Sources: "Build ONNX Runtime for Android/iOS", "Custom build", and "Reduced operator config file"
in the runtime's documentation; the options are those of ``tools/ci_build/build.py``.
"""

from __future__ import annotations

import logging
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgedeploy.backends.ortmobile.runner import load_runtime
from edgedeploy.errors import BuildError

CONFIG = "required_operators_and_types.config"
COMMAND = "build_runtime.txt"

_ANDROID_ABIS = {"arm64": "arm64-v8a", "armv7": "armeabi-v7a", "x86_64": "x86_64"}
_ANDROID_API = 29  # NNAPI 1.2, the lowest that the provider's documentation recommends
_IOS_DEPLOYMENT = "15.1"


def required_operators(skeletons: Sequence[Path]) -> str:
    """Return the config that ``--include_ops_by_config`` reads: operators with element types.

    Args:
        skeletons: ``.ort`` files with empty tensors, all graphs that the runtime may end up with.

    Raises:
        BuildError: The runtime's own analysis failed (E301).
    """
    load_runtime()
    from onnxruntime.tools.ort_format_model import create_config_from_models

    # The tool announces every file that it writes, by its path.
    logging.getLogger("ort_format_model.utils").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory(dir=skeletons[0].parent) as private:
        config = Path(private) / CONFIG
        try:
            create_config_from_models(list(skeletons), config, enable_type_reduction=True)
        except Exception as error:
            raise BuildError(
                f"the operators of the model could not be listed: {error}", code="E301"
            ) from error
        lines = config.read_text(encoding="utf-8").splitlines()
    # The tool's header names the files with their absolute paths.
    kept = [line for line in lines if not line.startswith("#")]
    return "\n".join(["# Operators and types that this model needs.", *kept, ""])


def oldest_version(fields: Mapping[str, Any]) -> str:
    """Return the oldest version of ``runtime.versions`` (``>=1.17``), empty without one."""
    return str(fields.get("runtime.versions") or "").partition(",")[0].lstrip(">=~ ")


def build_command(
    fields: Mapping[str, Any], domains: Sequence[str], *, installed_version: str
) -> str:
    """Return a shell script text that builds a runtime with just these operators.

    Args:
        fields: ``board.os``, ``board.arch`` and ``runtime.versions`` where the target
            states them.
        domains: Operator domains of the model.
        installed_version: Version that is built where the target states no oldest one.
    """
    oldest = oldest_version(fields) or installed_version
    version = oldest if oldest.count(".") >= 2 else f"{oldest}.0"
    options = [
        "--config MinSizeRel",
        "--parallel",
        "--skip_tests",
        *_kind_of_build(fields),
        "--minimal_build extended",
        f"--include_ops_by_config ../{CONFIG}",
        "--enable_reduced_operator_type_support",
        "--disable_rtti",
        *_platform_options(fields),
    ]
    if "ai.onnx.ml" not in domains:
        options.append("--disable_ml_ops")
    lines = [
        f"# Builds ONNX Runtime {version} with the operators and types of this model alone.",
        f"# Run it in the folder that holds {CONFIG}.",
        f"git clone --depth 1 --branch v{shlex.quote(version)} --recursive \\",
        "    https://github.com/microsoft/onnxruntime.git",
        "cd onnxruntime",
        "./build.sh \\",
        " \\\n".join(f"    {option}" for option in options),
        "",
    ]
    return "\n".join(lines)


def _kind_of_build(fields: Mapping[str, Any]) -> list[str]:
    if fields.get("board.os") == "web":
        return ["--build_wasm", "--enable_wasm_simd", "--enable_wasm_threads"]
    return ["--build_shared_lib"]


def _platform_options(fields: Mapping[str, Any]) -> list[str]:
    """Return the options that choose the platform and its providers."""
    system, arch = str(fields.get("board.os", "linux")), str(fields.get("board.arch", ""))
    if system == "android":
        abi = _ANDROID_ABIS.get(arch, "arm64-v8a")
        return [
            "--android",
            f"--android_abi {abi}",
            f"--android_api {_ANDROID_API}",
            '--android_sdk_path "$ANDROID_HOME"',
            '--android_ndk_path "$ANDROID_NDK_HOME"',
            "--use_nnapi",
            "--use_xnnpack",
        ]
    if system == "ios":
        return [
            "--ios",
            "--use_xcode",
            "--apple_sysroot iphoneos",
            "--osx_arch arm64",
            f"--apple_deploy_target {_IOS_DEPLOYMENT}",
            "--use_coreml",
            "--use_xnnpack",
        ]
    return {"arm64": ["--arm64"], "armv7": ["--arm"]}.get(arch, [])
