"""Codes of connections to devices (E401-E419)."""

from __future__ import annotations

from edgedeploy.errors.codes import Explanation

CODES: dict[str, Explanation] = {
    "E401": Explanation(
        "A device is not reached",
        "Its name is unknown, no packet comes back, or there is no route to it; or the jump host "
        "says that it cannot reach it. See whether the device is on, in this network, and named "
        "right in devices.yaml.",
    ),
    "E402": Explanation(
        "A device refuses the connection",
        "The machine is there and no program listens on the port. See whether its SSH server runs "
        "(it may be starting), and on which port.",
    ),
    "E403": Explanation(
        "The connection to a device is lost",
        "It was closed, or nothing came from the device any more for longer than a live one is "
        "silent. Run the same command again; what arrived on the device is kept.",
    ),
    "E404": Explanation(
        "The device did not answer in time",
        "The connection stands, but a command neither took input, printed anything nor ended for "
        "longer than it may. The device may be overloaded or out of memory; try again.",
    ),
    "E405": Explanation(
        "The device sent too much",
        "A line or an output was longer than any that a healthy device sends, and was cut off. See "
        "what the login shell prints on the device.",
    ),
    "E406": Explanation(
        "The device starts no command",
        "The SSH server opens no further session, or the login shell of the user runs no commands "
        "(such as nologin, or the menu of an appliance). The message holds what it said.",
    ),
    "E407": Explanation(
        "A file cannot be copied",
        "The device could not read or write a file; the message holds what it said. Check the "
        "path, its permissions and the free space on the device.",
    ),
    "E408": Explanation(
        "No SSH server answers",
        "The connection stands, but no greeting came within 10 s, or the exchange of keys broke "
        "off. Another program may listen on the port, or the device is starting or overloaded.",
    ),
    "E409": Explanation(
        "The host key of a device is not known",
        "Nothing in known_hosts vouches for the machine, so nothing was sent to it. Compare the "
        "fingerprint on the device; then connect once with `ssh`, or give `--accept-new`.",
    ),
    "E410": Explanation(
        "The host key of a device changed",
        "Another machine may answer in its place; nobody tried to log in and nothing was sent. If "
        "the device was set up anew, compare the new fingerprint there and remove the old line of "
        "known_hosts. `--accept-new` does not help here, on purpose.",
    ),
    "E411": Explanation(
        "The host key of a device cannot be trusted",
        "known_hosts marks it as revoked, or vouches for it only through a certificate authority, "
        "whose certificates edgedeploy does not read. Replace the key, or add the machine's own.",
    ),
    "E412": Explanation(
        "A device lets the user not in",
        "Each key of the ssh configuration and of ssh-agent was refused or could not be used; the "
        "message lists them. Passwords are never used. Put the public key on the device "
        "(`ssh-copy-id`), or name the right one.",
    ),
    "E413": Explanation(
        "A device offers only weak algorithms",
        "Its SSH server and edgedeploy have no cipher, MAC, key exchange or kind of host key in "
        "common; the message names both sides. Update the server.",
    ),
    "E414": Explanation(
        "An ssh option cannot be honoured",
        "The ssh configuration sets something for this host that would change the connection and "
        "that edgedeploy cannot do. Give the host an entry without it; docs/devices.md lists what "
        "is honoured.",
    ),
    "E415": Explanation(
        "The ssh configuration cannot be read",
        "`ssh -G` failed, OpenSSH's client is needed and not installed, or a known_hosts file "
        "cannot be read or written. The message says which; mend it.",
    ),
}
