"""What the agent runs on a device: sent there at each connection, never installed.

Syntax and library held to Python 3.6; the modules import the standard library and one another.
They work relative to the depot, which is the current folder once :func:`layout.enter` returned.
"""
