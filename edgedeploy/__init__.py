"""edgedeploy: one profile, one command, verified model artifacts for every target."""

__version__ = "0.1.0"
