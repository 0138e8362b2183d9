"""What a reader of files is given."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lorasum.config.schema import Columns
from lorasum.data.files.opening import Say
from lorasum.data.files.splits import Split
from lorasum.errors import DataError

Tick = Callable[[float], None]
"""Called now and then with the share of the source that has been read, 0 to 1."""

TICK_ROWS = 1024


@dataclass(frozen=True, slots=True)
class Reading:
    """A file to read, what of it is wanted, and who is told of progress and oddities."""

    path: Path
    columns: Columns
    split: Split
    tick: Tick
    say: Say

    @property
    def name(self) -> str:
        """What messages call the file."""
        return self.path.name


def unsaid(name: str, text: str) -> None:
    """For callers that nobody listens to."""


def needed_columns(name: str, names: list[str], columns: Columns) -> list[str]:
    """The columns to read: the mapped ones; all, for the error to list, when one of them is missing.

    Raises:
        DataError: two that are needed have one name.
    """
    outer = (one if one in names else one.partition(".")[0] for one in (columns.dialogue, columns.summary))
    mapped = list(dict.fromkeys(outer))
    needed = mapped if set(mapped) <= set(names) else names
    doubled = next((one for one in needed if one and names.count(one) > 1), None)
    if doubled is not None:
        raise DataError(f"{name} has {names.count(doubled)} columns {doubled!r}", "rename or remove one of them")
    return needed
