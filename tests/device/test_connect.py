"""Commands on a real OpenSSH server, through the connection that devices get."""

import pytest
from sshd import Sshd

from edgedeploy.devices.connect import connect


@pytest.fixture
def remote(sshd: Sshd):
    with_it = connect(sshd.device())
    yield with_it
    with_it.close()


def test_a_command_runs_with_input_output_and_status(remote) -> None:
    done = remote.run("cat; echo there >&2; exit 3", stdin=b"hello")
    assert (done.status, done.stdout, done.stderr) == (3, b"hello", b"there\n")
