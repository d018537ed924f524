"""The options of trtexec: one row per flag, as far as releases were read.

Read were the parsers of 8.6.1, 10.0.1, 10.14, 11.0, 11.1, 11.2.1 and of the main branch after 11.4,
the help of 10.6, a log of 10.16, and the release notes of 11.5. Where a flag is not in one of these
and is in the next, ``known`` begins with the next: it may have come a little earlier, never later.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from edgedeploy.backends.trt.options import Span, TrtOption, Version

RELEASES: tuple[Version, ...] = (
    (8, 6),
    *((10, minor) for minor in range(17)),
    *((11, minor) for minor in range(5)),
    (11, 4, 1),
    (11, 5),
)
"""Releases that the table tells apart, ascending."""

_GIT = "https://github.com/NVIDIA/TensorRT/blob"
_DOCS = "https://docs.nvidia.com/deeplearning/tensorrt"

SOURCES: Mapping[str, str] = {
    "8.6": f"{_GIT}/v8.6.1/samples/common/sampleOptions.cpp",
    "10.0": f"{_GIT}/362a6257fc534b467c62658abfdf86cd25d1a034/samples/common/sampleOptions.cpp",
    "10.0 removed": f"{_DOCS}/11.4.1/api/migration/tensorrt-8x-to-10x-trtexec.html",
    "10.6": "https://github.com/NVIDIA/trt-samples-for-hackathon-cn/blob/master/cookbook/07-Tool/"
    "trtexec/Help.txt",
    "10.8": f"{_DOCS}/11.3.0/inference-library/work-with-dla.html",
    "10.12": "https://www.skills.sh/nvidia/tensorrt/trt-strong-typing-migration",
    "10.14": f"{_GIT}/3b4ddc1d45f11167f2ea53dc6046bba8df800e2d/samples/common/sampleOptions.cpp",
    "10.16": "https://github.com/NVIDIA/trt-samples-for-hackathon-cn/blob/"
    "02ed7b100287c37089469a2befc6a25baf06ce77/cookbook/07-Tool/trtexec/result-01.log",
    "11.0": f"{_GIT}/6e50a4cc1b9fbc7d7503017baa8c0abc8224589c/samples/common/sampleOptions.cpp",
    "11.0 removed": f"{_DOCS}/11.4.1/api/migration/tensorrt-10x-to-11x-trtexec.html",
    "11.1": f"{_GIT}/d5883286a711a1c2ed3064c3036d99d8eb7f9682/samples/common/sampleOptions.cpp",
    "11.4": f"{_GIT}/a9de66b4543a9e5a9891e85ca7a9ec51f2a83414/samples/trtexecCommon/"
    "sampleOptions.cpp",
    "11.4.1": f"{_DOCS}/11.4.1/inference-library/work-with-dla.html",
    "11.5": "https://github.com/NVIDIA/TensorRT/releases/tag/v11.5",
}
"""Where a release's flags were read."""


def _v(written: str) -> Version:
    return tuple(int(part) for part in written.split("."))


def _span(written: str) -> Span:
    first, _, end = written.partition("-")
    return Span(first=_v(first), end=_v(end) if end else None)


def _o(
    flag: str,
    known: str,
    what: str,
    api: str = "",
    *,
    works: str = "",
    deprecated: str = "",
    sent: bool = False,
) -> TrtOption:
    return TrtOption(
        flag=flag,
        what=what,
        known=_span(known),
        works=tuple(_span(part) for part in works.split()),
        deprecated=_v(deprecated) if deprecated else None,
        api=api,
        sent=sent,
    )


def _obsolete(
    flags: str, known: str, what: str, api: str = "", deprecated: str = ""
) -> Iterable[TrtOption]:
    return (_o(flag, known, what, api, deprecated=deprecated) for flag in flags.split())


_MODEL = (
    _o("--onnx", "8.6", "ONNX file to build from", "OnnxParser.parse_from_file", sent=True),
    _o("--saveEngine", "8.6", "file for the engine", "build_serialized_network", sent=True),
    _o("--loadEngine", "8.6", "engine to run", "Runtime.deserialize_cuda_engine", sent=True),
    *_obsolete(
        "--uff --uffInput --uffNHWC --model --deploy --output --batch --maxBatch",
        "8.6-10.0",
        "networks of Caffe and UFF, implicit batch",
    ),
    *_obsolete(
        "--explicitBatch --explicitPrecision",
        "8.6-10.0",
        "without effect since 8.2",
        deprecated="8.2",
    ),
)

_PROFILES = (
    _o(
        "--minShapes",
        "8.6",
        "sizes of a profile: lowest, to tune for, highest",
        "IOptimizationProfile.set_shape",
        sent=True,
    ),
    _o(
        "--optShapes",
        "8.6",
        "sizes of a profile: lowest, to tune for, highest",
        "IOptimizationProfile.set_shape",
        sent=True,
    ),
    _o(
        "--maxShapes",
        "8.6",
        "sizes of a profile: lowest, to tune for, highest",
        "IOptimizationProfile.set_shape",
        sent=True,
    ),
    _o(
        "--profile", "10.0", "begins one of several profiles", "add_optimization_profile", sent=True
    ),
    *_obsolete(
        "--minShapesCalib --optShapesCalib --maxShapesCalib",
        "8.6-11.0",
        "sizes for calibration",
        api="IBuilderConfig.set_calibration_profile",
    ),
    _o("--calibProfile", "10.0-11.0", "profile for calibration", "set_calibration_profile"),
    _o(
        "--inputIOFormats", "8.6", "types and layouts of inputs, outputs", "ITensor.allowed_formats"
    ),
    _o(
        "--outputIOFormats",
        "8.6",
        "types and layouts of inputs, outputs",
        "ITensor.allowed_formats",
    ),
)

_TYPES = (
    _o(
        "--stronglyTyped",
        "10.0",
        "types of the graph hold as they are",
        "NetworkDefinitionCreationFlag.STRONGLY_TYPED",
        works="10.0-11.0",
        deprecated="11.0",
        sent=True,
    ),
    _o(
        "--fp16",
        "8.6-11.0",
        "float16 kernels may be chosen",
        "BuilderFlag.FP16",
        deprecated="10.12",
        sent=True,
    ),
    _o(
        "--int8",
        "8.6-11.0",
        "int8 kernels may be chosen",
        "BuilderFlag.INT8",
        deprecated="10.12",
        sent=True,
    ),
    _o("--bf16", "10.0-11.0", "bfloat16 kernels", "BuilderFlag.BF16", deprecated="10.12"),
    _o("--fp8", "8.6-11.0", "fp8 kernels", "BuilderFlag.FP8", deprecated="10.12"),
    _o("--int4", "10.6-11.0", "int4 weights", "BuilderFlag.INT4", deprecated="10.12"),
    _o("--best", "8.6-11.0", "all types at once", "several BuilderFlags", deprecated="10.12"),
    _o("--calib", "8.6-11.0", "file of a calibration", "IBuilderConfig.int8_calibrator"),
    _o(
        "--precisionConstraints",
        "8.6-11.0",
        "whether types asked of layers hold",
        "BuilderFlag.OBEY_PRECISION_CONSTRAINTS",
        sent=True,
    ),
    _o("--layerPrecisions", "8.6-11.0", "type of each layer", "ILayer.precision", sent=True),
    _o("--layerOutputTypes", "8.6-11.0", "types of outputs", "ILayer.set_output_type"),
    _o("--noTF32", "8.6", "float32 products in full precision", "BuilderFlag.TF32", sent=True),
    _o(
        "--directIO",
        "8.6",
        "no reformatting at the edges",
        "BuilderFlag.DIRECT_IO",
        deprecated="10.14",
    ),
)

_BUILD = (
    _o(
        "--memPoolSize",
        "8.6",
        "limits of memory pools",
        "IBuilderConfig.set_memory_pool_limit",
        sent=True,
    ),
    _o("--workspace", "8.6-10.0", "limit of the workspace", "max_workspace_size", deprecated="8.4"),
    _o("--minTiming", "8.6-10.0", "runs per kernel that is timed", "min_timing_iterations"),
    _o("--avgTiming", "8.6", "timings that are averaged", "IBuilderConfig.avg_timing_iterations"),
    _o(
        "--heuristic",
        "8.6-10.0",
        "fewer kernels are timed",
        "ENABLE_TACTIC_HEURISTIC",
        deprecated="8.6",
    ),
    _o(
        "--builderOptimizationLevel",
        "8.6",
        "how long to search, 0 to 5",
        "IBuilderConfig.builder_optimization_level",
        sent=True,
    ),
    _o("--maxTactics", "10.6", "most kernels that are timed", "IBuilderConfig.max_num_tactics"),
    _o("--maxAuxStreams", "8.6", "streams beside the main one", "IBuilderConfig.max_aux_streams"),
    _o(
        "--tilingOptimizationLevel",
        "10.14",
        "how far to tile for the L2 cache",
        "IBuilderConfig.tiling_optimization_level",
    ),
    _o(
        "--l2LimitForTiling",
        "10.14",
        "L2 bytes that tiling may use",
        "IBuilderConfig.l2_limit_for_tiling",
    ),
    _o("--tacticSources", "8.6", "where kernels come from", "IBuilderConfig.set_tactic_sources"),
    _o(
        "--noBuilderCache",
        "8.6",
        "no timing is kept during the build",
        "BuilderFlag.DISABLE_TIMING_CACHE",
        sent=True,
    ),
    _o(
        "--timingCacheFile",
        "8.6",
        "timings, read before and written after",
        "IBuilderConfig.set_timing_cache",
        sent=True,
    ),
    _o(
        "--noCompilationCache",
        "10.0",
        "no compiled code in the timing cache",
        "BuilderFlag.DISABLE_COMPILATION_CACHE",
    ),
    _o(
        "--errorOnTimingCacheMiss",
        "10.0",
        "fail where a timing is missing",
        "BuilderFlag.ERROR_ON_TIMING_CACHE_MISS",
    ),
    _o(
        "--sparsity",
        "8.6",
        "kernels for 2:4 sparse weights",
        "BuilderFlag.SPARSE_WEIGHTS",
        sent=True,
    ),
    _o("--preview", "8.6", "previews of features", "IBuilderConfig.set_preview_feature"),
    _o(
        "--distributiveIndependence",
        "10.14",
        "no sums in another order",
        "BuilderFlag.DISTRIBUTIVE_INDEPENDENCE",
    ),
    _o(
        "--decomposableAttentions",
        "10.14",
        "attention layers that may be split",
        "IAttention.decomposable",
    ),
    _o("--monitorMemory", "10.6", "report of memory", "BuilderFlag.MONITOR_MEMORY"),
    _o("--skipInference", "8.6", "build and stop", sent=True),
    _o("--buildOnly", "8.6-10.0", "build and stop", deprecated="8.6"),
    _o("--safe", "8.6", "engine of the safety runtime", "EngineCapability.SAFETY"),
    _o("--consistency", "8.6", "check of a safety engine"),
    _o("--restricted", "8.6-11.0", "limits of the safety scope", "BuilderFlag.SAFETY_SCOPE"),
    _o("--markDebug", "10.0", "tensors to look at", "INetworkDefinition.mark_debug"),
    _o(
        "--markUnfusedTensorsAsDebugTensors",
        "10.14",
        "all unfused tensors",
        "mark_unfused_tensors_as_debug_tensors",
    ),
    _o(
        "--pluginInstanceNorm",
        "10.0",
        "InstanceNormalization by plugin",
        "OnnxParserFlag.NATIVE_INSTANCENORM",
    ),
    _o("--pi", "10.0", "short for --pluginInstanceNorm", "OnnxParserFlag.NATIVE_INSTANCENORM"),
    _o(
        "--enablePluginOverride",
        "10.16",
        "plugins before layers",
        "OnnxParserFlag.ENABLE_PLUGIN_OVERRIDE",
    ),
    _o("--remoteAutoTuningConfig", "10.14", "time kernels on another machine (safety)"),
    _o("--cpuOnly", "10.16", "build without a GPU (safety)"),
    _o("--dumpKernelText", "10.14", "text of kernels (safety)"),
    *_obsolete(
        "--setBuildRoute --tuneBuildRoutes --tuneBuildRouteFile --tuningSearch --tuningCacheFile"
        " --tuningTimeOut --saveAllEngines --dryRun --continue --helpBuildRoute --tuningResultFile",
        "11.1",
        "many builds, to keep the fastest",
    ),
    *_obsolete(
        "--greenContext --reference --loadCheckerBlob --dumpCheckerBlob --remoteConfig",
        "11.4",
        "parts of a GPU; checks of safety engines",
    ),
    _o("--independentWeightLayouts", "11.5", "weights in layouts of their own"),
)

_PORTABLE = (
    _o("--refit", "8.6", "weights can be replaced", "BuilderFlag.REFIT", sent=True),
    _o("--stripWeights", "10.0", "no weights in the engine", "BuilderFlag.STRIP_PLAN"),
    _o("--stripAllWeights", "10.6", "no weights, all can be replaced", "BuilderFlag.STRIP_PLAN"),
    _o("--weightless", "10.0-11.0", "former name of --stripWeights", deprecated="10.6"),
    _o("--refitFromOnnx", "10.14", "weights from an ONNX file", "OnnxParserRefitter"),
    _o(
        "--versionCompatible",
        "8.6",
        "later releases load the engine",
        "BuilderFlag.VERSION_COMPATIBLE",
        sent=True,
    ),
    _o("--vc", "8.6", "short for --versionCompatible", "BuilderFlag.VERSION_COMPATIBLE"),
    _o(
        "--excludeLeanRuntime",
        "8.6",
        "without the runtime in the engine",
        "BuilderFlag.EXCLUDE_LEAN_RUNTIME",
    ),
    _o("--useRuntime", "8.6", "full, lean or dispatch"),
    _o("--leanDLLPath", "8.6", "library of the lean runtime", "Runtime.load_runtime"),
    _o(
        "--hardwareCompatibilityLevel",
        "8.6",
        "other GPUs load the engine",
        "IBuilderConfig.hardware_compatibility_level",
        sent=True,
    ),
    _o(
        "--hardwareCompatibilityLevel=sameComputeCapability",
        "10.14",
        "GPUs of the same compute capability load it",
        "HardwareCompatibilityLevel.SAME_COMPUTE_CAPABILITY",
        sent=True,
    ),
    _o("--runtimePlatform", "10.6", "system that will load it", "IBuilderConfig.runtime_platform"),
    _o(
        "--allowWeightStreaming",
        "10.0",
        "weights may stay in host memory",
        "BuilderFlag.WEIGHT_STREAMING",
    ),
    _o(
        "--weightStreamingBudget",
        "10.0",
        "weights that stay on the GPU",
        "ICudaEngine.weight_streaming_budget_v2",
    ),
    _o("--tempdir", "8.6", "folder for temporary files", "Runtime.temporary_directory"),
    _o(
        "--tempfileControls",
        "8.6",
        "temporary files that are allowed",
        "Runtime.tempfile_control_flags",
    ),
    _o("--getPlanVersionOnly", "10.0", "release that made an engine"),
    _o("--asyncFileReader", "10.14", "read engines asynchronously", "IStreamReaderV2"),
)

_DLA = "8.6-10.8 11.4.1"
_SYSTEM = (
    _o("--device", "8.6", "GPU by number", "cudaSetDevice"),
    _o(
        "--useDLACore",
        "8.6",
        "layers run on a DLA core",
        "IBuilderConfig.DLA_core",
        works=_DLA,
        sent=True,
    ),
    _o(
        "--allowGPUFallback",
        "8.6",
        "layers that the DLA does not take run on the GPU",
        "BuilderFlag.GPU_FALLBACK",
        works=_DLA,
        sent=True,
    ),
    _o(
        "--layerDeviceTypes",
        "8.6",
        "GPU or DLA, by layer",
        "IBuilderConfig.set_device_type",
        works=_DLA,
    ),
    _o(
        "--buildDLAStandalone",
        "8.6",
        "loadable for cuDLA",
        "EngineCapability.DLA_STANDALONE",
        works=_DLA,
    ),
    _o(
        "--uint8AsymmetricQuantizationDLA",
        "10.14",
        "uint8 on the DLA",
        "OnnxParserFlag.ENABLE_UINT8_AND_ASYMMETRIC_QUANTIZATION_DLA",
        works="11.4.1",
    ),
    _o(
        "--reportCapabilityDLA",
        "10.16",
        "what the DLA takes",
        "OnnxParserFlag.REPORT_CAPABILITY_DLA",
        works="11.4.1",
    ),
    _o(
        "--adjustForDLA",
        "10.16",
        "layers made fit for the DLA",
        "OnnxParserFlag.ADJUST_FOR_DLA",
        works="11.4.1",
    ),
    _o("--dlaWorkspaceAllocationStrategy", "11.4", "memory of the DLA", works="11.4.1"),
    _o("--plugins", "8.6", "former name of --staticPlugins", deprecated="8.6"),
    _o("--staticPlugins", "8.6", "plugin libraries", "IPluginRegistry.load_library"),
    _o("--dynamicPlugins", "8.6", "plugin libraries, in the engine", "plugins_to_serialize"),
    _o("--setPluginsToSerialize", "8.6", "which of them", "IBuilderConfig.plugins_to_serialize"),
    _o("--ignoreParsedPluginLibs", "8.6", "none that the parser names"),
)

_INFERENCE = (
    _o("--shapes", "8.6", "sizes to run with", "IExecutionContext.set_input_shape", sent=True),
    _o("--useProfile", "10.0", "profile to run with", "set_optimization_profile_async", sent=True),
    _o("--loadInputs", "8.6", "raw files as inputs, else random ones", sent=True),
    _o(
        "--iterations",
        "8.6",
        "fewest inferences, shortest time in seconds, warm-up in milliseconds",
        sent=True,
    ),
    _o(
        "--duration",
        "8.6",
        "fewest inferences, shortest time in seconds, warm-up in milliseconds",
        sent=True,
    ),
    _o(
        "--warmUp",
        "8.6",
        "fewest inferences, shortest time in seconds, warm-up in milliseconds",
        sent=True,
    ),
    _o("--sleepTime", "8.6", "pauses in milliseconds"),
    _o("--idleTime", "8.6", "pauses in milliseconds"),
    _o("--infStreams", "8.6", "contexts at once"),
    _o("--streams", "8.6", "former name of --infStreams", deprecated="8.6"),
    _o("--exposeDMA", "8.6", "no overlap of copies and kernels"),
    _o(
        "--noDataTransfers",
        "8.6",
        "no copies from and to the host",
        works="8.6-11.0",
        deprecated="11.0",
        sent=True,
    ),
    _o("--includeDataTransfers", "11.0", "copies from and to the host", sent=True),
    _o("--useManagedMemory", "8.6", "memory of host and GPU in one"),
    _o("--useSpinWait", "8.6", "wait actively", works="8.6-11.0", deprecated="11.0", sent=True),
    _o("--noSpinWait", "11.0", "wait without load", sent=True),
    _o("--threads", "8.6", "a thread per context"),
    _o(
        "--useCudaGraph",
        "8.6",
        "launch as one CUDA graph",
        works="8.6-11.0",
        deprecated="11.0",
        sent=True,
    ),
    _o("--noCudaGraph", "11.0", "launch kernel by kernel", sent=True),
    _o(
        "--separateProfileRun",
        "8.6",
        "layers are timed in a second run",
        works="8.6-11.0",
        deprecated="11.0",
        sent=True,
    ),
    _o("--timeDeserialize", "8.6", "time to load, to replace weights"),
    _o("--timeRefit", "8.6", "time to load, to replace weights"),
    _o("--persistentCacheRatio", "8.6", "L2 for activations", "persistent_cache_limit"),
    _o(
        "--allocationStrategy",
        "10.0",
        "when memory is reserved",
        "ExecutionContextAllocationStrategy",
    ),
    _o("--saveDebugTensors", "10.0", "files for debug tensors", "IDebugListener"),
    _o("--saveAllDebugTensors", "10.14", "files for all of them", "IDebugListener"),
    *_obsolete(
        "--loadRefOutputs --refPair --accuracyAlgorithm --atol --rtol --accuracyThreshold",
        "11.1",
        "outputs are compared with files",
    ),
)

_REPORT = (
    _o("--verbose", "8.6", "every step in the log", "Logger.VERBOSE", sent=True),
    _o(
        "--profilingVerbosity",
        "8.6",
        "what engines tell of their layers",
        "IBuilderConfig.profiling_verbosity",
        sent=True,
    ),
    _o("--nvtxMode", "8.6-10.0", "former name of --profilingVerbosity", deprecated="8.2"),
    _o("--avgRuns", "8.6", "what the summary tells"),
    _o("--percentile", "8.6", "what the summary tells"),
    _o("--dumpRefit", "8.6", "weights that can be replaced", "Refitter.get_all_weights"),
    _o("--dumpOutput", "8.6", "outputs in the log, or as files"),
    _o("--dumpRawBindingsToFile", "8.6", "outputs in the log, or as files"),
    _o("--dumpProfile", "8.6", "times of layers in the log", "IProfiler"),
    _o("--dumpLayerInfo", "8.6", "layers in the log", "EngineInspector"),
    _o(
        "--dumpOptimizationProfile",
        "10.0",
        "profiles in the log",
        "ICudaEngine.get_tensor_profile_shape",
    ),
    _o("--exportTimes", "8.6", "JSON: time of each inference", sent=True),
    _o("--exportOutput", "8.6", "JSON: outputs of the last one", sent=True),
    _o("--exportProfile", "8.6", "JSON: times of layers", "IProfiler", sent=True),
    _o("--exportLayerInfo", "8.6", "JSON: the layers", "EngineInspector", sent=True),
    _o("--help", "8.6", "all options"),
)

GROUPS: Mapping[str, tuple[TrtOption, ...]] = {
    "Model, engine and shapes": (*_MODEL, *_PROFILES),
    "Types": _TYPES,
    "Building": _BUILD,
    "Where engines run": (*_PORTABLE, *_SYSTEM),
    "Running and reports": (*_INFERENCE, *_REPORT),
}
"""The rows by chapter of the page."""

ROWS: tuple[TrtOption, ...] = tuple(row for rows in GROUPS.values() for row in rows)
