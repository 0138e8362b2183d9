"""What is odd about the files of a dataset: collected while they are read, and told once."""

from lorasum.reporting import Reporter


class Oddities:
    """Collects what is said about files, so that a hundred files of one kind make one line."""

    def __init__(self) -> None:
        self._files: dict[str, dict[str, None]] = {}  # what is odd → the files that it is true of, in order

    def say(self, name: str, text: str) -> None:
        """Take down that `text` is true of the file `name`."""
        self._files.setdefault(text, {})[name] = None

    def tell(self, report: Reporter) -> None:
        """Tell all of it, and forget it."""
        for text, names in self._files.items():
            first, *others = names
            more = f" and {len(others):,} more file{'s' if len(others) > 1 else ''}" if others else ""
            report.warn(f"{first}{more}: {text}")
        self._files.clear()
