"""Comparing an artifact with the float reference: parity, task metrics and gates."""
