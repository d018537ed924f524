"""Connections to devices: the one file that knows the SSH library (paramiko, imported when used).

Its defaults wait for ever on a cut link, take unknown algorithms before known keys and never look
at ``known_hosts``; what is set here instead was measured, see docs/devices.md.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgedeploy.devices.hostkeys import KnownHosts
from edgedeploy.devices.identities import Identity, identity
from edgedeploy.devices.inventory import Device
from edgedeploy.devices.link import PATIENCE, Patience, Wire, dial, failure, one_line
from edgedeploy.devices.sshconfig import SshOptions, options_for
from edgedeploy.devices.sshremote import SshRemote
from edgedeploy.errors import DeviceError
from edgedeploy.remote import Remote

Ask = Callable[[str], str | None]
"""Shows a prompt and returns the passphrase that was typed, None when there is nobody to ask."""

PASSPHRASE_TRIES = 3

# A packet holds 32 KiB at most in OpenSSH; the window is what a distant device may have under way.
_WINDOW_BYTES = 8 << 20
_PACKET_BYTES = 1 << 15

# Best first: a cipher that authenticates as well is cheaper than one with a code beside it, and
# AES has instructions on nearly every CPU of this decade.
_CIPHERS = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "aes128-ctr",
    "aes192-ctr",
    "aes256-ctr",
)
_MACS = (
    "hmac-sha2-256-etm@openssh.com",
    "hmac-sha2-512-etm@openssh.com",
    "hmac-sha2-256",
    "hmac-sha2-512",
)
_OFFERED = {
    "kex": "kex_algo_list",
    "host_keys": "server_key_algo_list",
    "ciphers": "server_encrypt_algo_list",
    "macs": "server_mac_algo_list",
}


def connect(
    device: Device,
    *,
    accept_new: bool = False,
    ask: Ask | None = None,
    patience: Patience = PATIENCE,
) -> Remote:
    """Return a connection to a device.

    Args:
        device: From the inventory.
        accept_new: Trust the host key of a machine that is not known yet, and keep it.
        ask: Asks for passphrases; None never asks.
        patience: How long each part may take.

    Raises:
        DeviceError: The device is not reached (E401, E402), is no SSH server (E408), is not known
            or another one (E409-E411), lets nobody in (E412), shares no algorithm (E413), or the
            ssh configuration or its files are at fault (E414, E415).
    """
    if device.kind == "local":
        from edgedeploy.devices.local import LocalRemote

        return LocalRemote(device.name)
    if device.kind == "fake":
        from edgedeploy.devices.fake import FakeRemote

        return FakeRemote(device)
    options = options_for(device)
    session = _Session(device.name, accept_new=accept_new, ask=ask, patience=patience)
    try:
        for hop in (*options.jumps, options):
            session.reach(hop)
    except BaseException:
        session.close()
        raise
    return SshRemote(
        device.name,
        start=session.start,
        alive=session.is_alive,
        lost=session.lost,
        end=session.close,
    )


class _Session:
    """The SSH connections that lead to one device: to each jump host, then to the device."""

    def __init__(self, name: str, *, accept_new: bool, ask: Ask | None, patience: Patience) -> None:
        import paramiko

        # Its records are for who asks for them; without this they land on stderr, with traces.
        logging.getLogger("paramiko").addHandler(logging.NullHandler())
        self._paramiko = paramiko
        self._name = name
        self._accept_new = accept_new
        self._ask = ask
        self._patience = patience
        self._hops: list[tuple[SshOptions, Any, Wire]] = []

    def reach(self, options: SshOptions) -> None:
        """Connect to the next machine on the way, from the last one or from here."""
        wire = Wire(self._tunnel(options) if self._hops else self._dial(options), self._patience)
        try:
            known = KnownHosts(
                options.known_hosts, options.system_known_hosts, hash_names=options.hash_names
            )
            transport = self._transport(options, wire, known)
        except DeviceError:
            wire.close()
            raise
        self._hops.append((options, transport, wire))
        self._greet(options, transport, wire)
        key = transport.get_remote_server_key()
        known.check(
            options.key_name,
            options.host,
            key.get_name(),
            key.asbytes(),
            accept_new=self._accept_new or options.accept_new,
        )
        _Login(self._paramiko, transport, options, self._ask).run()
        wire.watch(lambda: _ask_for_life(self._paramiko, transport))

    def start(self, line: str) -> Any:
        """Start a command line in a channel of its own; return the channel."""
        options, transport, _ = self._hops[-1]
        if not transport.is_active():
            raise self.lost()
        paramiko = self._paramiko
        # Longer than a link may be silent: what is lost shall be called lost.
        limit_s = self._patience.lost_s + 1
        try:
            channel = transport.open_session(timeout=limit_s)
            for variable, value in options.environment:
                channel.set_environment_variable(variable, value)
            request = paramiko.Message()
            request.add_byte(bytes([paramiko.common.MSG_CHANNEL_REQUEST]))
            request.add_int(channel.remote_chanid)
            request.add_string("exec")
            # No answer is asked for: the library would wait for it without limit, and the output
            # that begins with our marker says the same, a round trip earlier.
            request.add_boolean(False)
            request.add_string(line)
            transport._send_user_message(request)
        except paramiko.ChannelException as error:
            raise failure(
                f"{self._name} opens no further session: {one_line(error.text)}",
                "E406",
                "close other connections to it, or see MaxSessions in its sshd_config",
                retryable=True,
            ) from error
        except (paramiko.SSHException, EOFError, OSError) as error:
            if transport.is_active():
                raise failure(
                    f"{self._name} opens no further session within {limit_s:g} s",
                    "E406",
                    "see whether the device is overloaded, and try again",
                    retryable=True,
                ) from error
            raise self.lost() from error
        return channel

    def is_alive(self) -> bool:
        """Whether the connection to the device stands."""
        return bool(self._hops[-1][1].is_active())

    def lost(self) -> DeviceError:
        """Return the error of a connection that is lost."""
        silent = next((hop for hop in self._hops if hop[2].fell_silent), None)
        if silent is not None:
            why = f"{silent[0].host} has not been heard of for {self._patience.lost_s:g} s"
        else:
            why = "the other side closed it, or the network did"
        error = failure(
            f"the connection to {self._name} is lost: {why}",
            "E403",
            "run the same command again when the device is back; what arrived there is kept",
            retryable=True,
        )
        error.silent_s = 0.0 if silent is None else self._patience.lost_s
        return error

    def close(self) -> None:
        """Disconnect, the device first; allowed twice, never raises."""
        for _, transport, wire in reversed(self._hops):
            transport.close()
            # Ends a timer of the library that would keep the process alive.
            transport.packetizer.complete_handshake()
            wire.close()

    def _dial(self, options: SshOptions) -> socket.socket:
        family = {"inet": socket.AF_INET, "inet6": socket.AF_INET6}.get(
            options.family, socket.AF_UNSPEC
        )
        patience = replace(self._patience, dial_s=options.connect_s or self._patience.dial_s)
        return dial(options.host, options.port, patience, family=family, source=options.source)

    def _tunnel(self, options: SshOptions) -> Any:
        """Return a channel from the last machine to the next one's SSH server."""
        before, transport, _ = self._hops[-1]
        try:
            return transport.open_channel(
                "direct-tcpip",
                (options.host, options.port),
                ("127.0.0.1", 0),
                window_size=_WINDOW_BYTES,
                max_packet_size=_PACKET_BYTES,
                timeout=options.connect_s or self._patience.dial_s,
            )
        except (self._paramiko.SSHException, EOFError, OSError) as error:
            why = one_line(error) or "it says nothing"
            raise failure(
                f"the jump host {before.host} does not reach {options.host} port {options.port}: "
                f"{why}",
                "E401",
                "see whether the device is on and reachable from there, and the jump host allows "
                "forwarding (AllowTcpForwarding)",
                retryable=True,
            ) from error

    def _transport(self, options: SshOptions, wire: Wire, known: KnownHosts) -> Any:
        allowed = options.algorithms.get("public_keys")
        keys = self._paramiko.Transport._preferred_pubkeys
        transport = self._paramiko.Transport(
            wire,
            default_window_size=_WINDOW_BYTES,
            default_max_packet_size=_PACKET_BYTES,
            disabled_algorithms={"pubkeys": [n for n in keys if allowed and n not in allowed]},
        )
        transport.daemon = True
        transport.banner_timeout = transport.handshake_timeout = self._patience.greet_s
        transport.clear_to_send_timeout = self._patience.greet_s
        transport.auth_timeout = self._patience.auth_s
        security = transport.get_security_options()
        kinds = known.kinds(options.key_name, options.host)
        wanted = {
            "ciphers": _CIPHERS,
            "macs": _MACS,
            "kex": security.kex,
            "host_keys": _known_first(security.key_types, kinds),
        }
        for what, ours in wanted.items():
            asked = options.algorithms.get(what)
            chosen = ours if asked is None else tuple(name for name in asked if name in ours)
            if not chosen:
                raise failure(
                    f"the ssh configuration of {options.host} allows only {', '.join(asked or ())} "
                    f"as {what}, and edgedeploy has none of these",
                    "E414",
                    f"allow one of {', '.join(ours)}",
                    retryable=False,
                )
            wanted[what] = chosen
        security.ciphers, security.digests = wanted["ciphers"], wanted["macs"]
        security.kex, security.key_types = wanted["kex"], wanted["host_keys"]
        return transport

    def _greet(self, options: SshOptions, transport: Any, wire: Wire) -> None:
        """Exchange greetings and keys."""
        where = f"{options.host} port {options.port}"
        paramiko = self._paramiko
        offered: dict[str, list[str]] = {}
        read_offer = transport._really_parse_kex_init

        def keep_offer(message: Any, **options: bool) -> Any:
            found = read_offer(message, **options)
            offered.update(found)
            return found

        transport._really_parse_kex_init = keep_offer
        try:
            transport.start_client(timeout=self._patience.greet_s)
            if transport.initial_kex_done:
                return
            why = f"nothing within {self._patience.greet_s:g} s"
        except paramiko.ssh_exception.IncompatiblePeer as error:
            raise _nothing_in_common(where, transport, offered, str(error)) from error
        except (paramiko.SSHException, EOFError, OSError) as error:
            why = one_line(error) or "the connection was closed"
        if not transport.remote_version:
            said = one_line(wire.beginning.partition(b"\n")[0], 80)
            raise failure(
                f"{where} takes the connection and does not answer as an SSH server: "
                + (f"it says `{said}`" if said else why),
                "E408",
                "see whether another program listens on this port, or the device is still starting",
                retryable=True,
            )
        raise failure(
            f"{where} breaks off the exchange of keys: {why}",
            "E408",
            "see the log of its SSH server; it may have too many connections (MaxStartups)",
            retryable=True,
        )


class _Login:
    """Logging in with the keys of the user, and with nothing else."""

    def __init__(self, paramiko: Any, transport: Any, options: SshOptions, ask: Ask | None) -> None:
        self._paramiko = paramiko
        self._transport = transport
        self._options = options
        self._ask = ask
        self._tried: list[str] = []
        self._takes: tuple[str, ...] = ()

    def run(self) -> None:
        """Log in.

        Raises:
            DeviceError: Every key was refused, or there is none (E412).
        """
        if self._let_in_at_once():
            return
        if "publickey" not in self._takes:
            raise self._refused("edgedeploy logs in with keys alone")
        identities = [
            found for file in self._options.identities if (found := identity(file)) is not None
        ]
        if self._options.chosen:
            there = {one.file for one in identities}
            gone = [file for file in self._options.identities if file not in there]
            self._tried.extend(f"{file}: not there" for file in gone)
        with contextlib.closing(self._agent()) as agent:
            if self._with_ready_keys(agent.get_keys(), identities):
                return
        if not any(self._with_passphrase(file) for file in self._locked):
            raise self._refused("no key was accepted")

    def _with_ready_keys(self, held: tuple[Any, ...], identities: list[Identity]) -> bool:
        """Try, as ssh does, keys that need no passphrase; remember the files of those that do."""
        by_blob = {key.asbytes(): key for key in held}
        named = [by_blob[one.public] for one in identities if one.public in by_blob]
        others = [] if self._options.identities_only else [key for key in held if key not in named]
        self._locked: list[Path] = []
        files = [one for one in identities if one.private and one.public not in by_blob]
        for one in identities:
            if one.fault is not None:
                self._tried.append(f"{one.file}: {one.fault}")
        usable = [one.file for one in files if one.fault is None]
        # An agent may hold more keys than a server lets one try (MaxAuthTries): chosen ones first.
        return (
            any(self._with_agent(key) for key in named)
            or (self._options.chosen and any(self._with_file(file) for file in usable))
            or any(self._with_agent(key) for key in others)
            or (not self._options.chosen and any(self._with_file(file) for file in usable))
        )

    def _let_in_at_once(self) -> bool:
        """Ask what the server takes; a server may need no key at all."""
        try:
            self._transport.auth_none(self._options.user)
        except self._paramiko.BadAuthenticationType as error:
            self._takes = tuple(one_line(kind, 60) for kind in error.allowed_types[:10])
        except (self._paramiko.SSHException, EOFError, OSError) as error:
            raise self._broken_off(error) from error
        return bool(self._transport.is_authenticated())

    def _agent(self) -> Any:
        """Return the keys of ssh-agent; none where it is not there."""
        agent = self._paramiko.agent.AgentSSH()
        agent.close = agent._close
        path = _agent_socket(self._options.agent)
        if path is None:
            self._tried.append("ssh-agent: not there")
            return agent
        line = socket.socket(socket.AF_UNIX)
        try:
            line.settimeout(self._transport.auth_timeout)
            line.connect(path)
            agent._connect(line)
        except (OSError, self._paramiko.SSHException) as error:
            line.close()
            self._tried.append(f"ssh-agent: {getattr(error, 'strerror', None) or error}")
        else:
            if not agent.get_keys():
                self._tried.append("ssh-agent: holds no key")
        return agent

    def _with_agent(self, key: Any) -> bool:
        return self._with(key, f"key of ssh-agent {one_line(key.comment, 60)}")

    def _with_file(self, file: Path) -> bool:
        try:
            key = self._load(file, None)
        except TypeError:  # what the cryptography package says of an encrypted key
            self._locked.append(file)
            return False
        return key is not None and self._with(key, str(file))

    def _with_passphrase(self, file: Path) -> bool:
        for _ in range(PASSPHRASE_TRIES):
            typed = self._ask(f"passphrase for {file}: ") if self._ask is not None else None
            if typed is None:
                self._tried.append(f"{file}: needs a passphrase, and there is nobody to ask")
                return False
            key = self._load(file, typed)
            if key is not None:
                return self._with(key, str(file))
        return False

    def _load(self, file: Path, passphrase: str | None) -> Any:
        """Return the private key of a file, None where that is impossible.

        Raises:
            TypeError: It needs a passphrase.
        """
        from cryptography.exceptions import UnsupportedAlgorithm
        from paramiko.pkey import UnknownKeyType

        unusable = (ValueError, OSError, UnsupportedAlgorithm, UnknownKeyType)
        try:
            secret = None if passphrase is None else passphrase.encode()
            return self._paramiko.PKey.from_path(file, secret)
        except (*unusable, self._paramiko.SSHException):
            wrong = "cannot be read" if passphrase is None else "the passphrase does not fit"
            self._tried.append(f"{file}: {wrong}")
            return None

    def _with(self, key: Any, shown: str) -> bool:
        """Try one key; with its certificate first, where it has one."""
        if not self._signs(key):
            self._tried.append(f"{shown}: {key.get_name()} is not allowed here or there")
            return False
        try:
            further = self._transport.auth_publickey(self._options.user, key)
        except self._paramiko.AuthenticationException as error:
            if not self._transport.is_active():
                self._tried.append(f"{shown}: refused")
                raise self._broken_off(error) from error
            if key.public_blob is not None:
                key.public_blob = None
                return self._with(key, shown)
            self._tried.append(f"{shown}: refused")
            return False
        except (self._paramiko.SSHException, EOFError, OSError) as error:
            raise self._broken_off(error) from error
        if further:
            self._tried.append(f"{shown}: accepted")
            raise self._refused(
                "the device wants " + one_line(", ".join(further)) + " on top of the key"
            )
        return True

    def _signs(self, key: Any) -> bool:
        """Whether this side and the server have a way to sign in common for a key."""
        name = key.get_name()
        if name != "ssh-rsa":
            restricted = self._options.algorithms.get("public_keys")
            return restricted is None or name in restricted
        theirs = self._transport.server_extensions.get("server-sig-algs", b"").decode().split(",")
        ours = [kind for kind in self._transport.preferred_pubkeys if "rsa" in kind]
        return bool(ours) and (theirs == [""] or any(kind in theirs for kind in ours))

    def _refused(self, why: str) -> DeviceError:
        options = self._options
        takes = ", ".join(self._takes) or "it does not say what"
        tried = "; ".join(self._tried) or "nothing"
        return failure(
            f"{options.host} lets {options.user} not in: {why} (it takes {takes}; tried: {tried})",
            "E412",
            f"put your public key there: `ssh-copy-id -p {options.port} "
            f"{options.user}@{options.host}`, or name the right one (`identity:`, IdentityFile)",
            retryable=False,
        )

    def _broken_off(self, error: Exception) -> DeviceError:
        return self._refused(f"it broke off: {one_line(error) or 'no reason given'}")


def _agent_socket(named: str) -> str | None:
    """Return the path of ssh-agent's socket that IdentityAgent names, None for none."""
    if named == "none":
        return None
    if named in ("SSH_AUTH_SOCK", "$SSH_AUTH_SOCK"):
        return os.environ.get("SSH_AUTH_SOCK") or None
    if named.startswith("$"):
        return os.environ.get(named[1:].strip("{}")) or None
    return str(Path(named).expanduser())


def _known_first(ours: tuple[str, ...], kinds: tuple[str, ...]) -> tuple[str, ...]:
    """Return host key algorithms, those of known keys first, as OpenSSH orders them."""
    wanted = {name for kind in kinds for name in _SIGNATURES.get(kind, (kind,))}
    return tuple(sorted(ours, key=lambda name: name not in wanted))


_SIGNATURES = {"ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256")}


def _ask_for_life(paramiko: Any, transport: Any) -> None:
    """Send what a live server answers, if only by refusing it; the thread that reads calls this."""
    if transport.in_kex or not transport.is_active():
        return
    request = paramiko.Message()
    request.add_byte(bytes([paramiko.common.MSG_GLOBAL_REQUEST]))
    request.add_string("keepalive@openssh.com")
    request.add_boolean(True)
    with contextlib.suppress(EOFError, OSError, paramiko.SSHException):
        transport._send_user_message(request)


def _nothing_in_common(
    where: str, transport: Any, offered: dict[str, list[str]], said: str
) -> DeviceError:
    """Return the error of a server that offers only what is refused here, with the names."""
    ours = {
        "kex": transport.preferred_kex,
        "host_keys": transport.preferred_keys,
        "ciphers": transport.preferred_ciphers,
        "macs": transport.preferred_macs,
    }
    for what, field in _OFFERED.items():
        theirs = [one_line(name, 60) for name in offered.get(field, [])[:20]]
        if not set(theirs) & set(ours[what]):
            return failure(
                f"{where} offers only {', '.join(theirs) or 'nothing'} as {what}, "
                f"and edgedeploy takes {', '.join(ours[what])}",
                "E413",
                "update the SSH server of the device, or allow a stronger algorithm in its "
                "configuration",
                retryable=False,
            )
    return failure(
        f"{where} has no algorithm in common with edgedeploy: {one_line(said)}",
        "E413",
        "update the SSH server of the device",
        retryable=False,
    )
