"""The operations, one file per family; every module in here is loaded by the registry."""
