# Runs on devices: Python 3.6, standard library alone; verify_file.py beside it.
# ruff: noqa: B904, T201, UP006, UP031, UP035, UP045
"""Checks a release by a trust file: ``python3 trust_file.py BUNDLE --trust trust.json``.

Makes the check of ``verify_file.py``, which lies beside this file, with the keys that a trust file
of ``edgedeploy keys`` believes. A release for which revoked keys alone vouch is refused (E746).
Exit status: 0 right, 5 verify_file.py is missing here, 6 the disk refuses, 7 the trust file or the
release is refused.

The statements in the file are not verified again: ``edgedeploy keys`` did when it took them, and
whoever may write the file could believe any key. It is refused when others than its owner may.
"""

import argparse
import importlib
import json
import os
import re
import stat
import sys
from typing import Any, Dict, List, Optional, Tuple

SCHEMA = 1
MOST_BYTES = 4 << 20

_HEX = re.compile(r"[0-9a-f]{64}\Z")
# Without waiting for a pipe's writer.
_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)
_Revoked = Tuple[bytes, str]  # the key, and why


class MissingPartError(Exception):
    """The program that makes the check is not beside this one."""


class TrustError(Exception):
    """Why a trust file, or a release under it, is refused.

    Attributes:
        code: As ``edgedeploy check --explain CODE`` explains it.
    """

    def __init__(self, code: str, why: str) -> None:
        super().__init__(why)
        self.code = code


def read_trust(path: str) -> Tuple[List[bytes], List[_Revoked]]:
    """Return the 32 public bytes of the keys that are believed, and of those that are no more.

    Raises:
        TrustError: The file is damaged, or others may write it (E743).
        OSError: It cannot be read.
        MissingPartError: verify_file.py is not there.
    """
    with open(os.open(path, _READ), "rb") as file:
        about = os.fstat(file.fileno())
        ours = about.st_uid in (0, os.geteuid()) and not about.st_mode & 0o022
        if not stat.S_ISREG(about.st_mode) or not ours:
            raise TrustError("E743", "%.160r is no file that we alone may write" % path)
        content = file.read(MOST_BYTES + 1)
    try:
        return _keys(content)
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
        raise TrustError("E743", "%.160r is damaged, or of another schema" % path)


def _keys(content: bytes) -> Tuple[List[bytes], List[_Revoked]]:
    data = json.loads(content.decode())
    text = json.dumps(
        {"keys": data["keys"], "schema": SCHEMA, "statements": data["statements"]},
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
    )
    # Also refuses what a JSON reader lets pass: repeated keys, other white space.
    if text.encode() != content or not isinstance(data["keys"], list):
        raise ValueError
    is_weak = _checker().is_weak
    believed: List[bytes] = []
    revoked: List[_Revoked] = []
    for item in data["keys"]:
        if sorted(item) != ["by", "name", "public", "revoked"] or not _HEX.match(item["public"]):
            raise ValueError
        public, why = bytes.fromhex(item["public"]), item["revoked"]
        if is_weak(public) or not (why is None or isinstance(why, str)):
            raise ValueError
        if why is None:
            believed.append(public)
        else:
            revoked.append((public, why))
    return believed, revoked


def verify(
    path: str, trust: str, state: Optional[str] = None, allow_downgrade: bool = False
) -> Dict[str, Any]:
    """Check a bundle, or a folder that one was extracted into, by a trust file.

    Args:
        path: The bundle or folder.
        trust: The trust file.
        state: As ``verify_file.verify`` takes it.
        allow_downgrade: The same.

    Returns:
        What ``verify_file.verify`` returns.

    Raises:
        TrustError: The trust file cannot be believed (E743), or revoked keys alone vouch for the
            release (E746).
        verify_file.VerifyError: As ``verify_file.verify`` raises it.
        OSError: A file cannot be read.
        MissingPartError: verify_file.py is not there.
    """
    checker = _checker()
    believed, revoked = read_trust(trust)
    try:
        found: Dict[str, Any] = checker.verify(path, believed, state, allow_downgrade)
    except checker.VerifyError as error:
        if error.code == "E736":
            _refuse_revoked(checker, path, revoked)
        raise
    return found


def _refuse_revoked(checker: Any, path: str, revoked: List[_Revoked]) -> None:
    """Say so when the release is right but for its key, which was revoked."""
    for public, why in revoked:
        try:
            checker.verify(path, [public])
        except checker.VerifyError:
            continue
        name = checker.key_id(public)[:16]
        raise TrustError("E746", "%s signed it, and was revoked: %.200s" % (name, why))


def _checker() -> Any:
    try:
        return importlib.import_module("verify_file")
    except ImportError:
        raise MissingPartError("verify_file.py is not beside this file")


def main(arguments: Optional[List[str]] = None) -> int:
    """Check what the command line names, say so in one line, and return the exit status."""
    parser = argparse.ArgumentParser(description="Check a signed release by a trust file.")
    parser.add_argument("bundle", help="bundle (.edpkg), or folder that one was extracted into")
    parser.add_argument("--trust", required=True, help="trust file of `edgedeploy keys`")
    parser.add_argument("--state", help="file that remembers the newest release of every name")
    parser.add_argument("--allow-downgrade", action="store_true", help="take an older one")
    given = parser.parse_args(arguments)
    refusals: Any = TrustError
    try:
        refusals = (TrustError, _checker().VerifyError)
        found = verify(given.bundle, given.trust, given.state, given.allow_downgrade)
    except MissingPartError as error:
        print("not possible here: %s" % error, file=sys.stderr)
        return 5
    except OSError as error:
        print("E602: %s" % error, file=sys.stderr)
        return 6
    except refusals as error:
        print("%s: %s" % (error.code, ascii(str(error))[1:-1]), file=sys.stderr)
        return 6 if error.code == "E741" else 7
    release = found["release"]
    print("%s %s, counter %d" % (release["name"], release["version"], release["counter"]))
    print("sha256 %s, signed by %s" % (found["digest"], ", ".join(found["signers"])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
