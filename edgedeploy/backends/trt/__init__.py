"""TensorRT: a typed graph and how to build it here; engines on the devices.

What both families need lies here too: the typed graph, optimisation profiles, the interpreted
runner.
"""
