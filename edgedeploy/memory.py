"""What the last build of a profile knew, so that the next one can be quick and say what changed.

It is only ever a shortcut: without it, or when it does not fit, everything is worked out anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgedeploy.manifest import canonical, write_atomic
from edgedeploy.store import Store

FORMAT = 1


@dataclass(slots=True, kw_only=True)
class Memory:
    """What is remembered of one profile.

    Attributes:
        path: The file it lies in.
        scratch: Folder on the same file system for the unfinished file.
        components: Key components of the last build by node id.
        expanded: Expanded profile by request digest, with what it was made from.
    """

    path: Path
    scratch: Path
    components: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    expanded: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, store: Store, profile: Path) -> Memory:
        """Return what is remembered of the profile at that path (nothing, if it is unreadable)."""
        name = hashlib.sha256(str(profile.absolute()).encode()).hexdigest()
        path = store.root / "memory" / f"{name}.json"
        memory = cls(path=path, scratch=store.scratch)
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            data = json.loads(path.read_bytes())
            if data["format"] == FORMAT:
                memory.components = dict(data["components"])
                memory.expanded = dict(data["expanded"])
        return memory

    def save(self) -> None:
        """Write it; a disk that refuses costs only the shortcut."""
        data = {"format": FORMAT, "components": self.components, "expanded": self.expanded}
        content = canonical(data)
        with contextlib.suppress(OSError):
            if self.path.is_file() and self.path.read_bytes() == content:
                return
            self.path.parent.mkdir(mode=0o700, exist_ok=True)
            write_atomic(self.path, content, scratch=self.scratch)
