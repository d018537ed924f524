"""docs/tensorrt-options.md, made of the table of options."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from edgedeploy.backends.trt.option_table import GROUPS, SOURCES
from edgedeploy.backends.trt.options import Span, TrtOption, Version, text
from edgedeploy.backends.trt.settings import WORDS

PAGE = "tensorrt-options.md"


def options_markdown() -> str:
    """Return the page: every option by chapter, in which releases it is there, and its sources."""
    lines = [_HEAD]
    lines += ["| option of a profile | means |", "|---|---|"]
    lines += [f"| `{name}` | {words} |" for name, words in WORDS.items()]
    for title, rows in GROUPS.items():
        lines += [
            f"\n## {title}\n",
            "| flag | there | Python API | does | |",
            "|---|---|---|---|---|",
        ]
        lines += _rows(rows)
    lines += ["", *(f"[{name}]: {place}" for name, place in SOURCES.items())]
    return "\n".join(lines) + "\n"


def write_page(folder: str) -> None:
    """Write the page into a folder.

    Args:
        folder: The one of the documents.

    Raises:
        OSError: It cannot be written.
    """
    (Path(folder) / PAGE).write_text(options_markdown(), encoding="utf-8")


def _rows(rows: Sequence[TrtOption]) -> Iterator[str]:
    """Yield one line per option; neighbours that differ in their flag alone share a line."""
    for alike in _alike(rows):
        row = alike[0]
        there = _span(row.known, gone=True)
        if row.works:
            there += "; works " + " and ".join(_span(span) for span in row.works)
        if row.deprecated:
            there += f"; deprecated in {_release(row.deprecated)}"
        flags = " ".join(f"`{item.flag}`" for item in alike)
        api = f"`{row.api}`" if row.api else ""
        yield f"| {flags} | {there} | {api} | {row.what} | {'sent' if row.sent else ''} |"


def _alike(rows: Sequence[TrtOption]) -> Iterator[list[TrtOption]]:
    for _, found in groupby(rows, lambda row: replace(row, flag="")):
        yield list(found)


def _span(span: Span, *, gone: bool = False) -> str:
    """Return a span; ``gone``: what ends it is the removal of the flag."""
    first = _release(span.first)
    if span.end is None:
        return f"{first} on"
    removed = f"{text(span.end)} removed"
    return f"{first} to {_release(span.end, removed if gone and removed in SOURCES else '')}"


def _release(version: Version, basis: str = "") -> str:
    """Return a release with a link to where its options were read."""
    name = text(version)
    place = basis or name
    return f"[{name}][{place}]" if place in SOURCES else name


_HEAD = """\
# Options of TensorRT by release

Made from the table by `edgedeploy.backends.trt.reference`; change `backends/trt/option_table.py`,
not this page, and make it anew:

```sh
python -c "from edgedeploy.backends.trt.reference import write_page as w; w('docs')"
```

edgedeploy builds engines with TensorRT 8.6, 10.x and 11.x. Every command for `trtexec` is made of
this table: what a release does not know, or takes without effect, is never sent to it. Where an
option of the profile needs it, the build is refused with [E336](diagnostics.md), which says from
which release on it works.

*There* names the first release that takes a flag and, after *to*, the first that ends with "Unknown
option"; releases link to where their options were read. The sources between 10.0.1 and 10.14 were
not to be had, but for a help text of 10.6: a flag counts from the first release that was read and
has it. It may have come a little earlier, never later. Releases after 11.5 are taken to know what
11.5 knows. None of these commands has run on a GPU: see [verified hardware](verified-hardware.md).

How the types of the graph are held, which is the same graph for every release:

- **11.x** knows nothing else.
- **10.x** is sent `--stronglyTyped`; 11 takes it without effect, so it is not sent there.
- **8.6**, and DLA cores before 11, have no strong typing. A float32 graph is sent no flag of a
  type, so nothing else is allowed. A graph with float16 is sent `--fp16`,
  `--precisionConstraints=obey` and `--layerPrecisions` with a type for every layer: the builder
  keeps to it or fails. A graph with int8 is sent `--int8`, and int8 stays where QuantizeLinear and
  DequantizeLinear put it. Not held is the type in which a layer hands on its output: it may be
  wider. bfloat16, fp8 and int4, and int8 together with float16, are refused.
- All are sent `--noTF32`, unless the profile says `tf32: true`: without it float32 products round
  their inputs to 10 bits.

DLA cores: up to 10.7, and from 11.4.1 on with JetPack 7.2.2 on Jetson AGX Orin. 11.0 turned three
defaults of running round (copies, CUDA graph, waiting); what is measured is the same for all.
"""
