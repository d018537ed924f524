"""Quantities with units."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedeploy.config.units import (
    SIZES_BYTES,
    UnitError,
    delta,
    duration_ms,
    energy_j,
    frequency_hz,
    ratio,
    size_bytes,
)


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (duration_ms, "20 ms", 20.0),
        (energy_j, "5 mJ", 0.005),
        (energy_j, "1.5J", 1.5),
        (duration_ms, "10 s", 10_000.0),
        (duration_ms, "1.5min", 90_000.0),
        (duration_ms, "250 us", 0.25),
        (size_bytes, "4 MB", 4_000_000),
        (size_bytes, "4 MiB", 4_194_304),
        (size_bytes, "0.5 KiB", 512),
        (size_bytes, "1.1 GB", 1_100_000_000),
        (size_bytes, "7B", 7),
        (frequency_hz, "2.4 GHz", 2_400_000_000),
        (ratio, "30 %", 0.3),
        (ratio, "100%", 1.0),
        (delta, "-1 pt", (-1.0, "pt")),
        (delta, "+0.3 %", (0.3, "%")),
        (delta, "-0.01 abs", (-0.01, "abs")),
    ],
)
def test_known_values(parse, text, value):
    assert parse(text) == value


@pytest.mark.parametrize(
    ("parse", "text", "hint"),
    [
        (size_bytes, 4, "4 MB"),
        (size_bytes, "4", "4 MB"),
        (size_bytes, "4 mb", "did you mean `4 MB`?"),
        (size_bytes, "4 Mib", "did you mean `4 MiB`?"),
        (size_bytes, "-4 MB", "4 MB"),
        (size_bytes, "0.3 B", "decimals"),
        (size_bytes, "4 MB 5", "4 MB"),
        (size_bytes, None, "4 MB"),
        (size_bytes, True, "4 MB"),
        (size_bytes, ["4 MB"], "4 MB"),
        (size_bytes, "1" * 10_000 + " MB", "4 MB"),
        (duration_ms, "20 sec", "20 ms"),
        (duration_ms, "٣ ms", "20 ms"),
        (ratio, "101 %", "100 %"),
        (delta, "1 pt", "-1 pt"),
        (delta, "-1", "-1 pt"),
        (delta, -1, "-1 pt"),
        (delta, "-1 ms", "-1 pt"),
    ],
)
def test_refusals_say_the_way_out(parse, text, hint):
    with pytest.raises(UnitError) as caught:
        parse(text)
    assert hint in caught.value.hint
    assert len(str(caught.value)) < 120


@given(
    st.decimals(min_value=0, max_value=10**6, places=6, allow_nan=False, allow_infinity=False),
    st.sampled_from(sorted(SIZES_BYTES)),
)
def test_sizes_are_exact_or_refused(number, unit):
    exact = Fraction(number) * SIZES_BYTES[unit]
    text = f"{number:f} {unit}"
    if exact.denominator == 1:
        assert size_bytes(text) == exact
    else:
        with pytest.raises(UnitError):
            size_bytes(text)
