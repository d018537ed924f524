"""What is in an npm package, as tar unpacks it; tests/web has npm and the browser."""

import subprocess
from pathlib import Path


def unpacked(package: Path, folder: Path) -> Path:
    """Return the folder of a package that tar has unpacked."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["tar", "-xzf", str(package), "-C", str(folder)], check=True)
    return folder / "package"
