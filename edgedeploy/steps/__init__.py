"""One file per stage kind: the only layer that joins leaves."""
