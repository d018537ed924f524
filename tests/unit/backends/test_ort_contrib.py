"""Fused operators that an older runtime lacks are found before a device finds them."""

from __future__ import annotations

import pytest

from edgedeploy.backends.ortmobile.contrib import check_fused
from edgedeploy.backends.ortmobile.kernels import KernelRegistry
from edgedeploy.errors import BuildError


def test_a_new_fused_operator_is_refused_unless_it_was_given():
    kernels = {"ai.onnx:Conv": 3, "com.microsoft:FusedConv": 2, "com.microsoft:GatedRMSNorm": 1}
    with pytest.raises(BuildError) as caught:
        check_fused(kernels, ["ai.onnx:Conv"], "1.17")
    found = caught.value.diagnostics[0]
    assert (found.code, found.subject) == ("E304", "com.microsoft:GatedRMSNorm")
    check_fused(kernels, ["com.microsoft:GatedRMSNorm"], "1.17")


def test_the_known_operators_still_exist():
    from edgedeploy.backends.ortmobile import contrib

    registry = KernelRegistry()
    gone = [name for name in contrib._KNOWN if not registry.kernels(name, 1)]
    assert gone == []
