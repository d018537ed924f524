"""``python -m edgedeploy``."""

from edgedeploy.cli.main import main

main()
