"""Devices: the inventory, connections, facts, and the depot in which versions lie on a device."""
