"""ORT model package: a folder with the models for ONNX Runtime and what is to be known of them."""

from __future__ import annotations

from pathlib import Path

from edgedeploy.manifest import canonical
from edgedeploy.release.bundle import Release, ReleaseTarget
from edgedeploy.release.formats import Format
from edgedeploy.release.opening import Bundle


class OrtPackage:
    """An ``.ortpackage`` folder; an :class:`edgedeploy.release.formats.Format`."""

    name = "ortpackage"

    def suits(self, release: Release) -> tuple[ReleaseTarget, ...]:
        """Return the targets of ONNX Runtime."""
        return tuple(target for target in release.targets if target.runtime == "ort")

    def write(self, bundle: Bundle, folder: Path) -> tuple[Path, ...]:
        """Write ``NAME-VERSION.ortpackage/``: models by target, and ``metadata.json``."""
        release = bundle.release
        root = folder / f"{release.name}-{release.version}.ortpackage"
        variants = []
        for target in self.suits(release):
            for model in target.models:
                for file in release.files_of(target, model):
                    place = root / file.path
                    place.parent.mkdir(parents=True, exist_ok=True)
                    with open(place, "wb") as goal:
                        goal.writelines(bundle.parts(file.path))
                variants.append({"target": target.target, "model": model.name, "file": model.entry})
        (root / "metadata.json").write_bytes(canonical({"variants": variants}))
        return (root,)


FORMAT: Format = OrtPackage()
