"""Targets: boards joined with runtimes, read from YAML."""
