"""A sample of coremltools' own operation tests, and the page that tells what all of them gave."""

import re

import pytest

from edgedeploy.mil.registry import entries
from tests.coreml.apple_tests import harvest
from tests.coreml.mil_table import PAGE, torch_probes


def rows():
    """Return the counts in the page by operation: Apple's tests, torch, constants."""
    found = re.findall(
        r"^\| `(\w+)` \| (\d*) \| (\d*) \| (\d*) \|$", PAGE.read_text(), re.MULTILINE
    )
    return {name: tuple(int(count or 0) for count in counts) for name, *counts in found}


@pytest.mark.slow
def test_a_sample_of_apples_tests_agrees():
    found = harvest(sample=True)
    assert not found.failed
    assert not found.differing
    assert found.compared >= 75
    # The page was made from more than this, so it knows a probe of everything that this has.
    assert set(found.probes) <= {name for name, counts in rows().items() if counts[0]}


def test_the_page_lists_the_operations_that_there_are():
    assert sorted(rows()) == sorted(entries())


def test_the_page_counts_the_torch_probes_that_there_are():
    told = {name: counts[1] for name, counts in rows().items() if counts[1]}
    assert told == dict(torch_probes())


def test_the_page_names_what_no_oracle_has_seen():
    (line,) = re.findall(
        r"^\d+ operations; without any probe: (.*)\.$", PAGE.read_text(), re.MULTILINE
    )
    bare = {name for name, counts in rows().items() if not any(counts)}
    assert set(re.findall(r"`(\w+)`", line)) == bare
