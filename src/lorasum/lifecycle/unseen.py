"""What the backend was asked to create and does not show: SageMaker may show it late, and bill it.

A command may be killed, or lose its connection, between the call that creates something and its answer. So the ledger
says `asked` just before that call. An intended row without it is of a command that had not come so far.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, TypeVar

from lorasum.formatting import clock
from lorasum.ledger.ledger import Ledger
from lorasum.ledger.resources import Resource

_SHOWN_LATE: Final = timedelta(minutes=15)
"""How long what was asked for and is not shown counts as something that may yet be."""

Row = TypeVar("Row", bound=Resource)


def asking(ledger: Ledger, row: Row) -> None:
    """Record that the backend is asked to create it now."""
    ledger.save(replace(row, asked=True))


def stays(ledger: Ledger, row: Resource) -> bool:
    """Whether what is not shown stays on record, with a reason that says why. Otherwise it was never created."""
    now, until = ledger.now(), datetime.fromisoformat(row.updated_at) + _SHOWN_LATE
    if row.state != "intended" or not row.asked or now > until:
        return False
    why = f"it was asked for, and is not shown: it may still appear, until {clock(until, now)}"
    ledger.note(replace(row, reason=why))
    return True
