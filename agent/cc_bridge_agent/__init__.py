"""The half of cc-bridge that runs beside Claude Code: standard library only, Python 3.9 or newer."""

__version__ = "0.1.0"
