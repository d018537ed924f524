"""Ground truth beside data files: a CSV of labels, COCO boxes or YOLO boxes. Standard library only.

Boxes become ``{"box": [x, y, w, h], "class": n}`` in pixels of the original image, top-left corner
first; a COCO crowd region also has ``"crowd": true``.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from edgedeploy.errors import DataError, Place


class Labels(Protocol):
    """The truth of a set of files."""

    @property
    def names(self) -> frozenset[str] | None:
        """Files that have a truth; None when every file has one (YOLO: perhaps no objects)."""

    def files(self, names: Sequence[str]) -> list[Path]:
        """Return the label files that the truths of the data files ``names`` stand in."""

    def truth(self, name: str, size: tuple[int, int] | None) -> Any:
        """Return the truth of a data file as JSON data.

        Args:
            name: Posix path relative to the data folder.
            size: Width and height of the image in pixels; None for other data.

        Raises:
            DataError: There is none (E281) or it is malformed (E280).
        """


def load_labels(path: Path, shown: str) -> Labels:
    """Return the labels at ``path``: ``.csv``, ``.json`` (COCO) or a folder (YOLO).

    Args:
        path: Where they lie.
        shown: The path as the user wrote it, for messages.

    Raises:
        DataError: Missing (E250) or malformed (E280).
    """
    if path.is_dir():
        return YoloLabels(path, shown)
    if not path.is_file():
        raise DataError(
            f"the labels {shown} do not exist",
            code="E250",
            subject=shown,
            hint="The path is relative to the profile's folder.",
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise _malformed(shown, f"cannot be read as UTF-8 text: {error}") from error
    if path.suffix.lower() == ".csv":
        return CsvLabels(text, path, shown)
    if path.suffix.lower() == ".json":
        return CocoLabels(text, path, shown)
    raise _malformed(shown, "is neither .csv, .json (COCO) nor a folder of .txt files (YOLO)")


def _malformed(shown: str, what: str, line: int | None = None) -> DataError:
    return DataError(
        f"labels {shown}: {what}" if line is None else what,
        code="E280",
        subject=shown,
        place=None if line is None else Place(file=shown, line=line, column=1),
        hint="A label CSV has the header `file,label`; COCO is JSON with images and annotations; "
        "YOLO has one .txt per image with lines `class x y w h` in 0..1.",
    )


def _unlabelled(shown: str, name: str) -> DataError:
    return DataError(
        f"{name} has no label in {shown}",
        code="E281",
        subject=name,
        hint="Add its label or take the sample out.",
    )


def _is_whole(text: str) -> bool:
    digits = text.removeprefix("-")
    return digits.isascii() and digits.isdigit() and len(digits) < 19 and str(int(text)) == text


class CsvLabels:
    """``file,label`` with a header: all labels whole numbers -> int, otherwise all text."""

    def __init__(self, text: str, path: Path, shown: str) -> None:
        self._path, self._shown = path, shown
        reader = csv.DictReader(io.StringIO(text), strict=True)
        found: dict[str, str] = {}
        try:
            if not {"file", "label"} <= set(reader.fieldnames or ()):
                raise _malformed(shown, "the header must name the columns file and label", 1)
            for row in reader:
                name, label = row["file"], row["label"]
                if not name or label is None:
                    raise _malformed(shown, "a row lacks its file or label", reader.line_num)
                if name in found:
                    raise _malformed(shown, f"{name} stands there twice", reader.line_num)
                found[name] = label
        except csv.Error as error:
            raise _malformed(shown, f"not valid CSV: {error}", reader.reader.line_num) from error
        whole = all(_is_whole(label) for label in found.values())
        self._truths: dict[str, int | str] = {
            name: int(label) if whole else label for name, label in found.items()
        }

    @property
    def names(self) -> frozenset[str] | None:
        """Files of the table."""
        return frozenset(self._truths)

    def files(self, names: Sequence[str]) -> list[Path]:
        """Return the CSV file."""
        return [self._path]

    def truth(self, name: str, size: tuple[int, int] | None) -> Any:
        """Return the label: an int or a text."""
        try:
            return self._truths[name]
        except KeyError:
            raise _unlabelled(self._shown, name) from None


class CocoLabels:
    """COCO object detection annotations (cocodataset.org/#format-data): boxes and category ids."""

    def __init__(self, text: str, path: Path, shown: str) -> None:
        self._path, self._shown = path, shown
        try:
            data = json.loads(text)
            by_id: dict[Any, str] = {item["id"]: str(item["file_name"]) for item in data["images"]}
            self._truths: dict[str, list[dict[str, Any]]] = {name: [] for name in by_id.values()}
            for item in data["annotations"]:
                self._truths[by_id[item["image_id"]]].append(_coco_box(item, shown))
        except (ValueError, KeyError, TypeError) as error:
            reason = f"lacks {error}" if isinstance(error, KeyError) else str(error)
            raise _malformed(shown, f"not COCO annotations: {reason}") from error

    @property
    def names(self) -> frozenset[str] | None:
        """Files listed under ``images``."""
        return frozenset(self._truths)

    def files(self, names: Sequence[str]) -> list[Path]:
        """Return the JSON file."""
        return [self._path]

    def truth(self, name: str, size: tuple[int, int] | None) -> Any:
        """Return the boxes of an image."""
        try:
            return self._truths[name]
        except KeyError:
            raise _unlabelled(self._shown, name) from None


def _coco_box(item: dict[str, Any], shown: str) -> dict[str, Any]:
    box = [float(value) for value in item["bbox"]]
    if len(box) != 4 or not all(map(math.isfinite, box)) or min(box[2:]) < 0:
        raise _malformed(shown, f"annotation {item.get('id')}: bbox {item['bbox']} is no box")
    found: dict[str, Any] = {"box": box, "class": int(item["category_id"])}
    if item.get("iscrowd"):
        found["crowd"] = True
    return found


class YoloLabels:
    """A folder of ``.txt`` files named like the images: lines of ``class cx cy w h`` in 0..1.

    An image without a file has no objects.
    """

    def __init__(self, folder: Path, shown: str) -> None:
        self._folder, self._shown = folder, shown

    @property
    def names(self) -> frozenset[str] | None:
        """None: every image has a truth."""
        return None

    def _file(self, name: str) -> Path:
        return (self._folder / name).with_suffix(".txt")

    def files(self, names: Sequence[str]) -> list[Path]:
        """Return the label files of the images that have one.

        Raises:
            DataError: None of the images has one (E281).
        """
        found = [file for name in names if (file := self._file(name)).is_file()]
        if names and not found:
            raise DataError(
                f"the label folder {self._shown} holds no file for any image",
                code="E281",
                subject=self._shown,
                hint=f"{names[0]} would have its boxes in {self._file(names[0]).name}.",
            )
        return found

    def truth(self, name: str, size: tuple[int, int] | None) -> Any:
        """Return the boxes of an image of ``size``; an empty list when it has no file."""
        file = self._file(name)
        if size is None:
            raise _malformed(self._shown, f"YOLO boxes need an image, {name} is none")
        if not file.is_file():
            return []
        shown = f"{self._shown.rstrip('/')}/{file.relative_to(self._folder).as_posix()}"
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise _malformed(shown, f"cannot be read as UTF-8 text: {error}") from error
        return [
            _yolo_box(line, size, shown, number)
            for number, line in enumerate(lines, 1)
            if line.strip()
        ]


def _yolo_box(line: str, size: tuple[int, int], shown: str, number: int) -> dict[str, Any]:
    fields = line.split()
    try:
        kind, (cx, cy, w, h) = int(fields[0]), (float(field) for field in fields[1:])
    except ValueError as error:
        raise _malformed(shown, "a line must read `class x y w h`", number) from error
    if not all(0 <= value <= 1 for value in (cx, cy, w, h)):
        raise _malformed(shown, "box values must lie in 0..1", number)
    width, height = size
    box = [(cx - w / 2) * width, (cy - h / 2) * height, w * width, h * height]
    return {"box": box, "class": kind}
