"""Worker processes: JSON and files in, files and JSON out; limited, scrubbed and killable.

``launch`` is the parent's side, ``__main__`` the child's: ``<python> -m edgedeploy.worker JOB``.
"""
