"""The texts of an Android package: manifest, rules for shrinkers, POM, Kotlin."""

from __future__ import annotations

import re
from xml.sax.saxutils import escape, quoteattr

from edgedeploy.release.bundle import Release, ReleaseTarget
from edgedeploy.release.identifiers import identifiers
from edgedeploy.release.java.ports import Named
from edgedeploy.release.java.source import comment
from edgedeploy.release.java.wrapper import Wrapped, inputs_of

GROUP = "edgedeploy"
"""Maven group, first part of the Java package, and folder of the assets."""

_RUNTIME = ("com.microsoft.onnxruntime", "onnxruntime-android")
_OLDEST: tuple[int, ...] = (1, 20)
"""The first ONNX Runtime whose Java interface takes a mapped model."""

_NEXT: tuple[int, ...] = (2,)
"""A first number that says that interfaces changed (semver.org, item 8): never taken by itself."""

_BOUND = re.compile(r"\s*(>=|<)\s*(\d+(?:\.\d+)*)\s*")


def manifest_xml(package: str, target: ReleaseTarget) -> bytes:
    """Return ``AndroidManifest.xml``; what the app must have is stated where the target does."""
    oldest = ""
    if target.os_version is not None:
        oldest = f'    <uses-sdk android:minSdkVersion="{target.os_version}" />\n'
    name = quoteattr(package.replace("/", "."))
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n'
        '<manifest xmlns:android="http://schemas.android.com/apk/res/android"\n'
        f"    package={name}>\n{oldest}</manifest>\n"
    ).encode()


def consumer_rules() -> bytes:
    """Return the rules that an app's shrinker gets: native code finds these classes by name."""
    return b"-keep class ai.onnxruntime.** { *; }\n"


def runtime_range(versions: str) -> str:
    """Return the Maven range of ONNX Runtime that a target's range allows.

    Args:
        versions: Such as ``>=1.17`` or ``>=1.17,<2``.

    Raises:
        ValueError: It is written in another way, or allows nothing that takes the wrapper's calls.
    """
    lows, highs = [_OLDEST], [_NEXT]
    for part in versions.split(","):
        found = _BOUND.fullmatch(part)
        if found is None:
            raise ValueError("it is no range of >= and <")
        bounds = lows if found[1] == ">=" else highs
        bounds.append(tuple(map(int, found[2].split("."))))
    low, high = max(lows), min(highs)
    if low >= high:
        raise ValueError(f"nothing in it is {_dotted(_OLDEST)} or newer")
    return f"[{_dotted(low)},{_dotted(high)})"


def _dotted(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))


def pom_xml(release: Release, artifact: str, runtimes: str) -> bytes:
    """Return the POM. Source: maven.apache.org, "POM Reference" (4.0.0).

    Args:
        release: What is packaged.
        artifact: Its name in Maven.
        runtimes: Range of ONNX Runtime, as :func:`runtime_range` writes it.
    """
    licences = "".join(
        f"    <license>\n      <name>{escape(spdx)}</name>\n    </license>\n"
        for spdx in dict.fromkeys(licence.spdx for licence in release.licences)
    )
    if licences:
        licences = f"  <licenses>\n{licences}  </licenses>\n"
    group, runtime = _RUNTIME
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<project xmlns="http://maven.apache.org/POM/4.0.0"\n'
        '    xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"\n'
        '    xsi:schemaLocation="http://maven.apache.org/POM/4.0.0 '
        'http://maven.apache.org/xsd/maven-4.0.0.xsd">\n'
        "  <modelVersion>4.0.0</modelVersion>\n"
        f"  <groupId>{GROUP}</groupId>\n"
        f"  <artifactId>{escape(artifact)}</artifactId>\n"
        f"  <version>{escape(release.version)}</version>\n"
        "  <packaging>aar</packaging>\n"
        f"  <description>Release {release.digest}</description>\n"
        f"{licences}"
        "  <dependencies>\n"
        "    <dependency>\n"
        f"      <groupId>{group}</groupId>\n"
        f"      <artifactId>{runtime}</artifactId>\n"
        f"      <version>{runtimes}</version>\n"
        "      <scope>compile</scope>\n"
        "    </dependency>\n"
        "  </dependencies>\n"
        "</project>\n"
    ).encode()


def kotlin_source(wrapped: Wrapped) -> str:
    """Return Kotlin functions on a wrapper: arrays instead of buffers, for an app's own sources.

    Kotlin can use the wrapper as it is; a compiled package of these would need Kotlin's compiler.
    """
    inputs = inputs_of(wrapped)
    # From the Java names, so that people find them again; Kotlin's own words get a `_`.
    names = identifiers([item.name for item in inputs], "camel", "kotlin")
    params = [
        text
        for item in inputs
        for text in (
            f"{names[item.name]}: {_array(item)}",
            f"{item.shape}: LongArray" if item.shape else "",
        )
        if text
    ]
    args = [
        text
        for item in inputs
        for text in (f"{item.carrier.buffer}.wrap({names[item.name]})", item.shape)
        if text
    ]
    buffers = sorted({item.carrier.buffer for item in inputs})
    lines = [
        f"package {wrapped.package.replace('/', '.')}",
        "",
        "import android.content.Context",
        *(f"import java.nio.{buffer}" for buffer in buffers),
        "",
        *comment((f"Makes {wrapped.name} ready with ONNX Runtime's own settings.",)),
        f"fun Context.open{wrapped.name}(): {wrapped.name} = {wrapped.name}.open(this)",
        "",
        *comment(("Runs the model once.", *(line for item in inputs for line in item.doc))),
        f"fun {wrapped.name}.run(",
        ",\n".join(f"    {param}" for param in params),
        f"): {wrapped.outputs_name} = run(",
        ",\n".join(f"    {arg}" for arg in args),
        ")",
    ]
    return "\n".join(lines) + "\n"


def _array(item: Named) -> str:
    return item.carrier.buffer.replace("Buffer", "Array")
