"""Releases: a signed bundle made from accepted artifacts, its check, and packages for apps.

``bundle.py`` says what a bundle holds, ``archive.py`` how it lies in a file, ``signing.py`` and
``trust.py`` who vouches for it and whom a reader believes.
"""
