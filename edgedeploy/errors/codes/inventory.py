"""Codes of devices.yaml and of choosing devices (E190-E199)."""

from __future__ import annotations

from edgedeploy.errors.codes import Explanation

CODES: dict[str, Explanation] = {
    "E190": Explanation(
        "No device is named",
        "The command works on devices, and none was chosen, or there is no devices.yaml that could "
        "name one. Choose with `-d`; write devices.yaml beside the profile or into "
        "~/.config/edgedeploy.",
    ),
    "E191": Explanation(
        "No such device, group or tag",
        "A name, pattern, `@group` or `tag:name` matches nothing in devices.yaml. "
        "`edgedeploy devices list` shows what there is.",
    ),
    "E192": Explanation(
        "Groups contain each other",
        "Following the groups of devices.yaml leads back to where it began. Remove one of the "
        "steps that the message lists.",
    ),
    "E193": Explanation(
        "Another user may write to a file that can run commands",
        "devices.yaml (and the ssh configuration that it names) say what is run on devices, so "
        "nobody but you may be able to change them. Take the write permission away "
        "(`chmod go-w`); the folder counts too.",
    ),
    "E194": Explanation(
        "A secret in devices.yaml",
        "Passwords, tokens and passphrases are never read from a file. Log in with a key "
        "(`identity:`, ssh-agent); a passphrase is asked for on the terminal.",
    ),
    "E195": Explanation(
        "A value of devices.yaml that is not safe to use",
        "Names, hosts, users, paths and commands must be what they are taken for, and no option of "
        "another program. Write one of the form that the hint names.",
    ),
    "E196": Explanation(
        "Keys of a device that do not go together",
        "A device over SSH has a host, `local` is this machine, and a fake device has facts; a key "
        "of one says nothing about another. Remove it, or change `connection`.",
    ),
}
