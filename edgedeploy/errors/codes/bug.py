"""E900: bugs of edgedeploy itself."""

from __future__ import annotations

from edgedeploy.errors.codes import Explanation

CODES: dict[str, Explanation] = {
    "E900": Explanation(
        "A bug of edgedeploy",
        "Something happened that edgedeploy does not foresee; it is not your fault. Run the "
        "command again with --debug and report what it prints. The store is unharmed, and "
        "the other targets can still be built by naming them with --target.",
    ),
}
