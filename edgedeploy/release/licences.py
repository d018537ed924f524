"""Licences of what a release holds: SPDX expressions, a list of denied ones, and their texts.

Source: SPDX specification 3.0.1, annex B (licence expressions). The list of licence ids is the one
of the installed ``packaging``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath

from edgedeploy.errors import ProfileError, RefusedError
from edgedeploy.release.bundle import Licence

FOLDER = "LICENSES"
"""Folder of a release with the texts. Source: REUSE specification 3.3, "License files"."""

_OWN = "LicenseRef-"


def licence_part(model: str) -> str:
    """Return what a model is called among the parts of a release; ``files`` are the rest."""
    return f"model {model}"


def licence_of(part: str, expression: str | None) -> str:
    """Return the SPDX expression of a part in its canonical form.

    Args:
        part: What it covers, such as ``model main``.
        expression: As the profile says it; None or empty where it says nothing.

    Raises:
        ProfileError: It says nothing (E756), or no SPDX expression (E757).
    """
    from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

    if not expression:
        raise ProfileError(
            f"{part} states no licence, and a release says under which it may be used",
            code="E756",
            subject=part,
            hint="add `licence:` to the model, or `release: {files_licence: ...}` for files; "
            "LicenseRef-NAME with a text stands for one of your own",
        )
    try:
        return str(canonicalize_license_expression(expression))
    except InvalidLicenseExpression as error:
        raise ProfileError(
            f"the licence of {part} is no SPDX expression: {error}",
            code="E757",
            subject=part,
            hint="write ids of spdx.org/licenses joined by AND, OR and WITH, such as `Apache-2.0`",
        ) from error


def licences(parts: Mapping[str, str | None], texts: Mapping[str, str]) -> tuple[Licence, ...]:
    """Return the licences of all parts, sorted by part.

    Args:
        parts: The profile's expression by part.
        texts: Path in the release of every licence text, by licence id.

    Raises:
        ProfileError: As :func:`licence_of`; or a licence of the user's own has no text, or a text
            belongs to no part (E757).
    """
    found, used = [], set[str]()
    for part in sorted(parts):
        expression = licence_of(part, parts[part])
        names = set(_names(expression))
        for name in sorted(names - texts.keys()):
            if name.startswith(_OWN):
                raise _text(name, "is no licence that the world knows, and has no text")
        used |= names
        here = sorted(names & texts.keys())
        file = texts[here[0]] if len(here) == 1 and len(names) == 1 else None
        found.append(Licence(part=part, spdx=expression, file=file))
    for name in sorted(texts.keys() - used):
        raise _text(name, "has a text in `release: {texts: ...}`, and no part needs it")
    return tuple(found)


def text_path(file: str) -> tuple[str, str]:
    """Return the licence id that a text file is named by, and its path in a release."""
    name = PurePosixPath(file).name
    return name.removesuffix(".txt"), f"{FOLDER}/{name}"


def refuse_denied(found: Iterable[Licence], deny: Iterable[str]) -> None:
    """Refuse parts that can be used under denied licences alone; of ``A OR B`` one may be denied.

    Args:
        found: Licences of a release.
        deny: SPDX ids, in any case. ``-only``, ``-or-later`` and ``+`` make no difference, and
            exceptions (``WITH``) do not save a licence.

    Raises:
        ProfileError: What is denied is no SPDX id, and would deny nothing (E757).
        RefusedError: A part needs one (E758).
    """
    denied = {_base(_id(name)) for name in deny}
    for licence in found:
        missed = _missed(licence.spdx, denied)
        if missed:
            raise RefusedError(
                f"{licence.part} is under {licence.spdx}, and {', '.join(missed)} is denied",
                code="E758",
                subject=licence.part,
                hint="release another model, or change `release: {deny: ...}` or --deny if it may",
            )


def _missed(expression: str, denied: set[str]) -> tuple[str, ...]:
    """Return the denied licences that nothing lets one go round; empty where there is a way."""
    left = expression.replace("(", " ( ").replace(")", " ) ").split()
    missed = _either(left, denied)
    return tuple(dict.fromkeys(missed))


def _either(left: list[str], denied: set[str]) -> tuple[str, ...]:
    ways = [_both(left, denied)]
    while left and left[0] == "OR":
        left.pop(0)
        ways.append(_both(left, denied))
    return min(ways, key=len)


def _both(left: list[str], denied: set[str]) -> tuple[str, ...]:
    missed = _one(left, denied)
    while left and left[0] == "AND":
        left.pop(0)
        missed += _one(left, denied)
    return missed


def _one(left: list[str], denied: set[str]) -> tuple[str, ...]:
    word = left.pop(0)
    if word == "(":
        missed = _either(left, denied)
        left.pop(0)  # its closing bracket: the expression is canonical
        return missed
    if left and left[0] == "WITH":
        del left[:2]
    return (word,) if _base(word) in denied else ()


def _base(name: str) -> str:
    """Return what GPL-2.0, GPL-2.0+, GPL-2.0-only and GPL-2.0-or-later have in common."""
    plain = name.lower().removesuffix("+")
    return plain.removesuffix("-only").removesuffix("-or-later")


def _id(name: str) -> str:
    """Return a single licence id in its canonical form."""
    found = licence_of(f"deny {name}", name or "(empty)")
    if " " in found:
        raise ProfileError(
            f"{name!r} cannot be denied: it is more than one licence id",
            code="E757",
            subject=name,
            hint="deny every licence by its own id",
        )
    return found


def _names(expression: str) -> Iterator[str]:
    for word in expression.replace("(", " ").replace(")", " ").split():
        if word not in ("AND", "OR", "WITH"):
            yield word.removesuffix("+")


def _text(name: str, why: str) -> ProfileError:
    return ProfileError(
        f"{name} {why}",
        code="E757",
        subject=name,
        hint=f"name a file {FOLDER}/{name}.txt in `release: {{texts: ...}}` for every licence of "
        "your own, and none that nobody needs",
    )
