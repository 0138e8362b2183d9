"""Reading: the arguments of every reader of files."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from lorasum.config.data import Columns
from lorasum.data.chats.keys import speaker_columns
from lorasum.data.files.opening import Say
from lorasum.data.files.splits import Split
from lorasum.errors import DataError

Tick = Callable[[float], None]
"""Called now and then with the share of the source that has been read, 0 to 1."""

TICK_ROWS = 1024


@dataclass(frozen=True, slots=True)
class Reading:
    """A file to read, the columns that are wanted, and the callbacks for progress and remarks.

    Attributes:
        others: whether the file's other columns of texts, numbers and times are wanted too.
        speakers: what the config renames: `0` stays a number where `data.messages.speakers` has a name for it.
    """

    path: Path
    columns: Columns
    split: Split
    tick: Tick
    say: Say
    others: bool = False
    speakers: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The file's name in messages."""
        return self.path.name


def unticked(share: float) -> None:
    """A callback for progress that ignores it."""


def unsaid(name: str, text: str) -> None:
    """A callback for remarks that ignores them."""


def needed_columns(name: str, names: list[str], columns: Columns, others: Collection[str] = ()) -> list[str]:
    """The columns to read: the mapped ones and those of speakers, or all if a mapped one is missing, for the error.

    Args:
        others: wanted too.

    Raises:
        DataError: two needed columns have the same name.
    """
    outer = (one if one in names else one.partition(".")[0] for one in (columns.dialogue, *columns.summaries))
    mapped = list(dict.fromkeys(outer))
    more = (one for one in names if one not in mapped and one in (*others, *speaker_columns(tuple(names))))
    needed = [*mapped, *more] if set(mapped) <= set(names) else names
    doubled = next((one for one in needed if one and names.count(one) > 1), None)
    if doubled is not None:
        raise DataError(f"{name} has {names.count(doubled)} columns {doubled!r}", "rename or remove one of them")
    return needed
