"""Connections to a device behind other hosts."""

import shutil
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from edgedeploy.devices.connect import connect
from tests.device.refusing import refused
from tests.lab.sshd import free_port, running


def test_jump_hosts_are_passed_in_order(tmp_path: Path) -> None:
    with ExitStack() as stack:
        first, second, last = (
            stack.enter_context(running(tmp_path / name, lines=["LogLevel DEBUG1"]))
            for name in ("first", "second", "last")
        )
        last.known_hosts.write_text(
            "".join(server.known_hosts.read_text() for server in (first, second, last))
        )
        for server in (first, second):
            shutil.copy(last.folder / "authorized_keys", server.folder / "authorized_keys")
        chain = f"127.0.0.1:{first.port},127.0.0.1:{second.port}"
        remote = connect(last.device(jump=chain))
        assert remote.run("echo $HOME").stdout.decode().strip() == str(last.home)
        assert remote.run("cat", stdin=bytes(5 << 20)).stdout == bytes(5 << 20)
        remote.close()
        assert "direct-tcpip" in first.log() and "direct-tcpip" in second.log()

        # By the configuration: `last` through `second`, and `second` through `first`.
        last.client.write_text(
            f"Host second\n HostName 127.0.0.1\n Port {second.port}\n ProxyJump first\n"
            f"Host first\n HostName 127.0.0.1\n Port {first.port}\n"
            f"Host 127.0.0.1\n ProxyJump second\n" + last.client.read_text()
        )
        remote = connect(last.device())
        assert remote.run("echo $HOME").stdout.decode().strip() == str(last.home)
        remote.close()

        last.known_hosts.write_text(first.known_hosts.read_text() + last.known_hosts.read_text())
        (second.folder / "authorized_keys").write_text("")
        assert "127.0.0.1 lets" in str(refused(last.device(), "E412"))


def test_a_jump_host_that_does_not_reach_the_device(tmp_path: Path) -> None:
    with running(tmp_path / "jump") as jump:
        jump.known_hosts.write_text(jump.known_hosts.read_text())
        gone = replace(jump.device(port=free_port()), jump=f"127.0.0.1:{jump.port}")
        error = refused(gone, "E401")
        assert error.retryable and "jump host 127.0.0.1 does not reach" in str(error)
