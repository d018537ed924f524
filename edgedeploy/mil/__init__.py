"""An interpreter of saved Core ML programs (``.mlpackage``), in NumPy: Core ML runs on Apple only.

``read`` -> :class:`program.Program` -> ``interpreter``. It knows nothing of how a package was made.
"""
