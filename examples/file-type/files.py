"""Files of known type: modules of Python's standard library, and files that are made here.

`python files.py FOLDER` writes the evaluation files, for a look at them or for `app.py`.
"""

import csv
import gzip
import io
import json
import pickle
import random
import sys
import sysconfig
import tarfile
import wave
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from features import config, features
from PIL import Image

TEXT = (
    "alpha batch cache delta engine frame graph host index job kernel label model node offset "
    "packet queue record sample tensor update value window yield zone"
)
WORDS = TEXT.split()
STANDARD_LIBRARY = Path(sysconfig.get_path("stdlib"))


def calibration(files: int) -> Iterator[tuple[dict[str, np.ndarray], int]]:
    """Yield the inputs that activation ranges are taken from, with the number of the type."""
    return samples(files, seed=1)


def evaluation(files: int) -> Iterator[tuple[dict[str, np.ndarray], int]]:
    """Yield the inputs that the metric is taken on; no file is one of the calibration's."""
    return samples(files, seed=2)


def samples(files: int, seed: int) -> Iterator[tuple[dict[str, np.ndarray], int]]:
    """Yield ``({"bytes": [1, 2048] int32}, class)``."""
    settings = config()
    names = settings["target_labels_space"]
    for kind, content in contents(files, seed):
        yield {"bytes": features(content, settings)}, names.index(kind)


def contents(files: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield ``(type, content)``, each type in turn."""
    kinds = sorted([*MAKERS, "python"])
    # Every other module, so that two seeds, one odd and one even, share none.
    modules = sorted(STANDARD_LIBRARY.glob("[a-z]*.py"))[seed % 2 :: 2]
    for number in range(files):
        kind = kinds[number % len(kinds)]
        if kind == "python":
            yield kind, modules[number // len(kinds) % len(modules)].read_bytes()
        else:
            yield kind, MAKERS[kind](random.Random(f"{kind} {seed} {number}"))


def sentence(source: random.Random) -> str:
    """Return some words."""
    return " ".join(source.choices(WORDS, k=source.randint(4, 12))).capitalize() + "."


def rows(source: random.Random) -> list[dict]:
    """Return records with a text, a whole number and a fraction."""
    return [
        {
            "id": source.randint(1, 99999),
            "name": source.choice(WORDS),
            "score": round(source.random(), 3),
        }
        for _ in range(source.randint(8, 60))
    ]


def table(source: random.Random, separator: str) -> str:
    """Return records as separated values."""
    text = io.StringIO()
    writer = csv.DictWriter(text, ["id", "name", "score"], delimiter=separator)
    writer.writeheader()
    writer.writerows(rows(source))
    return text.getvalue()


def page(source: random.Random) -> str:
    """Return an HTML page."""
    parts = "".join(
        f"<h2>{source.choice(WORDS)}</h2>\n<p>{sentence(source)}</p>\n" for _ in range(9)
    )
    return (
        f"<!DOCTYPE html>\n<html>\n<head><title>{sentence(source)}</title></head>\n"
        f"<body>\n{parts}</body>\n</html>\n"
    )


def tree(source: random.Random) -> str:
    """Return an XML document."""
    root = ElementTree.Element(source.choice(WORDS))
    for row in rows(source):
        item = ElementTree.SubElement(root, "item", {"id": str(row["id"])})
        item.text = row["name"]
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, "unicode")


def settings_file(source: random.Random) -> str:
    """Return an INI file."""
    return "\n".join(
        f"[{word}]\n"
        + "".join(f"{key} = {source.randint(0, 99)}\n" for key in source.sample(WORDS, 5))
        for word in source.sample(WORDS, 6)
    )


def notes(source: random.Random) -> str:
    """Return a Markdown document."""
    return "\n".join(
        f"## {source.choice(WORDS).title()}\n\n{sentence(source)} **{source.choice(WORDS)}**\n\n"
        f"- [{source.choice(WORDS)}](https://example.org/{source.choice(WORDS)})\n"
        f"- `{source.choice(WORDS)}`\n"
        for _ in range(8)
    )


def script(source: random.Random) -> str:
    """Return a shell script."""
    steps = "".join(
        f'if [ -f "${word.upper()}" ]; then\n    echo "{sentence(source)}"\n'
        f'    rm -f "${word.upper()}"\nfi\n'
        for word in source.sample(WORDS, 6)
    )
    return f"#!/bin/sh\nset -eu\n{steps}exit 0\n"


def program(source: random.Random) -> str:
    """Return a program in C."""
    functions = "\n".join(
        f"static int {word}(const char *text, size_t size)\n{{\n"
        f"    if (text == NULL || size > {source.randint(8, 999)})\n        return -1;\n"
        f'    printf("%s: {sentence(source)}\\n", text);\n    return 0;\n}}\n'
        for word in source.sample(WORDS, 6)
    )
    return f"#include <stdio.h>\n#include <stddef.h>\n\n{functions}"


def style(source: random.Random) -> str:
    """Return a style sheet."""
    return "\n".join(
        f".{word} {{\n  margin: {source.randint(0, 40)}px;\n"
        f"  color: #{source.randrange(1 << 24):06x};\n}}\n"
        for word in source.sample(WORDS, 12)
    )


def picture(source: random.Random, form: str) -> bytes:
    """Return an image file of coloured blocks."""
    pixels = np.frombuffer(source.randbytes(8 * 8 * 3), np.uint8).reshape(8, 8, 3)
    file = io.BytesIO()
    Image.fromarray(pixels).resize((96, 64)).save(file, form)
    return file.getvalue()


def sound(source: random.Random) -> bytes:
    """Return a WAV file of noise."""
    file = io.BytesIO()
    with wave.open(file, "wb") as stream:
        stream.setnchannels(1)
        stream.setsampwidth(2)
        stream.setframerate(source.choice([8000, 16000, 44100]))
        stream.writeframes(source.randbytes(source.randrange(2000, 9000, 2)))
    return file.getvalue()


def zipped(source: random.Random) -> bytes:
    """Return a ZIP archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for word in source.sample(WORDS, 5):
            archive.writestr(zipfile.ZipInfo(f"{word}.txt"), sentence(source))
    return file.getvalue()


def tarred(source: random.Random) -> bytes:
    """Return a tar archive."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for word in source.sample(WORDS, 5):
            content = sentence(source).encode()
            member = tarfile.TarInfo(f"{word}.txt")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def array(source: random.Random) -> bytes:
    """Return a NumPy array file."""
    file = io.BytesIO()
    values = np.frombuffer(source.randbytes(8 * source.randint(50, 600)), np.uint16)
    np.save(file, values.astype(np.float32))
    return file.getvalue()


MAKERS: dict[str, Callable[[random.Random], bytes]] = {
    "csv": lambda source: table(source, ",").encode(),
    "tsv": lambda source: table(source, "\t").encode(),
    "json": lambda source: json.dumps(rows(source), indent=source.choice([None, 2])).encode(),
    "jsonl": lambda source: "\n".join(map(json.dumps, rows(source))).encode(),
    "html": lambda source: page(source).encode(),
    "xml": lambda source: tree(source).encode(),
    "ini": lambda source: settings_file(source).encode(),
    "markdown": lambda source: notes(source).encode(),
    "shell": lambda source: script(source).encode(),
    "c": lambda source: program(source).encode(),
    "css": lambda source: style(source).encode(),
    "txt": lambda source: "\n".join(sentence(source) for _ in range(20)).encode(),
    "png": lambda source: picture(source, "PNG"),
    "gif": lambda source: picture(source, "GIF"),
    "bmp": lambda source: picture(source, "BMP"),
    "jpeg": lambda source: picture(source, "JPEG"),
    "webp": lambda source: picture(source, "WEBP"),
    "wav": sound,
    "zip": zipped,
    "tar": tarred,
    "gzip": lambda source: gzip.compress(table(source, ",").encode(), mtime=0),
    "npy": array,
    "pickle": lambda source: pickle.dumps(rows(source), protocol=4),
}


def main() -> None:
    """Write the evaluation files as ``NUMBER.TYPE``."""
    folder, files = Path(sys.argv[1]), int(sys.argv[2]) if sys.argv[2:] else 480
    folder.mkdir(parents=True, exist_ok=True)
    for number, (kind, content) in enumerate(contents(files, seed=2)):
        (folder / f"{number:04}.{kind}").write_bytes(content)


if __name__ == "__main__":
    main()
