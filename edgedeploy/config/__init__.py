"""YAML files as data with a place for every key and value."""
