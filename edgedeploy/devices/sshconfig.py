"""The options of a connection as the user's own ``ssh`` would have them.

``ssh -G HOST`` prints what OpenSSH works out from the command line, ``~/.ssh/config`` and the
system's file, with Include, Match and canonical names applied. It is asked twice, the second time
without any file: what differs was set by somebody, and is honoured, known to change nothing for us,
or refused by name. Source of the names: ssh_config(5).
"""

from __future__ import annotations

import fnmatch
import getpass
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgedeploy.devices.inventory import Device
from edgedeploy.devices.link import failure, one_line
from edgedeploy.errors import DeviceError

MOST_JUMPS = 8
"""The longest chain of jump hosts that is followed."""

_SSH_S = 20.0  # `Match exec` and canonical names may take a while

# Read by `options_of`.
_HONOURED = (
    "host hostname user port addressfamily bindaddress ciphers connecttimeout globalknownhostsfile "
    "hashknownhosts hostkeyalgorithms hostkeyalias identitiesonly identityagent identityfile "
    "kexalgorithms macs proxyjump pubkeyacceptedalgorithms setenv stricthostkeychecking "
    "userknownhostsfile"
)

# Applied by `ssh -G` itself; or about terminals, forwarding, multiplexing and words on the screen,
# which commands do not have (scp and sftp switch the same ones off); or other ways to log in than
# with keys, of which none is used; or weaker than what is done here in any case.
_WITHOUT_EFFECT = (
    "addkeystoagent batchmode canonicaldomains canonicalizefallbacklocal canonicalizehostname "
    "canonicalizemaxdots canonicalizepermittedcnames casignaturealgorithms "
    "challengeresponseauthentication channeltimeout checkhostip clearallforwardings compression "
    "connectionattempts controlmaster controlpath controlpersist dynamicforward "
    "enableescapecommandline enablesshkeysign escapechar exitonforwardfailure fingerprinthash "
    "forkafterauthentication forwardagent forwardx11 forwardx11timeout forwardx11trusted "
    "gatewayports gssapiauthentication gssapiclientidentity gssapidelegatecredentials "
    "gssapikexalgorithms gssapikeyexchange gssapirenewalforcesrekey gssapiserveridentity "
    "gssapitrustdns hostbasedacceptedalgorithms hostbasedauthentication ignoreunknown ipqos "
    "kbdinteractiveauthentication kbdinteractivedevices localcommand localforward loglevel "
    "logverbose nohostauthenticationforlocalhost numberofpasswordprompts obscurekeystroketiming "
    "passwordauthentication permitlocalcommand permitremoteopen preferredauthentications "
    "proxyusefdpass rekeylimit remotecommand remoteforward requesttty requiredrsasize sendenv "
    "securitykeyprovider serveralivecountmax serveraliveinterval sessiontype stdinnull "
    "streamlocalbindmask streamlocalbindunlink syslogfacility tag tcpkeepalive tunnel tunneldevice "
    "updatehostkeys verifyhostkeydns versionaddendum visualhostkey warnweakcrypto "
    "xauthlocation"
)

_ALGORITHMS = {
    "ciphers": "ciphers",
    "macs": "macs",
    "kexalgorithms": "kex",
    "hostkeyalgorithms": "host_keys",
    "pubkeyacceptedalgorithms": "public_keys",
}
_INSTEAD = {
    "proxycommand": "use ProxyJump, or `jump:` in devices.yaml",
    "certificatefile": "put the certificate beside its key, named `<key>-cert.pub`",
    "pkcs11provider": "add the key to ssh-agent (`ssh-add -s`)",
}
_TOKEN = re.compile(r"\$\{(\w+)\}|%(.)")
_ENVIRONMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class SshOptions:
    """What a connection to one machine uses.

    Attributes:
        host: Name or address to dial.
        port: Its port.
        user: Who logs in.
        key_name: Under which its host key is known: ``HostKeyAlias``, else the host, with the port
            where it is not 22.
        jumps: Machines to go through, in order.
        identities: Files of private (or, for keys in ssh-agent, public) keys, in order.
        chosen: Whether the files were named by somebody, not by default.
        identities_only: Whether ssh-agent may offer no other keys.
        agent: Socket of ssh-agent: a path, ``SSH_AUTH_SOCK`` or ``none``.
        known_hosts: The user's files of host keys; new ones go into the first.
        system_known_hosts: The system's.
        accept_new: Whether ``StrictHostKeyChecking`` lets an unknown host key in.
        hash_names: Whether names in ``known_hosts`` are hashed.
        connect_s: ``ConnectTimeout``, None where it is not set.
        family: ``any``, ``inet`` or ``inet6``.
        source: Address of this machine to come from, None for any.
        environment: ``SetEnv``, for servers that accept it.
        algorithms: Restrictions by somebody: of ``ciphers``, ``macs``, ``kex``, ``host_keys`` and
            ``public_keys``, in order of preference.
    """

    host: str
    port: int = 22
    user: str
    key_name: str
    jumps: tuple[SshOptions, ...] = ()
    identities: tuple[Path, ...] = ()
    chosen: bool = False
    identities_only: bool = False
    agent: str = "SSH_AUTH_SOCK"
    known_hosts: tuple[Path, ...] = ()
    system_known_hosts: tuple[Path, ...] = ()
    accept_new: bool = False
    hash_names: bool = False
    connect_s: float | None = None
    family: str = "any"
    source: str | None = None
    environment: tuple[tuple[str, str], ...] = ()
    algorithms: Mapping[str, tuple[str, ...]]


def options_for(device: Device) -> SshOptions:
    """Return what a connection to ``device`` uses.

    Raises:
        DeviceError: An option cannot be honoured (E414), or ``ssh -G`` fails or is needed and not
            there (E415).
    """
    program = shutil.which("ssh")
    if program is None:
        return _without_openssh(device)
    arguments = [
        *(["-l", device.user] if device.user else []),
        *(["-p", str(device.port)] if device.port else []),
        *(["-o", f"IdentityFile={_quoted(device.identity)}"] if device.identity else []),
        *(["-o", f"ProxyJump={device.jump}"] if device.jump else []),
    ]
    asker = _Asker(program, device.ssh_config)
    return asker.resolve(device.host, arguments, ())


def _quoted(file: Path) -> str:
    """Return a path as an option's value, since ``-i`` would drop a file that is not there."""
    return '"' + str(file).replace("%", "%%") + '"'


class _Asker:
    """Asks one ``ssh`` with one configuration."""

    def __init__(self, program: str, config: Path | None) -> None:
        self._program = program
        self._config = config

    def resolve(self, host: str, arguments: Sequence[str], seen: tuple[str, ...]) -> SshOptions:
        """Return the options of ``host``; ``seen`` are the machines that lead here."""
        set_by = ["-F", str(self._config)] if self._config else []
        asked = self._ask(host, [*set_by, *arguments])
        default = self._ask(host, ["-F", "none"])
        changed = {key for key, values in asked.items() if default.get(key) != values}
        _check(host, asked, changed)
        options = options_of(asked, changed)
        jump = _one(asked, "proxyjump")
        if jump in (None, "none"):
            return options
        return replace(options, jumps=self._jumps(str(jump), (*seen, options.host)))

    def _jumps(self, chain: str, seen: tuple[str, ...]) -> tuple[SshOptions, ...]:
        """Return the machines of a ``ProxyJump``, in the order in which they are passed."""
        hops = [hop.strip() for hop in chain.split(",")]
        if len(seen) > MOST_JUMPS or len(hops) > MOST_JUMPS:
            raise failure(
                f"the jump hosts never end: {' <- '.join(seen[:4])} ...",
                "E414",
                "see ProxyJump in ~/.ssh/config: exclude the jump host itself (`Host * !jump`)",
                retryable=False,
            )
        try:
            user, host, port = split_hop(hops[-1])
        except ValueError:
            raise failure(
                f"`{hops[-1]}` is no jump host",
                "E414",
                "write `[user@]host[:port]`, several separated by commas",
                retryable=False,
            ) from None
        arguments = [*(["-l", user] if user else []), *(["-p", str(port)] if port else [])]
        # As OpenSSH: of several hops each but the first is reached through those before it; the
        # first (or only) one by what the configuration says about it.
        if len(hops) > 1:
            arguments += ["-o", "ProxyJump=" + ",".join(hops[:-1])]
        last = self.resolve(host, arguments, seen)
        return (*last.jumps, replace(last, jumps=()))

    def _ask(self, host: str, arguments: Sequence[str]) -> dict[str, list[str]]:
        try:
            run = subprocess.run(
                [self._program, "-G", "-T", *arguments, "--", host],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_SSH_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise _not_asked(host, str(error)) from error
        if run.returncode != 0:
            raise _not_asked(host, one_line(run.stderr[-300:]))
        found: dict[str, list[str]] = {}
        for line in run.stdout.decode("utf-8", "surrogateescape").splitlines():
            key, _, value = line.partition(" ")
            found.setdefault(key.lower(), []).append(value)
        return found


def split_hop(hop: str) -> tuple[str | None, str, int | None]:
    """Return user, host and port of ``[user@]host[:port]`` or ``ssh://[user@]host[:port]``.

    Raises:
        ValueError: It is none.
    """
    found = re.fullmatch(
        r"(?:ssh://)?(?:([^@\s,-][^@\s,]*)@)?(\[[0-9A-Fa-f:.]+(?:%\w+)?\]|"
        r"[^\s,:@/\[\]-][^\s,:@/\[\]]*)(?::([0-9]{1,5}))?/?",
        hop,
    )
    if found is None:
        raise ValueError(hop)
    return found[1], found[2].strip("[]"), int(found[3]) if found[3] else None


def options_of(asked: Mapping[str, Sequence[str]], changed: set[str]) -> SshOptions:
    """Return what ``ssh -G`` printed as options.

    Args:
        asked: Its values by option (small letters).
        changed: Options that are not as without any configuration.
    """
    host, port = str(_one(asked, "hostname")), int(_one(asked, "port") or 22)
    alias = _one(asked, "hostkeyalias")
    wait = _one(asked, "connecttimeout")
    source = _one(asked, "bindaddress")
    user = str(_one(asked, "user"))
    tokens = {
        "%": "%",
        "d": str(Path.home()),
        "h": host,
        "n": str(_one(asked, "host") or host),
        "p": str(port),
        "r": user,
        "u": getpass.getuser(),
    }
    return SshOptions(
        host=host,
        port=port,
        user=user,
        key_name=alias or (host if port == 22 else f"[{host}]:{port}"),
        identities=_files(asked.get("identityfile", ()), tokens),
        chosen="identityfile" in changed,
        identities_only=_one(asked, "identitiesonly") == "yes",
        agent=_one(asked, "identityagent") or "SSH_AUTH_SOCK",
        known_hosts=_files((_one(asked, "userknownhostsfile") or "").split(), tokens),
        system_known_hosts=_files((_one(asked, "globalknownhostsfile") or "").split(), tokens),
        accept_new=_one(asked, "stricthostkeychecking") in ("accept-new", "no", "off", "false"),
        hash_names=_one(asked, "hashknownhosts") == "yes",
        connect_s=float(wait) if wait and wait.isdigit() and int(wait) > 0 else None,
        family=_one(asked, "addressfamily") or "any",
        source=None if source in (None, "none") else source,
        environment=tuple(
            (found[1], found[2])
            for line in asked.get("setenv", ())
            if (found := _ENVIRONMENT.fullmatch(line))
        ),
        algorithms={
            ours: tuple(str(_one(asked, theirs)).split(","))
            for theirs, ours in _ALGORITHMS.items()
            if theirs in changed
        },
    )


def _one(asked: Mapping[str, Sequence[str]], key: str) -> str | None:
    values = asked.get(key)
    return values[0] if values else None


def _files(names: Sequence[str], tokens: Mapping[str, str]) -> tuple[Path, ...]:
    """Return files as paths; ``ssh -G`` leaves ``~``, tokens and variables in some of them.

    Raises:
        DeviceError: A token stands for something that is not known here (E414).
    """

    def expand(found: re.Match[str]) -> str:
        if found[1] is not None:
            return os.environ.get(found[1], "")
        if found[2] not in tokens:
            raise failure(
                f"the ssh configuration of {tokens['n']} names a file with the token %{found[2]}",
                "E414",
                f"write the file's name out, or use %{', %'.join(tokens)}",
                retryable=False,
            )
        return tokens[found[2]]

    named = (name for name in names if name != "none")
    return tuple(Path(_TOKEN.sub(expand, name)).expanduser() for name in named)


def _check(host: str, asked: Mapping[str, Sequence[str]], changed: set[str]) -> None:
    """Refuse what was set and cannot be honoured."""
    refused = sorted(
        key
        for key in changed.difference(_HONOURED.split(), _WITHOUT_EFFECT.split())
        if _one(asked, key) != "none"
    )
    if refused:
        named = ", ".join(refused)
        raise failure(
            f"the ssh configuration of {host} sets what edgedeploy cannot honour: {named}",
            "E414",
            _INSTEAD.get(refused[0], "give this host an entry without it (`ssh -G` shows it)"),
            retryable=False,
        )


def _not_asked(host: str, why: str) -> DeviceError:
    return failure(
        f"`ssh -G {host}` fails: {why or 'it does not say why'}",
        "E415",
        f"mend ~/.ssh/config until `ssh -G {host}` prints options",
        retryable=False,
    )


def _without_openssh(device: Device) -> SshOptions:
    """Return plain defaults; a configuration that would count is refused, not skipped."""
    file = device.ssh_config or Path.home() / ".ssh" / "config"
    line = _line_that_counts(file, device.host)
    if line is not None or device.jump:
        what = f"{file}:{line} may set options of {device.host}" if line else "`jump` is set"
        raise failure(
            f"{what}, and OpenSSH's client, which would tell them, is not installed",
            "E415",
            "install it (Debian: openssh-client)",
            retryable=False,
        )
    port = device.port or 22
    folder = Path.home() / ".ssh"
    named = [device.identity] if device.identity else []
    names = ("id_rsa", "id_ecdsa", "id_ed25519")
    return SshOptions(
        host=device.host,
        port=port,
        user=device.user or getpass.getuser(),
        key_name=device.host if port == 22 else f"[{device.host}]:{port}",
        identities=(*named, *(folder / name for name in names)),
        chosen=bool(named),
        known_hosts=(folder / "known_hosts", folder / "known_hosts2"),
        system_known_hosts=(Path("/etc/ssh/ssh_known_hosts"), Path("/etc/ssh/ssh_known_hosts2")),
        algorithms={},
    )


def _line_that_counts(file: Path, host: str) -> int | None:
    """Return the first line of an ssh configuration that may say something about ``host``."""
    try:
        lines = file.read_text("utf-8", "replace").splitlines()
    except OSError:
        return None
    elsewhere = False  # inside a Host block of other machines
    for number, line in enumerate(lines, 1):
        words = line.replace("=", " ", 1).split()
        if not words or words[0].startswith("#"):
            continue
        key = words[0].lower()
        if key == "host":
            patterns = [word.strip('"').lstrip("!") for word in words[1:]]
            elsewhere = not any(fnmatch.fnmatch(host, pattern) for pattern in patterns)
            if elsewhere:
                continue
        elif elsewhere and key != "match":
            continue
        return number
    return None
