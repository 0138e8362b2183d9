"""What a command that failed or was interrupted has left running: nobody may be billed for what no message names."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime

from lorasum.context import Run
from lorasum.errors import InterruptedRunError, LorasumError
from lorasum.system.signals import release_frames


@contextmanager
def telling_what_runs(run: Run) -> Iterator[None]:
    """After an error or an interrupt in the block, warn of what was started in it and may run, by the ledger."""
    began = run.ledger.now()
    try:
        yield
    except (KeyboardInterrupt, Exception) as error:
        release_frames()
        if not isinstance(error, InterruptedRunError):  # it tells itself what may run
            with suppress(LorasumError, OSError):  # the ledger cannot be read either
                for line in _left_running(run, began, not isinstance(error, LorasumError)):
                    run.reporter.warn(line)
        raise


def _left_running(run: Run, since: datetime, cut_off: bool) -> list[str]:
    """A line for each. What failed has told of all that it knows to run. Nobody knows that of what is still intended.

    Args:
        cut_off: whether it could not tell, because it was interrupted or ended by a bug.
    """
    rows = [row for row in run.ledger.resources(run.name) if datetime.fromisoformat(row.updated_at) >= since]
    unsure = [row for row in rows if row.state == "intended" and row.kind != "dataset"]
    sure = [row for row in rows if row.state == "live" and row.kind == "endpoint" and cut_off]
    told = [(row, "had answered: it is in service") for row in sure] + [(row, "may be running") for row in unsure]
    return [
        f"{row} {what}{', and billed,' if row.usd_per_hour != 0 else ''} until `lorasum teardown` removes it"
        for row, what in told
    ]
