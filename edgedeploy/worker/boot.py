"""Start of a worker: makes this edgedeploy importable in any interpreter, ahead of nothing else.

A folder on ``sys.path`` would bring everything that lies beside edgedeploy along: in another
interpreter's environment the packages of this one.
"""

import importlib.util
import sys
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def main() -> None:
    """Import edgedeploy from where this file is and run the job named on the command line."""
    spec = importlib.util.spec_from_file_location(
        "edgedeploy", _PACKAGE / "__init__.py", submodule_search_locations=[str(_PACKAGE)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"there is no edgedeploy in {_PACKAGE.parent}")
    package = importlib.util.module_from_spec(spec)
    sys.modules["edgedeploy"] = package
    spec.loader.exec_module(package)
    from edgedeploy.worker.__main__ import main as work

    work(sys.argv[1])


if __name__ == "__main__":
    main()
