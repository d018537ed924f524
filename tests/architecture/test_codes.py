"""Diagnostic codes: each that is raised is explained, each that is explained is raised."""

import ast
import re

from source import PACKAGE, package_files, tree

from edgedeploy.errors import ERROR_KINDS
from edgedeploy.errors.codes import catalogue

CODE = re.compile(r"\b[EWN]\d{3}\b")
RANGE = re.compile(r"E\d{3}\s*(?:-|\.\.|to)\s*E\d{3}")  # what an area may use, in a docstring
CATALOGUE = PACKAGE / "errors" / "codes"


def strings(path) -> list[tuple[int, str]]:
    """Return every string of a file with its line, docstrings too, comments not."""
    return [
        (node.lineno, node.value)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]


def raised() -> dict[str, str]:
    """Return where each code is used: a string that is a code and nothing else."""
    return {
        text: f"{path}:{line}"
        for path in package_files()
        if not path.is_relative_to(CATALOGUE)
        for line, text in strings(path)
        if CODE.fullmatch(text)
    }


def test_every_code_is_explained() -> None:
    """Those named in docstrings count too."""
    missing = {
        f"{path}:{line}: {code}"
        for path in package_files()
        for line, text in strings(path)
        for code in CODE.findall(RANGE.sub("", text))
        if code not in catalogue()
    }
    assert not missing, "\n".join(sorted(missing))


def test_every_explained_code_is_raised() -> None:
    """A code that nothing raises any more leaves the catalogue."""
    assert sorted(set(catalogue()) - set(raised())) == []


def test_no_two_areas_claim_one_code() -> None:
    """The catalogue is a union: a second claim would silently replace the first."""
    claims = [
        text for path in CATALOGUE.glob("*.py") for _, text in strings(path) if CODE.fullmatch(text)
    ]
    assert len(claims) == len(set(claims))


def test_explanations_say_something() -> None:
    """A title of one line, no title twice, and prose that says more than the title."""
    found = catalogue()
    titles = [entry.title for entry in found.values()]
    assert len(titles) == len(set(titles))
    weak = [
        f"{code}: {entry}"
        for code, entry in found.items()
        if not re.fullmatch(r".{1,100}", entry.title)
        or len(re.findall(r"[.;:](?:\s|$)", entry.text)) < 2
    ]
    assert not weak, "\n".join(weak)


def test_default_codes_lie_in_the_range_of_their_kind() -> None:
    """E1xx is usage, E2xx model and data, and so on, as the catalogue's docstring says."""
    first = {code.default_code[1] for code in ERROR_KINDS.values()}
    assert first == set("012345679")
    for kind in ERROR_KINDS.values():
        assert CODE.fullmatch(kind.default_code), kind
