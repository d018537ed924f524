"""E700-E799: content that does not match its digest or signature."""

from __future__ import annotations

from edgedeploy.errors.codes import Explanation

CODES: dict[str, Explanation] = {
    "E700": Explanation(
        "Content does not match its digest",
        "A file is not what its digest or signature says, so it was changed or damaged. It is not "
        "used. Get it again from where it came from.",
    ),
    "E701": Explanation(
        "The store loses what is written to it",
        "A damaged result is made again on its own, but this one was damaged or gone again at "
        "once, several times. The disk or its memory is failing, or another program changes the "
        "store. Check the disk, or set EDGEDEPLOY_STORE to a folder on another one.",
    ),
    "E702": Explanation(
        "An artifact is not the locked one",
        "Under --locked every artifact must have the digest that stands in edgedeploy.lock, and "
        "this one came out otherwise although its inputs are the same. A tool or the machine made "
        "another result; please report it with both digests. Build without --locked to write a "
        "new lock.",
    ),
}
