"""All of coremltools' own operation tests against the MIL interpreter (an hour)."""

from tests.coreml.apple_tests import harvest


def test_all_of_apples_operation_tests_agree():
    found = harvest()
    print(f"{found.compared} agree, {found.silent} compare nothing, skipped: {found.skipped}")
    assert not found.failed
    assert not found.differing
    assert found.compared > 10_000
