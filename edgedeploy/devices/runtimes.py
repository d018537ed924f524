"""What a device can run artifacts with: a runtime that we put there, or its own.

Ours lies in a depot of its own per family, ``<base>/.runtimes/<family>``; ``current`` there says
which one counts, and ``runtime.json`` in it what it is. Wheels lie unpacked beside the depots, in
``<base>/.runtimes/trees/<version>``: Python cannot load shared libraries out of an archive.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from shlex import quote
from typing import Any, Literal

from edgedeploy.devices.opening import CANDIDATES
from edgedeploy.devices.platform import choose_python
from edgedeploy.errors import DeviceError
from edgedeploy.remote import DeviceRuntime, Remote, printable
from edgedeploy.target.library import TargetLibrary

FOLDER = ".runtimes"
RECORD = "runtime.json"
RUNNER = "runner"
LIBRARY = "libonnxruntime.so"

MODULES: Mapping[str, str] = {
    "coreml": "coremltools",
    "openvino": "openvino",
    "ort": "onnxruntime",
    "tensorrt-rtx": "tensorrt_rtx",
}
"""Family -> the Python module that is its runtime; ``tensorrt`` is found by its own probe."""

# coremltools alone loads anywhere; what reaches Core ML is in the wheels for macOS only.
_BESIDES: Mapping[str, str] = {"coreml": "coremltools.libcoremlpython"}

# What nobody provisions, and the way out.
_BY_HAND: Mapping[str, str] = {
    "tensorrt-rtx": "install NVIDIA's package there, under NVIDIA's licence (`pip install "
    "tensorrt-rtx-cu13`), and name its Python with `python:` in devices.yaml",
}

# A target's versions are those of Core ML, which comes with the system. What reaches it there must
# know compute plans (8.1, release notes) and is tried with the coremltools that writes packages.
_RANGES: Mapping[str, str] = {"coreml": ">=8.1,<10"}

_ANSWER_BYTES = 128 << 10
_CHECK_S = 120.0  # the first import on a slow card reads some 100 MB
_RECORD_BYTES = 16 << 10
_VERSION = re.compile(r"[0-9]{1,5}(?:\.[0-9]{1,5}){1,3}(?:[-+.][0-9A-Za-z.+-]{1,40})?")
_NAME = re.compile(r"[0-9a-f]{64}")
_PYTHON = re.compile(r"3\.[0-9]{1,2}")
_PART_FIELDS = ("name", "version", "file", "sha256", "license", "compiler")
_PART_CHARACTERS = 300
_MOST_PARTS = 100

# Held to Python 3.6. Prints `loads <version> <Python>` or `broken <why>`, nothing else.
_IMPORT = """
import sys
sys.modules["openvino_telemetry"] = None
try:
    module = __import__(sys.argv[1])
    for besides in sys.argv[2:]:
        __import__(besides)
    version = module.__version__.split("-")[0]
    print("loads", version, "%d.%d" % sys.version_info[:2])
except BaseException as error:
    print("broken", type(error).__name__, repr(str(error))[:300])
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeRecord:
    """What ``runtime.json`` says of a runtime that we put on a device.

    Attributes:
        family: ``coreml``, ``ort`` or ``openvino``.
        kind: ``python`` for wheels, ``native`` for our runner and the runtime's C library.
        version: Of the runtime.
        python: Python that the wheels are for, such as ``3.11``; None for ``native``.
        parts: What it was made from, one JSON object each: wheels with ``name``, ``version``,
            ``file``, ``sha256`` and ``license``, and the compiler of the runner.
    """

    family: str
    kind: Literal["python", "native"]
    version: str
    python: str | None
    parts: tuple[Mapping[str, Any], ...]

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON data."""
        return {
            "schema": 1,
            "family": self.family,
            "kind": self.kind,
            "version": self.version,
            "python": self.python,
            "parts": [dict(part) for part in self.parts],
        }

    @classmethod
    def from_json(cls, data: Any) -> RuntimeRecord:
        """Return the record that a device sent, checked.

        Raises:
            ValueError: It is none.
        """
        if not isinstance(data, dict) or data.get("schema") != 1:
            raise ValueError("no record of schema 1")
        family, kind, version = (str(data.get(key)) for key in ("family", "kind", "version"))
        python, parts = data.get("python"), data.get("parts")
        if family not in MODULES or kind not in ("python", "native"):
            raise ValueError("unknown family or kind")
        if not _VERSION.fullmatch(version):
            raise ValueError("no version")
        if (kind == "python") != (isinstance(python, str) and bool(_PYTHON.fullmatch(python))):
            raise ValueError("no Python version")
        if not isinstance(parts, list) or len(parts) > _MOST_PARTS:
            raise ValueError("no parts")
        return cls(
            family=family,
            kind="native" if kind == "native" else "python",
            version=version,
            python=python,
            parts=tuple(_part(part) for part in parts),
        )


def _part(given: Any) -> dict[str, str]:
    """Return what a runtime was made from, as a device tells it, fit to be shown."""
    fields = given if isinstance(given, dict) else {}
    found = {
        name: " ".join(printable(value.encode("utf-8", "replace")).split())[:_PART_CHARACTERS]
        for name in _PART_FIELDS
        if isinstance(value := fields.get(name), str)
    }
    if "name" not in found or not _NAME.fullmatch(found.get("sha256", "")):
        raise ValueError("no part")
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Provisioned:
    """A runtime of ours on a device.

    Attributes:
        name: Its version in the depot (64 hex digits).
        record: What it is.
        root: Absolute path of ``<base>/.runtimes`` on the device.
        broken: Why it cannot be loaded, None when it was loaded.
    """

    name: str
    record: RuntimeRecord
    root: str
    broken: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What a device has for one family.

    Attributes:
        provisioned: What we put there, if anything.
        own_version: Version of the device's own package, None when its Python has none, and when
            ours was loaded: then it was not asked.
        own_trouble: Why there is none, as the device says it.
        python: The Python that was asked.
    """

    provisioned: Provisioned | None
    own_version: str | None
    own_trouble: str
    python: str


def shell_path(path: str) -> str:
    """Return a path for a shell command, quoted; ``~/`` at its start is the device's home."""
    if path == "~" or path.startswith("~/"):
        return f'"$HOME"{quote(path[1:])}' if path != "~" else '"$HOME"'
    return quote(path)


def runtime_depot(base: str, family: str) -> str:
    """Return the folder of a family's depot on a device (``~/`` kept)."""
    return f"{base.rstrip('/')}/{FOLDER}/{family}"


def python_command(tree: str, root: str, python: str) -> str:
    """Return the start of a shell command that runs a Python with an unpacked runtime.

    Args:
        tree: Absolute path of the unpacked wheels on the device.
        root: Absolute path of ``<base>/.runtimes``; compiled modules are kept below it, because
            the tree itself stays as its digests say.
        python: Interpreter on the device; None finds one.
    """
    return (
        f"env ORT_DISABLE_TELEMETRY=1 PYTHONNOUSERSITE=1 PYTHONPATH={quote(tree)} "
        f"PYTHONPYCACHEPREFIX={quote(f'{root}/compiled')} {quote(python)}"
    )


def runner_command(folder: str) -> str:
    """Return the start of a shell command that runs the native runner in ``folder``."""
    return (
        f"env ORT_DISABLE_TELEMETRY=1 {quote(f'{folder}/{RUNNER}')} {quote(f'{folder}/{LIBRARY}')}"
    )


def own_command(python: str) -> str:
    """Return the start of a shell command that runs the device's own Python."""
    return f"env ORT_DISABLE_TELEMETRY=1 {quote(python)}"


def import_check(family: str) -> str:
    """Return the arguments after a Python that load a family's runtime and print its version."""
    return f"-c {quote(_IMPORT)} {MODULES[family]} {_BESIDES.get(family, '')}".rstrip()


def survey(remote: Remote, base: str, family: str, python: str | None = None) -> Survey:
    """Ask a device in one command what it has for a family, and try to load it.

    Args:
        remote: The device.
        base: Folder of the depots on the device.
        family: ``coreml``, ``ort`` or ``openvino``.
        python: Interpreter on the device; None finds one.

    Raises:
        DeviceError: The connection fails, or the answer is none (E461).
    """
    depot = shell_path(runtime_depot(base, family))
    check = import_check(family)
    telemetry = "ORT_DISABLE_TELEMETRY=1; export ORT_DISABLE_TELEMETRY"
    own = _last_line(f'"$py" {check}')
    ours = _last_line(
        f'if [ -f "$here/{RUNNER}" ]; then "$here/{RUNNER}" "$here/{LIBRARY}" version; '
        f'else PYTHONNOUSERSITE=1 PYTHONPATH="$root/trees/${{link##*/}}" '
        f'PYTHONPYCACHEPREFIX="$root/compiled" "$py" {check}; fi'
    )
    # Each answer is one line behind its own word: what a login shell prints cannot pass for one.
    answer = remote.run(
        f'{telemetry}; ours=\n{choose_python(python)}; echo "edgedeploy-python $py"\n'
        f"if link=$(readlink {depot}/current 2>/dev/null); then\n"
        f'root=$(cd {depot}/.. && pwd -P); here="$root/{family}/$link"\n'
        'printf "edgedeploy-link %s\\nedgedeploy-root %s\\nedgedeploy-record " "$link" "$root"\n'
        f'head -c {_RECORD_BYTES} "$here/{RECORD}" 2>/dev/null | tr -d "\\n"\n'
        f'ours=$({ours}); printf "\\nedgedeploy-ours %s\\n" "$ours"\n'
        'fi\ncase "$ours" in "loads "*) ;; *) '
        f'printf "edgedeploy-own "; {own}; echo;; esac\necho edgedeploy-end',
        timeout_s=_CHECK_S,
        limit_bytes=_ANSWER_BYTES,
    )
    said = {
        key: value.strip()
        for line in answer.stdout.split(b"\n")
        for key, _, value in [printable(line).partition(" ")]
        if key.startswith("edgedeploy-")
    }
    if "edgedeploy-end" not in said:
        raise _no_answer(remote, printable(answer.stderr or answer.stdout))
    version, _, trouble = _loaded(said.get("edgedeploy-own", ""))
    return Survey(
        provisioned=_provisioned(remote, family, said) if "edgedeploy-link" in said else None,
        own_version=version,
        own_trouble=trouble,
        python=_python(remote, said.get("edgedeploy-python", ""), python),
    )


def _last_line(command: str) -> str:
    """Return shell text that prints the last line of a command, or which signal ended it."""
    died = 'echo "broken ended by signal $((s - 128))"'
    return f"{{ {command}; s=$?; [ $s -le 128 ] || {died}; }} 2>&1 | tail -n 1"


def _python(remote: Remote, said: str, wanted: str | None) -> str:
    if said not in (CANDIDATES if wanted is None else (wanted,)):
        raise _no_answer(remote, said)
    return said


def _provisioned(remote: Remote, family: str, said: Mapping[str, str]) -> Provisioned | None:
    """Return what the answers say of our runtime; None when a push of it never ended."""
    name = said["edgedeploy-link"].removeprefix("versions/")
    root = said.get("edgedeploy-root", "")
    if not _NAME.fullmatch(name) or not root.startswith("/"):
        raise _no_answer(remote, said["edgedeploy-link"])
    try:
        record = RuntimeRecord.from_json(json.loads(said.get("edgedeploy-record", "")))
        if record.family != family:
            raise ValueError("another family")
    except (ValueError, RecursionError):
        return None
    broken = _trouble(record, said.get("edgedeploy-ours", ""))
    return Provisioned(name=name, record=record, root=root, broken=broken)


def _loaded(answer: str) -> tuple[str | None, str, str]:
    """Return version, Python and trouble out of a line of the import check or the runner."""
    word, _, rest = answer.partition(" ")
    fields = rest.split(" ")
    if word == "loads" and _VERSION.fullmatch(fields[0]):
        return fields[0], fields[1] if len(fields) > 1 else "", ""
    return None, "", (rest if word == "broken" else answer)[-300:] or "it says nothing"


def runtime_command(root: str, name: str, record: RuntimeRecord, python: str) -> str:
    """Return the start of a shell command that runs a runtime that we put on a device.

    Args:
        root: Absolute path of ``<base>/.runtimes`` on the device.
        name: Its version in the depot.
        record: What it is.
        python: Interpreter on the device; None finds one.
    """
    if record.kind == "native":
        return runner_command(f"{root}/{record.family}/versions/{name}")
    return python_command(f"{root}/trees/{name}", root, python)


def load_check(
    remote: Remote, root: str, name: str, record: RuntimeRecord, python: str
) -> str | None:
    """Return why a runtime that was put on a device cannot be loaded, None when it can.

    Args are those of :func:`runtime_command`.

    Raises:
        DeviceError: The connection fails.
    """
    check = "version" if record.kind == "native" else import_check(record.family)
    command = runtime_command(root, name, record, python)
    done = remote.run(
        _last_line(f"{command} {check}"), timeout_s=_CHECK_S, limit_bytes=_ANSWER_BYTES
    )
    return _trouble(record, printable(done.stdout).strip())


def _trouble(record: RuntimeRecord, answer: str) -> str | None:
    """Return what is wrong with the answer of a check, None when nothing is."""
    version, python, trouble = _loaded(answer)
    if version is None:
        return trouble
    if version != record.version:
        return f"it says that it is {version}, not {record.version}"
    if record.python is not None and python != record.python:
        return f"it was made for Python {record.python}, and the device has {python} now"
    return None


def find_runtime(
    remote: Remote, base: str, family: str, python: str | None = None
) -> DeviceRuntime:
    """Return what the device runs artifacts of a family with: ours first, else its own.

    Args:
        remote: The device.
        base: Folder of the depots on the device (``root`` of the inventory; may start with
            ``~/``).
        family: ``coreml``, ``ort``, ``openvino``, ``tensorrt`` or ``tensorrt-rtx``.
        python: Interpreter on the device; None finds one.

    Raises:
        DeviceError: There is none (E460; E486 of TensorRT), it is older than the target allows
            (E462), what we put there cannot be loaded (E463), the answer is none (E461, E450), or
            the connection fails.
    """
    if family == "tensorrt":
        return _find_tensorrt(remote, python)
    found = survey(remote, base, family, python)
    ours = found.provisioned
    if ours is not None and ours.broken is None:
        return DeviceRuntime(
            family=family,
            kind=ours.record.kind,
            version=ours.record.version,
            command=runtime_command(ours.root, ours.name, ours.record, found.python),
            provisioned=ours.name,
        )
    again = f"edgedeploy devices provision -d {remote.name}"
    if found.own_version is None:
        if ours is not None:
            raise DeviceError(
                f"the {MODULES[family]} {ours.record.version} that was provisioned on it cannot "
                f"be loaded: {ours.broken}",
                code="E463",
                subject=remote.name,
                hint=f"put it there anew: `{again} --runtime {family}`",
            )
        raise DeviceError(
            f"it has no {MODULES[family]}{_why_none(found)}",
            code="E460",
            subject=remote.name,
            hint=_BY_HAND.get(family)
            or f"put one there, no internet needed on it: `{again} --runtime {family}`",
        )
    wanted = allowed_versions(family)
    if not in_range(found.own_version, wanted):
        raise DeviceError(
            f"its own {MODULES[family]} is {found.own_version}; the target needs {wanted}",
            code="E462",
            subject=remote.name,
            hint=_BY_HAND.get(family) or f"put a newer one beside it: `{again} --runtime {family}`",
        )
    return DeviceRuntime(
        family=family,
        kind="python",
        version=found.own_version,
        command=own_command(found.python),
        provisioned=None,
    )


def _find_tensorrt(remote: Remote, python: str | None) -> DeviceRuntime:
    """Return the device's own TensorRT, of which it alone has the one that fits its driver.

    Python with the module ``tensorrt`` goes before ``trtexec``, which tells less.
    """
    from edgedeploy.devices.gpu_facts import probe_gpu

    found = probe_gpu(remote, python)
    if not found.ways:
        raise found.no_runtime("TensorRT")
    way = found.ways[0]
    return DeviceRuntime(
        family="tensorrt",
        kind=way.kind,
        version=way.version,
        command=own_command(way.path) if way.kind == "python" else quote(way.path),
        provisioned=None,
        simulated=way.simulated,
    )


def _why_none(found: Survey) -> str:
    """Return, as the end of a sentence, why a device has no runtime of its own."""
    if "not found" in found.own_trouble and found.python in found.own_trouble:
        return f" and no {found.python}"  # as shells say it, each in its own words
    return f": {found.own_trouble}"


def allowed_versions(family: str) -> str:
    """Return the versions of a family's runtime that targets allow, such as ``>=1.17``."""
    return _RANGES.get(family) or TargetLibrary().runtime_versions(family) or ">=0"


def is_version(text: str) -> bool:
    """Return whether a text is a version number and nothing else."""
    return bool(_VERSION.fullmatch(text))


def in_range(version: str, wanted: str) -> bool:
    """Return whether a version lies in a range such as ``>=1.17,<2`` (release numbers alone)."""
    return all(
        _release(version) >= _release(bound[2:])
        if bound.startswith(">=")
        else _release(version) < _release(bound[1:])
        for bound in (part.strip() for part in wanted.split(","))
    )


def _release(version: str) -> tuple[int, ...]:
    found = re.match(r"[0-9]+(?:\.[0-9]+)*", version.strip())
    numbers = [int(part) for part in found.group().split(".")] if found else []
    return tuple(numbers + [0] * (4 - len(numbers)))


def _no_answer(remote: Remote, said: str) -> DeviceError:
    return DeviceError(
        "it did not say which runtimes it has; it said: "
        + (" ".join(said.split())[-200:] or "nothing"),
        code="E461",
        subject=remote.name,
        hint="see what `ssh` to it prints; a login shell that prints or asks must stop doing so",
    )
