"""OCI image layouts: a release as an artifact of a container registry, as ORAS pushes and pulls it.

Every file of the release is a layer of its own, named by a title, so that a registry holds and
sends equal files once, whatever the version. What is pulled is a folder as ``edgedeploy verify
--extract`` writes it; ``verify_file.py`` checks it. Sources: OCI image specification 1.1.1,
``image-layout.md``, ``manifest.md`` ("Guidelines for Artifact Usage") and ``annotations.md``; ORAS
documentation, "Artifact concepts".
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgedeploy.manifest import canonical
from edgedeploy.release.bundle import ENVELOPE, MANIFEST, SUMS, Release, ReleaseTarget, sums
from edgedeploy.release.content import Content, bundled, parts_of, size_of, write_content
from edgedeploy.release.formats import Format
from edgedeploy.release.formats.shared import licence_expression, unfit, vouchers
from edgedeploy.release.opening import Bundle

ARTIFACT = "application/vnd.edgedeploy.release.v1"
_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
_EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
_EMPTY = b"{}"
_TITLE = "org.opencontainers.image.title"
_REFERENCE = "org.opencontainers.image.ref.name"
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_OWN_TYPES: Mapping[str, str] = {
    MANIFEST: f"{ARTIFACT}.manifest+json",
    ENVELOPE: "application/vnd.dsse.envelope.v1+json",
    SUMS: "text/plain",
}


class Oci:
    """An image layout; an :class:`edgedeploy.release.formats.Format`."""

    name = "oci"

    def suits(self, release: Release) -> tuple[ReleaseTarget, ...]:
        """Return all targets: the whole release is the artifact."""
        return release.targets

    def write(self, bundle: Bundle, folder: Path) -> tuple[Path, ...]:
        """Write ``NAME-VERSION.oci/``.

        Raises:
            UsageError: The version cannot be a tag (E760).
            OSError: The disk refuses.
        """
        release = bundle.release
        if not _TAG.fullmatch(release.version):
            raise unfit(
                "oci",
                f"{release.version!r} cannot be a tag",
                "use a version of letters, digits, `_`, `.` and `-`",
            )
        root = folder / f"{release.name}-{release.version}.oci"
        layers = [
            _blob(root, content, media_type, {_TITLE: path})
            for path, (content, media_type) in sorted(_layers(bundle).items())
        ]
        manifest = canonical(_manifest(release, _blob(root, _EMPTY, _EMPTY_TYPE), layers))
        entry = _blob(root, manifest, _MANIFEST_TYPE, {_REFERENCE: release.version})
        index = {
            "schemaVersion": 2,
            "mediaType": _INDEX_TYPE,
            "manifests": [{**entry, "artifactType": ARTIFACT}],
        }
        write_content(root / "index.json", canonical(index))
        write_content(root / "oci-layout", canonical({"imageLayoutVersion": "1.0.0"}))
        return (root,)


def _layers(bundle: Bundle) -> dict[str, tuple[Content, str]]:
    """Return content and media type of what is pulled, by path: an extracted release."""
    found: dict[str, tuple[Content, str]] = {
        file.path: (bundled(bundle, file.path), f"{ARTIFACT}.{file.role}")
        for file in bundle.release.files
    }
    own = vouchers(bundle) | {SUMS: sums(bundle.release.files)}
    return found | {path: (content, _OWN_TYPES[path]) for path, content in own.items()}


def _blob(
    root: Path, content: Content, media_type: str, annotations: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Write a content under its digest, once, and return its descriptor."""
    found = hashlib.sha256()
    for part in parts_of(content, media_type):
        found.update(part)
    place = root / "blobs" / "sha256" / found.hexdigest()
    if not place.exists():
        write_content(place, content)
    descriptor: dict[str, Any] = {
        "mediaType": media_type,
        "digest": f"sha256:{found.hexdigest()}",
        "size": size_of(content),
    }
    return descriptor | ({} if annotations is None else {"annotations": dict(annotations)})


def _manifest(
    release: Release, config: Mapping[str, Any], layers: list[dict[str, Any]]
) -> dict[str, Any]:
    annotations = {
        "org.opencontainers.image.title": release.name,
        "org.opencontainers.image.version": release.version,
        "vnd.edgedeploy.release.digest": release.digest,
        "vnd.edgedeploy.release.counter": str(release.counter),
        "vnd.edgedeploy.release.targets": ",".join(target.target for target in release.targets),
    }
    if release.created is not None:
        annotations["org.opencontainers.image.created"] = release.created
    expression = licence_expression(release)
    if expression is not None:
        annotations["org.opencontainers.image.licenses"] = expression
    return {
        "schemaVersion": 2,
        "mediaType": _MANIFEST_TYPE,
        "artifactType": ARTIFACT,
        "config": config,
        "layers": layers,
        "annotations": annotations,
    }


FORMAT: Format = Oci()
