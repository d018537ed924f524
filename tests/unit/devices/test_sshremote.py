"""The line that reaches the device: one shell command, whatever it holds."""

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedeploy.devices.sshremote import COMMAND_BYTES, wrapped


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=60))
def test_text_survives_the_way_through_two_shells(text: str) -> None:
    from shlex import quote

    line = wrapped(f"printf %s {quote(text)}", "0123")
    done = subprocess.run(["sh", "-c", line], capture_output=True, check=True)
    assert done.stdout == b"0123\n" + text.encode() and done.stderr == b"0123\n"


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=200))
def test_no_login_shell_finds_anything_to_expand(command: str) -> None:
    """Inside single quotes csh still reads `!` and line ends, fish still reads backslashes."""
    line = wrapped(command, "0123")
    inner = line.removeprefix("exec sh -c '").removesuffix("'")
    assert "'" not in inner and "!" not in inner and "\n" not in inner and "\\\\" not in inner
    assert line.isascii() and line.isprintable()


def test_the_length_is_bounded_with_its_quoting() -> None:
    assert len(wrapped("x" * (COMMAND_BYTES - 200), "0" * 24)) <= COMMAND_BYTES
    for command in ("x" * COMMAND_BYTES, "!" * 2000, "a\0b"):
        with pytest.raises(ValueError):
            wrapped(command, "0" * 24)
