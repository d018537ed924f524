"""Plain scalars, against the tables of YAML 1.2 section 10.3 and what stock PyYAML reads."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from edgedeploy.config.scalars import NumberError, resolve

# text, YAML 1.2 core value, what PyYAML's 1.1 resolver makes of it (None: the same)
TRAPS = [
    ("1e-3", 0.001, "1e-3"),
    ("on", "on", True),
    ("yes", "yes", True),
    ("Off", "Off", False),
    ("22:22", "22:22", 1342),
    ("010", 10, 8),
    ("0o14", 12, "0o14"),
    ("1_000", "1_000", 1000),
    ("0b11", "0b11", 3),
    ("2026-11-24", "2026-11-24", None),
]


@pytest.mark.parametrize(("text", "value", "stock"), TRAPS)
def test_traps(text, value, stock):
    found = resolve(text)
    assert found == value
    assert type(found) is type(value)
    if stock is not None:
        assert yaml.safe_load(text) == stock != found or isinstance(stock, str)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("~", None),
        ("null", None),
        ("nULL", "nULL"),
        ("true", True),
        ("FALSE", False),
        ("tRUE", "tRUE"),
        ("0x3A", 58),
        ("-19", -19),
        ("+3", 3),
        ("0.", 0.0),
        ("-0.0", 0.0),
        (".5", 0.5),
        ("+12e03", 12000.0),
        ("-2E+05", -200000.0),
        (".", "."),
        ("-", "-"),
        ("1.2.3", "1.2.3"),
        ("1..64", "1..64"),
        ("+.inf.", "+.inf."),
        ("0x", "0x"),
        ("٣", "٣"),
    ],
)
def test_core_schema(text, value):
    found = resolve(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("text", [".nan", ".NaN", "-.inf", "+.INF", "1e999", "1" * 65])
def test_what_cannot_be_held(text):
    with pytest.raises(NumberError):
        resolve(text)


@given(st.integers(-(10**60), 10**60))
def test_integers_read_back(value):
    assert resolve(str(value)) == value


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_read_back(value):
    found = resolve(repr(value))
    assert found == value
    assert isinstance(found, float)
