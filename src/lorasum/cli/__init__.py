"""The command line. What takes time to import is imported where it is used, so that `lorasum --help` is immediate."""

import signal


def main() -> None:
    """Run the command line and exit; see entry.py."""
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # while it begins, Ctrl-C ends it, and not with a traceback
    from lorasum.cli import entry

    entry.main()


__all__ = ["main"]
