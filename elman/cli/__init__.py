"""The command line."""

from elman.cli.app import main

__all__ = ["main"]
