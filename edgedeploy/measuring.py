"""Measuring artifacts on this machine and keeping the records."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgedeploy.artifact import Tree
from edgedeploy.profile.types import BenchSpec
from edgedeploy.records import add_record, conditions_key, latest_record
from edgedeploy.signature import TensorSpec
from edgedeploy.store import Store

FLOAT = "float"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One artifact as it shall be measured.

    Attributes:
        name: ``float`` for the baseline, else the candidate's name.
        tree: Its files.
        folder: Where they lie.
        entry: The file that the runtime loads, relative to ``folder``.
    """

    name: str
    tree: Tree
    folder: Path
    entry: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What is measured together, interleaved: a target's float artifact and one other.

    Attributes:
        target: Target id.
        runtime: ``ort`` or ``openvino``.
        version: Version of the runtime here.
        artifacts: The float one first.
        samples: Tensor pack that feeds them.
        samples_digest: The pack's digest.
        state: State inputs, which samples do not hold; they stay zero while measuring.
        bench: Mode and threads.
        options: Of the runtime, so that it computes as when the artifact was verified.
        device: Facts of this machine.
    """

    target: str
    runtime: str
    version: str
    artifacts: tuple[Measured, ...]
    samples: Path
    samples_digest: str
    state: tuple[TensorSpec, ...]
    bench: BenchSpec
    options: Mapping[str, Any]
    device: Mapping[str, Any]

    def key(self) -> str:
        """Return the key of this session's records: what was measured and how."""
        device = {name: self.device.get(name) for name in ("cpu", "cores", "machine", "system")}
        return conditions_key(
            {
                "target": self.target,
                "runtime": [self.runtime, self.version],
                "artifacts": [[item.name, item.tree.digest] for item in self.artifacts],
                "samples": self.samples_digest,
                "mode": self.bench.mode,
                "threads": self.bench.threads,
                "options": dict(self.options),
                "device": device,
            }
        )


def known_records(store: Store, session: Session) -> dict[str, dict[str, Any]] | None:
    """Return the latest records of a session by artifact name, None when there are none."""
    found = latest_record(store, session.key())
    if found is None:
        return None
    records: dict[str, dict[str, Any]] = found["artifacts"]
    return {name: {**record, "folder": found["folder"]} for name, record in records.items()}


def measure_session(
    store: Store, session: Session, progress: Callable[[Mapping[str, Any]], None]
) -> dict[str, dict[str, Any]]:
    """Measure a session now, keep its records and return them by artifact name.

    Raises:
        BuildError: The runtime died or refused an artifact (E350-E353).
        StoreError: The records cannot be written.
    """
    from edgedeploy.bench.job import BenchArtifact, BenchInputs, BenchJob, GeneratedTensor
    from edgedeploy.bench.measure import measure

    artifacts = tuple(
        BenchArtifact(
            id=item.name,
            family=session.runtime,  # type: ignore[arg-type]
            path=item.folder / item.entry,
            files=tuple(item.folder / file.path for file in item.tree.files),
            threads=session.bench.threads,
            options=session.options,
            digest=item.tree.digest,
            target=session.target,
        )
        for item in session.artifacts
    )
    job = BenchJob(
        artifacts=artifacts,
        inputs=BenchInputs(
            pack=session.samples,
            generated=tuple(
                GeneratedTensor(
                    name=spec.name,
                    dtype=spec.dtype,
                    shape=tuple(size if isinstance(size, int) else 1 for size in spec.dims or ()),
                    high=0,
                )
                for spec in session.state
            ),
        ),
        mode="full" if session.bench.mode == "full" else "quick",
        baseline=FLOAT if len(artifacts) > 1 else None,
        device=session.device,
    )
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        records = measure(job, folder, on_progress=progress)
        whole = {
            "created": records[0]["created"],
            "artifacts": {
                item.name: record for item, record in zip(session.artifacts, records, strict=True)
            },
        }
        place = add_record(store, session.key(), whole, sorted(folder.glob("*.gz")))
    return {item: {**record, "folder": str(place)} for item, record in whole["artifacts"].items()}
