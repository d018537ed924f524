# Syntax and library held to Python 3.6; a failure of any kind is told in result.json, typed there.
# ruff: noqa: UP006, UP031, UP035, UP045, PTH100, PTH118, PTH120, BLE001
"""Builds a TensorRT engine on the machine it runs on: ``python3 onboard_build.py job.json``.

It travels to devices as it is and needs ``onboard_watch.py`` beside it, the standard library and
the device's own ``tensorrt`` (8.6, 10.x or 11.x). Beside the job lie ``model.onnx`` (and its
weights) and ``recipe.json``; there it writes ``model.engine``, ``layers.json`` (as the engine
inspector tells it), ``build.log`` and ``result.json``. The engine gets its name only when it is
whole and this machine has loaded it.

The job::

    {"build": 1, "held": false, "timing_cache": "path, absolute or beside the job" | null}

A ``held`` build ends with its standard input: the builder is asked to stop, and killed when it does
not. The recipe is what ``backends/trt/options.py`` writes; of it ``precision``, ``profiles`` and
``options`` are read. An option that is not in OPTIONS, or that this TensorRT does not have, ends
the build: nothing is left out silently.

Standard output has JSON lines, standard error whatever libraries print::

    {"event": "phase", "phase": "load" | "parse" | "configure" | "build" | "write" | "inspect"}
    {"event": "progress", "phase": NAME, "inner": NAME, "done": 3, "of": 12, "fraction": 0.27}

``fraction`` is of the phase of the builder that is named and never falls within it. The exit status
says how it ended (:data:`STATUSES`), ``result.json`` in which way::

    {"build": 1, "tensorrt": "10.3.0", ..., "engine": {...}, "signature": {...}}
    {"build": 1, "tensorrt": "10.3.0", ..., "failed": {"kind": "parse", "message": ..., ...}}

What differs between the versions is in the few functions that ask for a member (``_network``,
``_constrain``, ``_monitor``, ``_parser_error``); docs/tensorrt-engines.md has the table. Names and
signatures are those of the binding modules 8.6.1, 10.3.0 and 11.4.0, as they list them themselves.
"""

import contextlib
import importlib.util
import json
import os
import re
import signal
import sys
import time
from typing import Any, Callable, Dict, List, NoReturn, Optional, Tuple

BUILD_VERSION = 1
STATUSES = {
    "job": 2,  # the job or the recipe is not one
    "missing": 3,  # no TensorRT that Python loads
    "device": 4,  # TensorRT does not come up: no GPU, or no driver that fits
    "option": 5,  # this TensorRT, or this machine, lacks an option of the recipe
    "parse": 6,  # the parser refuses the model
    "refused": 7,  # the builder refuses it
    "memory": 8,  # not enough memory
    "interrupted": 9,  # the connection ended, or a signal came
    "disk": 10,  # a file cannot be read or written
    "load": 11,  # the machine does not load what it built
    "bug": 70,
}
"""Kind of a failure -> exit status."""

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
LAYERS_BYTES = 64 << 20
ERRORS = 20
MESSAGE_CHARACTERS = 2000
_NODE = re.compile(r"\[ONNX Layer: (.*?)(?: \| .*?)?\]")
_NO_MEMORY = re.compile(r"out ?of ?memory|bad_alloc|insufficient (?:gpu )?memory", re.IGNORECASE)


def _beside(name: str) -> Any:
    """Return the module in the file of that name beside this one."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), name + ".py")
    spec: Any = importlib.util.spec_from_file_location("edgedeploy_" + name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


watch = _beside("onboard_watch")
Failed: Any = watch.Failed


def _logger(trt: Any, log: Any, least: str) -> Any:
    """Return TensorRT's logger, which writes to ``log`` what is at least as severe as ``least``."""
    names = ("INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE")
    taken = names[: names.index(least) + 1]

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, msg: str) -> None:
            name = str(severity).rpartition(".")[2]
            if name in taken:
                log.line(name, msg)

    return Logger()


def load_tensorrt() -> Any:
    """Return the module; fails as ``missing``."""
    try:
        import tensorrt  # type: ignore[import-not-found]
    except Exception as error:  # a library that it needs may be missing or another version
        message = "%s: %s" % (type(error).__name__, str(error)[:500])
        raise Failed("missing", message) from error
    return tensorrt


def _member(holder: Any, name: str, what: str) -> Any:
    """Return a member that not all versions have; fails as ``option``."""
    try:
        return getattr(holder, name)
    except AttributeError:
        raise Failed("option", "this TensorRT has no %s" % what, option=what) from None


# -- What the options of a recipe do ---------------------------------------------------------------


class Building:
    """What a build works on: the module, the builder and its configuration."""

    def __init__(self, trt: Any, builder: Any, config: Any) -> None:
        self.trt = trt
        self.builder = builder
        self.config = config

    def flag(self, name: str, wanted: bool = True) -> None:
        """Set or clear a flag of the builder."""
        flag = _member(self.trt.BuilderFlag, name, "builder flag " + name)
        (self.config.set_flag if wanted else self.config.clear_flag)(flag)

    def pool(self, name: str, size: int) -> None:
        """Limit a pool of memory to ``size`` bytes."""
        pool = _member(self.trt.MemoryPoolType, name, "memory pool " + name)
        self.config.set_memory_pool_limit(pool, size)

    def dla(self, core: int) -> None:
        """Let layers run on a DLA core."""
        cores = int(self.builder.num_DLA_cores)
        if core >= cores:
            message = "DLA core %d is asked for, and this machine offers %d" % (core, cores)
            raise Failed("option", message, option="dla")
        self.config.default_device_type = self.trt.DeviceType.DLA
        self.config.DLA_core = core

    def compatible(self, level: str) -> None:
        """Let the engine load on other GPUs too."""
        name = _LEVELS.get(level, level)
        what = "hardware compatibility " + name
        found = _member(self.trt.HardwareCompatibilityLevel, name, what)
        self.config.hardware_compatibility_level = found

    def level(self, level: int) -> None:
        """Let the builder search shorter or longer."""
        self.config.builder_optimization_level = level


_LEVELS = {
    "none": "NONE",
    "ampere+": "AMPERE_PLUS",
    "same-compute-capability": "SAME_COMPUTE_CAPABILITY",
}
_Step = Callable[[Building, Any], None]


def _if(name: str) -> _Step:
    """Return a step that sets a flag where the option is true."""
    return lambda building, value: building.flag(name) if value else None


OPTIONS: Dict[str, Tuple[type, _Step]] = {
    "compile_on": (str, lambda building, value: None),  # here, as it turns out
    "workspace": (int, lambda building, value: building.pool("WORKSPACE", value)),
    "dla": (int, Building.dla),
    "dla_fallback": (bool, _if("GPU_FALLBACK")),
    "sparsity": (bool, _if("SPARSE_WEIGHTS")),
    "refit": (bool, _if("REFIT")),
    "version_compatible": (bool, _if("VERSION_COMPATIBLE")),
    "hardware_compatible": (str, Building.compatible),
    "optimisation_level": (int, Building.level),
    "timing_cache": (bool, lambda building, on: building.flag("DISABLE_TIMING_CACHE", not on)),
    "tf32": (bool, lambda building, on: building.flag("TF32", on)),
}
"""Option of a recipe -> its type, and what it does to the configuration; None leaves it out."""


def apply_options(building: Building, options: Dict[str, Any]) -> None:
    """Configure the builder; fails as ``option``, or as ``job`` for what this program lacks."""
    for name, value in sorted(options.items()):
        if name not in OPTIONS:
            raise Failed("job", "the recipe has an option %r that the builder lacks" % name)
        kind, step = OPTIONS[name]
        if value is None:
            continue
        if type(value) is not kind:
            raise Failed("job", "option %s cannot be %r" % (name, value))
        step(building, value)


# -- From the model to the engine ------------------------------------------------------------------


def _network(trt: Any, builder: Any, dla: bool) -> Tuple[Any, bool]:
    """Return an empty network and whether it is strongly typed.

    10.x has a flag for it; 11.x knows nothing else (and its flag has another value). 8.6 has no
    such networks, and DLA cores take none before 11: there the builder may take any type that its
    flags allow, so ``_constrain`` has to say what the graph says.
    """
    flags = trt.NetworkDefinitionCreationFlag
    weak = hasattr(trt.BuilderFlag, "FP16")
    strong = getattr(flags, "STRONGLY_TYPED", None)
    if strong is not None and not (weak and dla):
        return builder.create_network(1 << int(strong)), True
    return builder.create_network(1 << int(flags.EXPLICIT_BATCH)), False


def _parser_error(error: Any) -> Dict[str, Any]:
    """Return one error of the parser; 8.6 tells a node's number alone."""
    found = {"node": int(error.node()), "message": str(error.desc())[:MESSAGE_CHARACTERS]}
    found["code"] = str(error.code()).rpartition(".")[2]
    for name, member in (("name", "node_name"), ("op", "node_operator")):
        told = getattr(error, member, None)
        found[name] = str(told())[:500] if told is not None else None
    return found


def parse(trt: Any, network: Any, logger: Any, path: str, portable: bool) -> None:
    """Read the model into the network; fails as ``parse``.

    Args:
        trt: The module.
        network: An empty network.
        logger: TensorRT's logger.
        path: Of the model.
        portable: Whether the engine is to load in later versions, for which the parser must not
            use plugins (8.6 asks for it; later ones do so anyway).
    """
    parser = trt.OnnxParser(network, logger)
    if portable:
        parser.set_flag(trt.OnnxParserFlag.NATIVE_INSTANCENORM)
    if parser.parse_from_file(path):
        return
    count = int(parser.num_errors)
    errors = [_parser_error(parser.get_error(number)) for number in range(min(count, ERRORS))]
    message = errors[0]["message"] if errors else "the parser gives no reason"
    raise Failed("parse", message, errors=errors, count=count)


def _constrain(building: Building, network: Any, recipe: Dict[str, Any]) -> int:
    """Tell a weakly typed builder what the graph's types say; return the number of layers told.

    Its flags say which types it may take at all. In what a layer then computes, it would choose by
    speed: in half also where the graph has float. So every layer on floats is held to the type of
    its node (OBEY_PRECISION_CONSTRAINTS); a node's layers are known by their metadata. int8 is
    where QuantizeLinear and DequantizeLinear put it, and a type for the layers between would
    contradict that: not with float16, as for ``trtexec``. Source: developer guide 8.6, "Reduced
    Precision" and "Explicit Versus Implicit Quantization".
    """
    trt, kinds = building.trt, building.trt.LayerType
    precision, nodes = set(recipe["precision"]), recipe["layers"]
    lacking = sorted(precision - {"float32", "float16", "int8"})
    if {"int8", "float16"} <= precision:
        lacking.append("int8 together with float16")
    if lacking:
        raise Failed("option", "no strong typing to hold %s" % lacking[0], option=lacking[0])
    if "int8" in precision:
        building.flag("INT8")
    if "float16" not in precision:
        return 0
    building.flag("FP16")
    building.flag("OBEY_PRECISION_CONSTRAINTS")
    types = {"float16": trt.DataType.HALF, "float32": trt.DataType.FLOAT}
    told = 0
    for layer in [network.get_layer(number) for number in range(network.num_layers)]:
        outputs = range(layer.num_outputs)
        floats = all(layer.get_output(number).dtype in types.values() for number in outputs)
        if not floats or layer.type in (kinds.CONSTANT, kinds.CAST, kinds.SHAPE):
            continue
        match = _NODE.search(str(layer.metadata or ""))
        node = match.group(1) if match else layer.name
        kind = types[nodes["exceptions"].get(node, nodes["default"])]
        layer.precision = kind
        for number in outputs:
            layer.set_output_type(number, kind)
        told += 1
    return told


def add_profiles(building: Building, profiles: List[Dict[str, Any]]) -> None:
    """Add the optimisation profiles; fails as ``refused``."""
    for number, inputs in enumerate(profiles):
        profile = building.builder.create_optimization_profile()
        for name, shape in sorted(inputs.items()):
            sizes = [tuple(int(size) for size in shape[end]) for end in ("min", "opt", "max")]
            try:
                profile.set_shape(name, *sizes)
            except ValueError as error:
                raise Failed("refused", "profile %d, %s: %s" % (number, name, error)) from error
        if building.config.add_optimization_profile(profile) < 0:
            raise Failed("refused", "profile %d does not fit the inputs" % number)


def _monitor(trt: Any, progress: Any, brake: Any) -> Any:
    """Return what the builder tells its progress to, and asks whether to go on (10.0 and later)."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: Optional[str], num_steps: int) -> None:
            with contextlib.suppress(Exception):
                progress.start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            with contextlib.suppress(Exception):
                progress.step(phase_name, step)
            return not brake.pulled()

        def phase_finish(self, phase_name: str) -> None:
            with contextlib.suppress(Exception):
                progress.finish(phase_name)

    return Monitor()


def load_cache(config: Any, path: Optional[str]) -> Dict[str, Any]:
    """Give the builder the timing cache that was kept; say what became of it.

    One of another GPU or version is not taken, and an empty one begins.
    """
    found: Dict[str, Any] = {"sha256_before": None, "taken": False}
    if path is None:
        return found
    found["sha256_before"] = watch.sha256_of(path)
    kept = b""
    if found["sha256_before"]:
        with open(path, "rb") as file:
            kept = file.read()
    cache = config.create_timing_cache(kept)
    if cache is not None and config.set_timing_cache(cache, False):
        found["taken"] = bool(kept)
    elif kept:
        empty = config.create_timing_cache(b"")
        if empty is not None:
            config.set_timing_cache(empty, False)
    return found


def save_cache(config: Any, path: Optional[str], found: Dict[str, Any]) -> Dict[str, Any]:
    """Keep the timing cache as the build left it; return ``found`` with its digest."""
    cache = config.get_timing_cache() if path is not None else None
    data = cache.serialize() if cache is not None else None
    if path is not None and data is not None:
        watch.write_atomic(path, data)
    return dict(found, sha256_after=watch.sha256_of(path) if path is not None else None)


def signature(engine: Any) -> Dict[str, Any]:
    """Return the engine's inputs and outputs: name, type, shape, and sizes by profile."""
    found: Dict[str, Any] = {"inputs": [], "outputs": []}
    profiles = range(int(engine.num_optimization_profiles))
    for number in range(int(engine.num_io_tensors)):
        name = engine.get_tensor_name(number)
        entry = {"name": name, "dtype": str(engine.get_tensor_dtype(name)).rpartition(".")[2]}
        entry["shape"] = [int(size) for size in engine.get_tensor_shape(name)]
        if str(engine.get_tensor_mode(name)).rpartition(".")[2] != "INPUT":
            found["outputs"].append(entry)
            continue
        entry["profiles"] = [
            [[int(size) for size in end] for end in engine.get_tensor_profile_shape(name, profile)]
            for profile in profiles
        ]
        found["inputs"].append(entry)
    return found


def inspected(trt: Any, engine: Any, found: Dict[str, Any]) -> bytes:
    """Return what the engine inspector tells of the layers, as JSON.

    Types of layers on open dims are told for given sizes alone ("N/A due to dynamic shapes"): the
    first profile's ``opt`` are given, if there is memory for a context.
    """
    inspector = engine.create_engine_inspector()
    dynamic = [entry for entry in found["inputs"] if -1 in entry["shape"]]
    context = engine.create_execution_context() if dynamic else None
    if context is not None:
        for entry in dynamic:
            context.set_input_shape(entry["name"], tuple(entry["profiles"][0][1]))
        inspector.execution_context = context
    text = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    return str(text).encode("utf-8", "replace")


# -- The run ---------------------------------------------------------------------------------------


class Run:
    """One build: its job, its recipe and what it finds out on the way."""

    def __init__(self, job_path: str, teller: Any, brake: Any) -> None:
        self._teller = teller
        self._brake = brake
        self._folder = os.path.dirname(os.path.abspath(job_path))
        self.job = watch.read_json(job_path, "job")
        if self.job.get("build") != BUILD_VERSION:
            raise Failed("job", "the job is for another version of the builder")
        self._recipe = watch.read_json(self._of("recipe.json"), "recipe")
        if self._recipe.get("schema") != 1:
            raise Failed("job", "the recipe is for another version of the builder")
        python = "%d.%d.%d" % sys.version_info[:3]
        self.facts: Dict[str, Any] = {"build": BUILD_VERSION, "python": python}
        self.log: Any = None

    def _of(self, name: str) -> str:
        return os.path.join(self._folder, name)

    def _phase(self, name: str) -> None:
        self._teller.say("phase", phase=name)
        if self._brake.pulled():
            raise Failed("interrupted", "the build was asked to end")

    def engine(self) -> None:
        """Build the engine and write all files but the result; fails with one of STATUSES."""
        self._phase("load")
        trt = load_tensorrt()
        self.facts["tensorrt"] = str(trt.__version__)
        self.facts["simulated"] = bool(getattr(trt, "__edgedeploy_stand_in__", False))
        self.facts.update(watch.cuda_facts())
        progress = watch.Progress(self._teller)
        monitored = hasattr(trt, "IProgressMonitor")
        self.log = watch.Log(self._of("build.log"), None if monitored else progress)
        logger = _logger(trt, self.log, "INFO" if monitored else "VERBOSE")
        if not monitored:  # such a builder cannot be asked to stop: a signal ends it at once
            for number in SIGNALS:
                signal.signal(number, signal.SIG_DFL)
        building = self._builder(trt, logger)
        options = dict(self._recipe.get("options") or {})
        network, strong = _network(trt, building.builder, options.get("dla") is not None)
        self.facts["typed"] = "strong" if strong else "weak"
        self._phase("parse")
        portable = bool(options.get("version_compatible")) and not strong
        parse(trt, network, logger, self._of("model.onnx"), portable)
        self._phase("configure")
        building.config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        apply_options(building, options)
        if not strong:
            self.facts["constrained_layers"] = _constrain(building, network, self._recipe)
        add_profiles(building, list(self._recipe.get("profiles") or []))
        cache_path = self._cache_path(options)
        cache = load_cache(building.config, cache_path)
        if monitored:
            building.config.progress_monitor = _monitor(trt, progress, self._brake)
        self._phase("build")
        start = time.monotonic()
        plan = building.builder.build_serialized_network(network, building.config)
        self.facts["build_s"] = round(time.monotonic() - start, 3)
        if plan is None:
            raise self._refused()
        self._phase("write")
        self.facts["timing_cache"] = save_cache(building.config, cache_path, cache)
        self._keep(trt, logger, memoryview(plan), options)

    def _cache_path(self, options: Dict[str, Any]) -> Optional[str]:
        """Return where the timing cache is kept, None where none is wanted."""
        path = self.job.get("timing_cache")
        return None if path is None or options.get("timing_cache") is False else self._of(path)

    def _builder(self, trt: Any, logger: Any) -> "Building":
        try:
            builder = trt.Builder(logger)
        except TypeError as error:  # what its binding makes of a builder that does not come up
            raise Failed("device", self.log.last(), python=str(error)[:200]) from error
        return Building(trt, builder, builder.create_builder_config())

    def _refused(self) -> Any:
        """Return why the builder gave nothing back."""
        if self._brake.pulled():
            return Failed("interrupted", "the build was asked to end")
        said = " ".join(self.log.errors)
        kind = "memory" if _NO_MEMORY.search(said) else "refused"
        return Failed(kind, self.log.last())

    def _keep(self, trt: Any, logger: Any, plan: Any, options: Dict[str, Any]) -> None:
        """Load the engine, tell its signature and its layers, then give it its name."""
        runtime = trt.Runtime(logger)
        if options.get("version_compatible"):  # brings code of its version along; it was made here
            runtime.engine_host_code_allowed = True
        if options.get("dla") is not None:
            runtime.DLA_core = options["dla"]
        engine = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise Failed("load", self.log.last())
        self.facts["signature"] = signature(engine)
        self._phase("inspect")
        text = inspected(trt, engine, self.facts["signature"])
        if len(text) <= LAYERS_BYTES:
            watch.write_atomic(self._of("layers.json"), text)
        self.facts["layers"] = {"written": len(text) <= LAYERS_BYTES, "size_bytes": len(text)}
        watch.write_atomic(self._of("model.engine"), plan)
        sha256 = watch.sha256_of(self._of("model.engine"))
        self.facts["engine"] = {"sha256": sha256, "size_bytes": plan.nbytes}

    def ended(self, failure: Optional[Any]) -> None:
        """Write the result: the facts, and the failure that ended the build, if one did."""
        if self.log is not None:
            self.log.close()
        result = dict(self.facts)
        if failure is not None:
            about = dict(
                failure.about, kind=failure.kind, message=str(failure)[:MESSAGE_CHARACTERS]
            )
            if self.log is not None:
                about["log"] = list(self.log.errors)
            result["failed"] = about
        text = json.dumps(result, sort_keys=True)
        watch.write_atomic(self._of("result.json"), text.encode())


def attempt(run: Run) -> Optional[Any]:
    """Build; return the failure that ended it, None where it is done."""
    try:
        run.engine()
    except Failed as failure:
        return failure
    except MemoryError as error:
        return Failed("memory", str(error) or "Python has no memory left")
    except OSError as error:
        return Failed("disk", str(error))
    except Exception as error:  # the runtime's own: told to the caller, which types it
        kind = "memory" if _NO_MEMORY.search(str(error)) else "bug"
        return Failed(kind, "%s: %s" % (type(error).__name__, error))
    return None


def main(arguments: List[str]) -> NoReturn:
    """Run the job named on the command line; the status is one of STATUSES, 0 when done."""
    # Only our lines may reach stdout: what a native library prints goes to stderr.
    teller = watch.Teller(os.dup(1))
    os.dup2(2, 1)
    brake, watcher = watch.Brake(), 0
    for number in SIGNALS:
        signal.signal(number, brake.pull)
    try:
        run = Run(arguments[1], teller, brake)
    except (Failed, IndexError) as error:
        teller.say("ended", kind="job", message=str(error)[:MESSAGE_CHARACTERS])
        sys.exit(STATUSES["job"])
    if run.job.get("held"):
        watcher = watch.end_with_input(brake)
    failure = attempt(run)
    try:
        run.ended(failure)
    except OSError as error:
        failure = Failed("disk", str(error))
    teller.say("ended", kind=failure.kind if failure else "done")
    if watcher:
        os.kill(watcher, signal.SIGKILL)
    sys.exit(STATUSES[failure.kind] if failure else 0)


if __name__ == "__main__":
    main(sys.argv)
