"""Swift packages for iOS and macOS: a tree to put into a git repository, with typed classes.

The files of the release lie in it as they were signed, so that an app can check them; Core ML
compiles a model at its first use. Sources: swift.org, "PackageDescription" (tools version 5.9);
Apple, "Downloading and compiling a model on the user's device"; ONNX Runtime's Swift package
(microsoft/onnxruntime-swift-package-manager), which is for iOS.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import Version

from edgedeploy.release.bundle import Golden, Release, ReleaseTarget
from edgedeploy.release.content import Content, bundled, write_content
from edgedeploy.release.formats import Format
from edgedeploy.release.formats.shared import (
    beside,
    licence_expression,
    loaded,
    shared_folders,
    unfit,
    vouchers,
)
from edgedeploy.release.formats.swift_bench import bench_source, golden_source, tests_source
from edgedeploy.release.formats.swift_ports import SwiftModel, models_of
from edgedeploy.release.formats.swift_source import (
    class_names,
    literal,
    model_source,
    release_source,
)
from edgedeploy.release.identifiers import identifiers
from edgedeploy.release.opening import Bundle

_FILES = Path(__file__).with_name("swift_files")
_VERSION = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*)){2}(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?")
_RUNTIMES: Mapping[str, tuple[str, ...]] = {"coreml": ("ios", "macos"), "ort": ("ios",)}
_ORT = "onnxruntime-swift-package-manager"
_ORT_URL = f"https://github.com/microsoft/{_ORT}"
_OLDEST = {"ios": 16, "macos": 13}
"""Systems on which a `.mlpackage` can be compiled without blocking: MLModel.compileModel(at:)."""

_PACKAGE = """\
// swift-tools-version: 5.9
import PackageDescription

let package = Package(
    name: {module},
    platforms: [.iOS({ios}), .macOS({macos})],
    products: [
        .library(name: {module}, targets: [{module}]),
        .library(name: {bench}, targets: [{bench}]),
    ],
    dependencies: [{dependencies}],
    targets: [
        .target(
            name: {module},
            dependencies: [{products}],
            resources: [.copy("release")]),
        .target(
            name: {bench},
            dependencies: [{module}]{resources}),
        .testTarget(name: {tests}, dependencies: [{bench}]),
    ]
)
"""
_README = """\
# {module}

The models of {name} {version}, for iOS and macOS. Made by {made_by} from the release
`{digest}`; do not edit.

- `{module}`: {classes}, each with `load()` and `run()`, and `Verification`, which checks the
  signature of the release.
- `{module}Bench`: measures them on a device, for the tests of an app; golden samples.
{licence}
docs/packages-apple.md of edgedeploy says how both are used.
"""
_IGNORED = b".build/\n.swiftpm/\n"
_ATTRIBUTES = b"# The signature is over bytes: git must not convert the ends of lines.\n* -text\n"


class SwiftPackage:
    """A Swift package; an :class:`edgedeploy.release.formats.Format`."""

    name = "swift"

    def suits(self, release: Release) -> tuple[ReleaseTarget, ...]:
        """Return the targets of Core ML, and those of ONNX Runtime for iOS."""
        return tuple(
            target
            for target in release.targets
            if target.os in _RUNTIMES.get(target.runtime, ()) and target.arch == "arm64"
        )

    def write(self, bundle: Bundle, folder: Path) -> tuple[Path, ...]:
        """Write ``NAME-VERSION-swift/``, whose content belongs at the top of a repository.

        Raises:
            UsageError: The version is none of Swift packages, or ONNX Runtime's range none that
                they can ask for (E760), or as
                :func:`edgedeploy.release.formats.swift_ports.models_of`.
            OSError: The disk refuses.
        """
        release, targets = bundle.release, self.suits(bundle.release)
        if not _VERSION.fullmatch(release.version):
            raise unfit(
                "swift",
                f"{release.version!r} is no version of a Swift package",
                "use three numbers, such as 1.2.0 (semver.org)",
            )
        models = models_of(bundle, targets)
        places = shared_folders(release, targets)
        first = [target for target in targets if places[target.target] == target.target]
        text = f"{release.name} models"
        module = identifiers([text], "pascal", "swift", kind="app")[text]
        goldens = _goldens(targets)
        files = _sources(release, targets, places, models, module)
        files |= _bench(targets, models, module, goldens)
        held = loaded(bundle, first) | beside(bundle) | vouchers(bundle)
        files |= {f"Sources/{module}/release/{path}": held[path] for path in held}
        samples = _samples(bundle, goldens)
        files |= {f"Sources/{module}Bench/golden/{path}": samples[path] for path in samples}
        files["Package.swift"] = _package(targets, module, golden=bool(samples)).encode()
        files["README.md"] = _readme(release, targets, models, module).encode()
        files[".gitignore"], files[".gitattributes"] = _IGNORED, _ATTRIBUTES
        root = folder / f"{release.name}-{release.version}-swift"
        for path, content in files.items():
            write_content(root / path, content)
        return (root,)


def _sources(
    release: Release,
    targets: Sequence[ReleaseTarget],
    places: Mapping[str, str],
    models: Mapping[str, Mapping[str, SwiftModel]],
    module: str,
) -> dict[str, Content]:
    place = f"Sources/{module}"
    found: dict[str, Content] = {
        f"{place}/{path.name}": path.read_bytes() for path in sorted(_FILES.glob("*.swift"))
    }
    found[f"{place}/Release.swift"] = release_source(release, targets, places, models).encode()
    shown = _shown(targets, models)
    labels = {model.name: model.labels for target in targets for model in target.models}
    for name, cls in class_names(shown).items():
        text = model_source(name, cls, shown[name], labels[name])
        found[f"{place}/Models/{cls}.swift"] = text.encode()
    return found


def _shown(
    targets: Sequence[ReleaseTarget], models: Mapping[str, Mapping[str, SwiftModel]]
) -> dict[str, SwiftModel]:
    """Return each model as an app sees it, which is the same for all targets."""
    found: dict[str, SwiftModel] = {}
    for target in targets:
        for name, model in models[target.target].items():
            found.setdefault(name, model)
    return found


def _bench(
    targets: Sequence[ReleaseTarget],
    models: Mapping[str, Mapping[str, SwiftModel]],
    module: str,
    goldens: Mapping[str, Mapping[str, Golden]],
) -> dict[str, Content]:
    place = f"Sources/{module}Bench"
    found: dict[str, Content] = {
        f"{place}/{path.name}": path.read_text(encoding="utf-8")
        .replace("@MODULE@", module)
        .encode()
        for path in sorted((_FILES / "bench").glob("*.swift"))
    }
    found[f"{place}/GoldenFolder.swift"] = golden_source(there=bool(goldens)).encode()
    shown = _shown(targets, models)
    classes = class_names(shown)
    for name, cls in classes.items():
        text = bench_source(module, name, cls, shown[name], goldens.get(name, {}))
        found[f"{place}/{cls}Bench.swift"] = text.encode()
    tests = tests_source(module, sorted(classes.values()))
    found[f"Tests/{module}Tests/{module}Tests.swift"] = tests.encode()
    return found


def _goldens(targets: Sequence[ReleaseTarget]) -> dict[str, dict[str, Golden]]:
    """Return golden samples by model and target."""
    found: dict[str, dict[str, Golden]] = {}
    for target in targets:
        for model in target.models:
            if model.golden is not None:
                found.setdefault(model.name, {})[target.target] = model.golden
    return found


def _samples(bundle: Bundle, goldens: Mapping[str, Mapping[str, Golden]]) -> dict[str, Content]:
    """Return the files of golden samples by path; they go with what measures, into no app."""
    folders = tuple(
        f"{folder}/"
        for by_target in goldens.values()
        for golden in by_target.values()
        for folder in (golden.inputs, golden.outputs)
    )
    return {
        file.path: bundled(bundle, file.path)
        for file in bundle.release.files
        if file.path.startswith(folders)
    }


def _package(targets: Sequence[ReleaseTarget], module: str, *, golden: bool) -> str:
    oldest = dict(_OLDEST)
    for system in oldest:
        versions = [target.os_version or 0 for target in targets if target.os == system]
        oldest[system] = max(oldest[system], min(versions, default=0))
    ort = [target for target in targets if target.runtime == "ort"]
    product = (
        f'.product(name: "onnxruntime", package: "{_ORT}", condition: .when(platforms: [.iOS]))'
    )
    return _PACKAGE.format(
        module=literal(module),
        bench=literal(f"{module}Bench"),
        tests=literal(f"{module}Tests"),
        ios=literal(f"{oldest['ios']}.0"),
        macos=literal(f"{oldest['macos']}.0"),
        dependencies=f'\n        .package(url: "{_ORT_URL}", {_range(ort)})\n    ' if ort else "",
        products=f"\n                {product}\n            " if ort else "",
        resources=',\n            resources: [.copy("golden")]' if golden else "",
    )


def _readme(
    release: Release,
    targets: Sequence[ReleaseTarget],
    models: Mapping[str, Mapping[str, SwiftModel]],
    module: str,
) -> str:
    licence = licence_expression(release)
    classes = sorted(class_names(_shown(targets, models)).values())
    return _README.format(
        module=module,
        name=release.name,
        version=release.version,
        made_by=release.made_by,
        digest=release.digest,
        classes=", ".join(f"`{name}`" for name in classes),
        licence="" if licence is None else f"- Licences of the models: {licence}.\n",
    )


def _range(targets: Sequence[ReleaseTarget]) -> str:
    """Return the range of ONNX Runtime that all targets allow, up to the next major version."""
    text = ",".join(sorted({target.runtime_versions for target in targets}))
    try:
        parts = list(SpecifierSet(text))
    except InvalidSpecifier:
        parts = []
    low = [Version(part.version) for part in parts if part.operator == ">="]
    high = [Version(part.version) for part in parts if part.operator == "<"]
    if not low or len(low) + len(high) != len(parts):
        raise unfit(
            "swift",
            f"a Swift package cannot ask for ONNX Runtime {text}",
            "state a range of the form >=1.17 or >=1.17,<1.20 in the target",
        )
    most = min([*high, Version(f"{max(low).major + 1}")])
    return f'"{_three(max(low))}"..<"{_three(most)}"'


def _three(version: Version) -> str:
    return f"{version.major}.{version.minor}.{version.micro}"


FORMAT: Format = SwiftPackage()
