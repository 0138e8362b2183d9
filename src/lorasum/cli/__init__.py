"""The command line. What takes time to import is imported where it is used, so that `lorasum --help` is immediate."""

from lorasum.cli.entry import main

__all__ = ["main"]
