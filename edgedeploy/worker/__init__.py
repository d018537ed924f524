"""Worker processes: JSON and files in, files and JSON out; limited, scrubbed and killable.

Three processes take part. ``launch`` is the builder's side; it starts ``boot.py`` in any
interpreter. That process becomes the supervisor (``supervise``), which does nothing but wait: it
ends everything that the stage started, however the stage or the builder ends. Its child runs the
stage (``__main__``).
"""

import re

# How converters in C++ say that an allocation failed; they have no type for it in Python.
NO_MEMORY = re.compile(
    r"bad.?alloc|Arena alloc failed|Failed to allocate|Cannot allocate memory|Unable to allocate"
    r"|out of memory",
    re.I,
)
