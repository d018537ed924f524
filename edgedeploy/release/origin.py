"""What a release was made from, and its SLSA provenance.

Sources: in-toto Attestation Framework, Statement v1; SLSA v1.0 provenance (slsa.dev/provenance/v1).
The statement lies in the bundle and is signed with it, by whoever releases: that is SLSA Build L1,
which says how something was made and does not prove it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from edgedeploy.manifest import canonical, digest
from edgedeploy.plaindata import to_plain
from edgedeploy.release.bundle import Release, ReleaseFile

PROVENANCE = "provenance.intoto.json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:edgedeploy:build:profile:1"
BUILDER = "urn:edgedeploy:builder:local"

TREE = "edgedeployTree"
"""Name of the digest of a set of samples: SHA-256 over the canonical list of its files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What a release was made from; digests have 64 hexadecimal digits.

    Attributes:
        profile: Digest of the profile's expanded form with the targets that it names.
        models: SHA-256 of the source file by model.
        authors: Who made it, by model; only where the profile says so.
        data: Digest of the samples by ``model.samples.role``.
        tools: Version by distribution, of all that took part.
    """

    profile: str
    models: Mapping[str, str]
    authors: Mapping[str, str]
    data: Mapping[str, str]
    tools: Mapping[str, str]


def payload_digest(release: Release) -> str:
    """Return a digest of all that a release says without its own SBOM and provenance."""
    data = to_plain(release)
    data["files"] = to_plain(payload(release))
    return digest("release", data)


def payload(release: Release) -> tuple[ReleaseFile, ...]:
    """Return the files that a release is about: all but its SBOM and provenance."""
    return tuple(file for file in release.files if file.role not in ("sbom", "provenance"))


def provenance(release: Release, origin: Origin) -> bytes:
    """Return the statement on how the files of a release were made, as canonical JSON.

    No host, user, path or time enters it: two builds of the same have the same provenance.
    """
    return canonical(
        {
            "_type": STATEMENT_TYPE,
            "subject": [
                {"name": file.path, "digest": {"sha256": file.sha256}} for file in payload(release)
            ],
            "predicateType": PREDICATE_TYPE,
            "predicate": {
                "buildDefinition": {
                    "buildType": BUILD_TYPE,
                    "externalParameters": {
                        "name": release.name,
                        "version": release.version,
                        "profile": {"sha256": origin.profile},
                        "targets": [target.target for target in release.targets],
                    },
                    "internalParameters": {
                        "chosen": {
                            f"{model.name} {target.target}": model.candidate
                            for target in release.targets
                            for model in target.models
                        },
                        "unaccepted": list(release.unaccepted),
                    },
                    "resolvedDependencies": list(_materials(origin)),
                },
                "runDetails": {
                    "builder": {"id": BUILDER, "version": _builder(release)},
                    "metadata": {"invocationId": payload_digest(release)},
                },
            },
        }
    )


def _builder(release: Release) -> dict[str, str]:
    name, _, version = release.made_by.partition(" ")
    return {name: version}


def _materials(origin: Origin) -> Iterator[dict[str, Any]]:
    for name, sha256 in sorted(origin.models.items()):
        yield {"name": f"model {name}", "digest": {"sha256": sha256}}
    for name, tree in sorted(origin.data.items()):
        yield {"name": f"data {name}", "digest": {TREE: tree}}
    for name, version in sorted(origin.tools.items()):
        yield {"name": f"tool {name}", "uri": tool_purl(name, version)}


def tool_purl(name: str, version: str) -> str:
    """Return the package URL of a tool: a distribution of Python's, or Python itself.

    Source: package-url specification, types ``pypi`` and ``generic``.
    """
    if name == "python":
        return f"pkg:generic/python@{version}"
    return f"pkg:pypi/{name.lower().replace('_', '-')}@{version.replace('+', '%2B')}"
