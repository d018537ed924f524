"""From the pixels of a page to its text: the one function that build and application share.

`read` calls `models.detector(x=...)` and `models.recogniser(x=...)`, whatever computes them: the
float models and the artifacts in the build, a runtime in the application.
"""

from typing import Any

import numpy as np
from PIL import Image

THRESHOLD = 0.3  # of a pixel's probability to be text
LEAST_SCORE = 0.5  # of the mean probability over a box
LEAST_PX = 3
UNCLIP = 1.6  # the detector marks the middle of a line: area / perimeter times this is added
LINE_HEIGHT_PX, LINE_WIDTH_PX = 48, 320

Arrays = dict[str, np.ndarray]


def read(inputs: Arrays, models: Any) -> Arrays:
    """Return `text` (one text, a line per line of the page) and `boxes` int64 [n, 4].

    Args:
        inputs: `image`, uint8 [256, 320, 3], RGB.
        models: The two models, as attributes.
    """
    page = inputs["image"]
    (found,) = models.detector(x=tensor(page)).values()
    boxes = lines_of(found[0, 0])
    characters = models.recogniser.metadata["character"].split("\n")
    texts = []
    for x1, y1, x2, y2 in boxes:
        (scores,) = models.recogniser(x=line_tensor(page[y1:y2, x1:x2])).values()
        texts.append(text_of(scores[0], characters))
    return {
        "boxes": np.array(boxes, np.int64).reshape(-1, 4),
        "text": np.array("\n".join(texts)),
    }


def tensor(pixels: np.ndarray) -> np.ndarray:
    """Return RGB pixels as both models take them: BGR in [-1, 1], float32 [1, 3, h, w]."""
    scaled = (pixels[:, :, ::-1].astype(np.float32) / 255 - 0.5) / 0.5
    return np.ascontiguousarray(scaled.transpose(2, 0, 1)[None])


def line_tensor(pixels: np.ndarray) -> np.ndarray:
    """Return a line, its height brought to 48 pixels, with zeros behind it: [1, 3, 48, 320]."""
    height, width = pixels.shape[:2]
    width = min(LINE_WIDTH_PX, max(1, round(width * LINE_HEIGHT_PX / height)))
    image = Image.fromarray(pixels).resize((width, LINE_HEIGHT_PX), Image.Resampling.BILINEAR)
    line = np.zeros((1, 3, LINE_HEIGHT_PX, LINE_WIDTH_PX), np.float32)
    line[..., :width] = tensor(np.asarray(image))
    return line


def lines_of(probability: np.ndarray) -> list[tuple[int, int, int, int]]:
    """Return the boxes `x1 y1 x2 y2` of the lines in a map of probabilities, from top to bottom."""
    height, width = probability.shape
    found = []
    for x1, y1, x2, y2 in components(probability > THRESHOLD):
        too_small = min(x2 - x1, y2 - y1) < LEAST_PX
        if too_small or probability[y1:y2, x1:x2].mean() < LEAST_SCORE:
            continue
        more = round((x2 - x1) * (y2 - y1) * UNCLIP / (2 * (x2 - x1 + y2 - y1)))
        left, top = max(0, x1 - more), max(0, y1 - more)
        found.append((left, top, min(width, x2 + more), min(height, y2 + more)))
    return sorted(found, key=lambda box: (box[1] + box[3], box[0]))


def components(mask: np.ndarray) -> list[tuple[int, int, int, int]]:
    """Return the box of every connected part of a mask: runs of rows that touch are one part."""
    boxes: list[list[int]] = []
    above: list[tuple[int, int, int]] = []  # runs of the row above: start, end, number of its box
    merged: dict[int, int] = {}

    def root(number: int) -> int:
        while number in merged:
            number = merged[number]
        return number

    for y, row in enumerate(mask):
        edges = np.flatnonzero(np.diff(row.astype(np.int8), prepend=0, append=0))
        here = []
        for start, end in edges.reshape(-1, 2).tolist():
            touched = {root(number) for a, b, number in above if a <= end and start <= b}
            number = min(touched, default=len(boxes))
            if not touched:
                boxes.append([start, y, end, y + 1])
            for other in touched - {number}:
                merged[other] = number
            parts = [boxes[item] for item in (number, *touched)] + [[start, y, end, y + 1]]
            x1, y1, x2, y2 = zip(*parts, strict=True)
            boxes[number] = [min(x1), min(y1), max(x2), max(y2)]
            here.append((start, end, number))
        above = here
    return [tuple(box) for number, box in enumerate(boxes) if number not in merged]  # type: ignore[misc]


def text_of(scores: np.ndarray, characters: list[str]) -> str:
    """Return the text of a line: the best class of each step, repeats and blanks (0) left out.

    Args:
        scores: [steps, classes].
        characters: Of class 1, 2 ...; what is beyond is a space.
    """
    best = scores.argmax(axis=1)
    kept = best[np.flatnonzero(np.diff(best, prepend=-1))]
    return "".join(
        characters[label - 1] if label <= len(characters) else " " for label in kept if label
    )
