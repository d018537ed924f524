"""Licences: what is understood, what is denied, what has to have a text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from license_expression import get_spdx_licensing

from edgedeploy.errors import ProfileError, RefusedError
from edgedeploy.release.bundle import Licence
from edgedeploy.release.licences import licence_of, licences, refuse_denied, text_path

SPDX = get_spdx_licensing()
IDS = ("MIT", "Apache-2.0", "GPL-3.0-only", "BSD-3-Clause")


@pytest.mark.parametrize(
    ("said", "means"),
    [
        ("Apache-2.0", "Apache-2.0"),
        ("apache-2.0 or mit", "Apache-2.0 OR MIT"),
        (
            "GPL-2.0-only WITH Classpath-exception-2.0",
            "GPL-2.0-only WITH Classpath-exception-2.0",
        ),
        ("LicenseRef-Ours", "LicenseRef-Ours"),
    ],
)
def test_expressions_get_their_canonical_form(said: str, means: str) -> None:
    assert licence_of("model main", said) == means


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (None, "E756"),
        ("", "E756"),
        ("free", "E757"),
        ("MIT Apache-2.0", "E757"),
        ("MIT OR", "E757"),
    ],
)
def test_what_is_missing_or_not_understood_is_refused(said: str | None, code: str) -> None:
    with pytest.raises(ProfileError) as error:
        licence_of("model main", said)
    assert error.value.diagnostics[0].code == code
    assert "model main" in error.value.diagnostics[0].message


def test_a_licence_of_ones_own_needs_its_text() -> None:
    with pytest.raises(ProfileError, match="LicenseRef-Ours"):
        licences({"files": "LicenseRef-Ours"}, {})
    name, path = text_path("legal/LicenseRef-Ours.txt")
    assert licences({"files": "LicenseRef-Ours"}, {name: path}) == (
        Licence(part="files", spdx="LicenseRef-Ours", file="LICENSES/LicenseRef-Ours.txt"),
    )


def test_a_text_that_nobody_needs_is_refused() -> None:
    with pytest.raises(ProfileError, match="no part needs it"):
        licences({"files": "MIT"}, {"Apache-2.0": "LICENSES/Apache-2.0.txt"})


def expressions() -> st.SearchStrategy[str]:
    """Return expressions of a few ids, in any nesting."""
    return st.recursive(
        st.sampled_from(IDS),
        lambda inner: st.builds(
            lambda sign, parts: "(" + f" {sign} ".join(parts) + ")",
            st.sampled_from(["AND", "OR"]),
            st.lists(inner, min_size=2, max_size=3),
        ),
        max_leaves=8,
    )


@given(expressions(), st.sets(st.sampled_from(IDS)))
def test_denied_is_what_no_choice_of_licences_avoids(expression: str, deny: set[str]) -> None:
    """The truth table of the expression, by another parser, over the licences that are allowed."""
    spdx = licence_of("model main", expression)
    parsed = SPDX.parse(expression)
    allowed = {name: name not in deny for name in IDS}
    usable = truth(parsed, allowed)
    licence = Licence(part="model main", spdx=spdx, file=None)
    if usable:
        refuse_denied([licence], deny)
    else:
        with pytest.raises(RefusedError) as error:
            refuse_denied([licence], deny)
        assert error.value.diagnostics[0].code == "E758"
        assert any(name in error.value.diagnostics[0].message for name in deny)


def truth(parsed: object, allowed: dict[str, bool]) -> bool:
    """Return whether an expression holds where licences are true or false."""
    name = type(parsed).__name__
    if name in ("AND", "OR"):
        parts = [truth(part, allowed) for part in parsed.args]  # type: ignore[attr-defined]
        return all(parts) if name == "AND" else any(parts)
    return allowed[str(parsed)]


@pytest.mark.parametrize(
    ("spdx", "deny"),
    [
        ("gpl-2.0+", ["GPL-2.0"]),
        ("GPL-2.0", ["GPL-2.0-only"]),
        ("GPL-2.0-or-later", ["GPL-2.0-only"]),
        ("GPL-2.0-only WITH Classpath-exception-2.0", ["gpl-2.0-ONLY"]),
    ],
)
def test_later_versions_and_exceptions_do_not_hide_a_licence(spdx: str, deny: list[str]) -> None:
    licence = Licence(part="files", spdx=licence_of("files", spdx), file=None)
    with pytest.raises(RefusedError):
        refuse_denied([licence], deny)


@pytest.mark.parametrize("deny", ["GPL", "MIT OR ISC", ""])
def test_denying_what_is_no_licence_denies_nothing_and_is_refused(deny: str) -> None:
    with pytest.raises(ProfileError) as error:
        refuse_denied([], [deny])
    assert error.value.diagnostics[0].code == "E757"
