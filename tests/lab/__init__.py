"""The test lab: real devices on one Linux machine; see docs/lab.md."""
