"""The version of the package, in a file of its own so that setup.py and every module can read it."""

__version__ = "0.1.0"
