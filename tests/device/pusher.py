"""A push in a process of its own, to be killed: ``pusher.py PORT SSH_CONFIG FOLDER``.

It pushes the files below FOLDER, cut where its ``cuts.json`` says, and prints the version's name.
"""

import getpass
import json
import sys
from pathlib import Path

from edgedeploy.artifact import scan_tree
from edgedeploy.deploy.fleet import Link
from edgedeploy.deploy.push import Contents, push_to
from edgedeploy.devices.connect import connect
from edgedeploy.devices.inventory import Device
from edgedeploy.devices.opening import open_depot
from edgedeploy.devices.version import Version


def contents_of(folder: Path) -> Contents:
    """Return the version that lies in ``folder/files``."""
    files = folder / "files"
    tree = scan_tree(files, json.loads((folder / "cuts.json").read_text()))
    return Contents(
        version=Version(app="app", board="rpi5", models=(), files=tree.files),
        places={file.sha256: files / file.path for file in tree.files},
    )


def push(port: int, ssh_config: Path, folder: Path) -> str:
    """Push; return the version's name."""
    device = Device(
        name="board",
        kind="ssh",
        host="127.0.0.1",
        port=port,
        user=getpass.getuser(),
        ssh_config=ssh_config,
    )
    contents = contents_of(folder)
    link = Link(device.name, lambda: connect(device))
    try:
        push_to(link, device, contents, opener=open_depot)
    finally:
        link.close()
    return contents.version.name


if __name__ == "__main__":
    print(push(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])))
