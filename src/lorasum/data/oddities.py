"""Collects what is unusual about the files of a dataset, such as their encoding, and reports it once."""

from lorasum.reporting import Reporter


class Oddities:
    """Collects remarks about files, so that a hundred files with the same oddity make one line."""

    def __init__(self) -> None:
        self._files: dict[str, dict[str, None]] = {}  # by remark: the files that it is about, in order

    def say(self, name: str, text: str) -> None:
        """Note the remark `text` about the file `name`."""
        self._files.setdefault(text, {})[name] = None

    def tell(self, report: Reporter) -> None:
        """Report all remarks, and forget them."""
        for text, names in self._files.items():
            first, *others = names
            more = f" and {len(others):,} more file{'s' if len(others) > 1 else ''}" if others else ""
            report.warn(f"{first}{more}: {text}")
        self._files.clear()
