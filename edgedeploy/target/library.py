"""All boards and runtimes of the search path, and the targets that they make."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgedeploy.config.nearest import nearest, shorten
from edgedeploy.config.search import SearchFolder, target_folders
from edgedeploy.errors import ProfileError
from edgedeploy.target.read import FOLDERS, Kind, Part, find_part
from edgedeploy.target.types import Target


class TargetLibrary:
    """Loads targets by id; what was loaded is kept.

    Args:
        option: Folders of ``--target-path``; searched first.
        project: The profile's folder.
        folders: The whole search path, in place of the usual one.

    Raises:
        ProfileError: A folder that was asked for does not exist (E101).
    """

    def __init__(
        self,
        *,
        option: Sequence[Path] = (),
        project: Path | None = None,
        folders: Sequence[SearchFolder] | None = None,
    ) -> None:
        self._folders = (
            list(folders)
            if folders is not None
            else list(target_folders(option=option, project=project))
        )
        for folder in self._folders:
            if folder.origin in ("option", "environment") and not folder.path.is_dir():
                raise ProfileError(
                    f"the target folder `{folder.path}` does not exist",
                    code="E101",
                    subject=str(folder.path),
                    hint="correct --target-path or EDGEDEPLOY_TARGET_PATH",
                )
        self._parts: dict[tuple[Kind, str], Part | None] = {}

    def load(self, target: str) -> Target:
        """Return the target ``board/runtime``.

        Raises:
            ProfileError: The id is malformed or unknown (E139), the runtime does not serve the
                board (E140), or a file is refused.
        """
        board_id, slash, runtime_id = target.partition("/")
        if not slash or not board_id or not runtime_id or "/" in runtime_id:
            raise ProfileError(
                f"`{shorten(target)}` is no target id",
                code="E139",
                subject=target,
                hint=self._id_hint(target),
            )
        board = self._part("board", board_id, target)
        runtime = self._part("runtime", runtime_id, target)
        served = _served(board, runtime)
        if served is None:
            raise ProfileError(
                f"`{runtime_id}` does not serve the board `{board_id}`",
                code="E140",
                subject=target,
                hint=self._served_hint(board_id, runtime_id),
            )
        return _join(target, board, runtime, served)

    def boards(self) -> list[str]:
        """Return the ids of all boards, sorted."""
        return self._ids("board")

    def runtimes(self) -> list[str]:
        """Return the ids of all runtimes, sorted."""
        return self._ids("runtime")

    def runtime_versions(self, runtime: str) -> str | None:
        """Return which versions a runtime may have on a device, such as ``>=1.17``.

        None when the runtime is unknown or sets no range.

        Raises:
            ProfileError: Its file is refused.
        """
        found = self._find("runtime", runtime)
        return None if found is None else found.data.get("versions")

    def targets(self) -> list[str]:
        """Return the ids of all boards joined with a runtime that serves them, sorted.

        Raises:
            ProfileError: A board or runtime file is refused.
        """
        return sorted(
            f"{board}/{runtime}"
            for board in self.boards()
            for runtime in self.runtimes()
            if self._pair(board, runtime)
        )

    def _pair(self, board: str, runtime: str) -> bool:
        first, second = self._find("board", board), self._find("runtime", runtime)
        return first is not None and second is not None and _served(first, second) is not None

    def _serves(self, board: str, runtime: str) -> bool:
        """Return whether the two make a target, for hints: a refused file makes none."""
        try:
            return self._pair(board, runtime)
        except ProfileError:
            return False

    def _ids(self, kind: Kind) -> list[str]:
        found = {
            path.stem
            for folder in self._folders
            for path in (folder.path / FOLDERS[kind]).glob("*.yaml")
        }
        return sorted(found)

    def _find(self, kind: Kind, name: str) -> Part | None:
        if (kind, name) not in self._parts:
            known = name in self._ids(kind)  # never a path out of the folder
            self._parts[kind, name] = find_part(kind, name, self._folders) if known else None
        return self._parts[kind, name]

    def _part(self, kind: Kind, name: str, target: str) -> Part:
        found = self._find(kind, name)
        if found is not None:
            return found
        known = self._ids(kind)
        guess = nearest(name, known)
        raise ProfileError(
            f"there is no {kind} `{shorten(name)}`",
            code="E139",
            subject=target,
            hint=f"did you mean `{guess}`?"
            if guess
            else f"known {FOLDERS[kind]}: " + ", ".join(known),
        )

    def _id_hint(self, target: str) -> str:
        known = [
            f"{board}/{runtime}"
            for board in self.boards()
            for runtime in self.runtimes()
            if self._serves(board, runtime)
        ]
        guess = nearest(target, known)
        if guess is None:
            guess = next((item for item in known if item.startswith(f"{target}/")), None)
        return f"did you mean `{guess}`?" if guess else "write `board/runtime`, such as `rpi5/ort`"

    def _served_hint(self, board: str, runtime: str) -> str:
        boards = ", ".join(item for item in self.boards() if self._serves(item, runtime))
        others = [f"`{board}/{item}`" for item in self.runtimes() if self._serves(board, item)]
        way = f"use {' or '.join(others)}; " if others else ""
        return f"{way}`{runtime}` serves {boards}"


def _served(board: Part, runtime: Part) -> Mapping[str, Any] | None:
    """Return what the runtime says of this kind of board."""
    kind = [board.data[key] for key in ("os", "arch", "processor")]
    for item in runtime.data["serves"]:
        same = [item[key] for key in ("os", "arch", "processor")] == kind
        if same and _suits(board, item):
            found: Mapping[str, Any] = item
            return found
    return None


def _suits(board: Part, item: Mapping[str, Any]) -> bool:
    """Return whether an entry is about a board's system and GPU.

    One that lists no compute capabilities is about boards without a GPU of NVIDIA's.
    """
    if not _within(board.data.get("os_version"), item.get("os_versions")):
        return False
    wanted = item.get("compute_capabilities") or ()
    found = (board.data.get("gpu") or {}).get("compute_capabilities", ())
    return bool(wanted) == bool(found) and set(found) <= set(wanted)


def _within(version: int | None, versions: str | None) -> bool:
    """Return whether a board's system lies in a range such as ``>=17,<18``; none takes all."""
    if versions is None:
        return True
    low, _, high = versions.partition(",<")
    below = not high or (version is not None and version < int(high))
    return version is not None and int(low.removeprefix(">=")) <= version and below


def _join(target: str, board: Part, runtime: Part, served: Mapping[str, Any]) -> Target:
    """Return board and runtime as one target: facts as plain values, their sources apart."""
    sources: dict[str, str] = {}
    fields: dict[str, Any] = {
        "board": plain(board.data, "board", sources),
        "runtime": plain(
            {key: value for key, value in runtime.data.items() if key != "serves"},
            "runtime",
            sources,
        ),
    }
    here = {key: value for key, value in served.items() if key in _HERE}
    fields["runtime"].update(plain(here, "runtime", sources))
    defaults = served.get("defaults", {})
    for name, option in fields["runtime"].get("options", {}).items():
        option["default"] = defaults.get(name, option.get("default"))
    canonical = json.dumps(
        {"fields": fields, "sources": sources},
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
    )
    return Target(
        id=target,
        fields=fields,
        sources=dict(sorted(sources.items())),
        origins=(board.origin, runtime.origin),
        digest=hashlib.sha256(canonical.encode()).hexdigest(),
        files=(*board.files, *runtime.files),
    )


_HERE = ("shapes", "quantize", "scheme", "fast", "slow")
_UNIT_NAMES = {"ram": "ram_bytes", "clock": "clock_hz"}


def plain(data: Mapping[str, Any], path: str, sources: dict[str, str]) -> dict[str, Any]:
    """Return the data with each fact as its value; its source goes into ``sources`` by path."""
    found: dict[str, Any] = {}
    for key, value in sorted(data.items()):
        name = _UNIT_NAMES.get(key, key)
        found[name] = _value(value, f"{path}.{name}", sources)
    return found


def _value(value: Any, path: str, sources: dict[str, str]) -> Any:
    if isinstance(value, list):
        return [_value(item, f"{path}.{place}", sources) for place, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    if "source" not in value:
        return plain(value, path, sources)
    sources[path] = value["source"]
    rest = {key: item for key, item in value.items() if key != "source"}
    return rest["value"] if set(rest) == {"value"} else plain(rest, path, sources)
