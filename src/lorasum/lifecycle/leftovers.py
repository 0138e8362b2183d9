"""What a command that failed or was interrupted has left running: nobody may be billed for what no message names."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime

from lorasum.context import Run
from lorasum.errors import InterruptedRunError, LorasumError
from lorasum.formatting import listing
from lorasum.ledger.ledger import Ledger
from lorasum.lifecycle.trials import trial_runs
from lorasum.system import paths
from lorasum.system.signals import release_frames

_NAMED = 5  # runs; `status` has them all


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


def warn_without_ledger(ledger: Ledger) -> None:
    """Say that no ledger is in lorasum's home, as where LORASUM_HOME or HOME is wrong."""
    if not ledger.path.exists():
        elsewhere = "what was started with another LORASUM_HOME is not seen here"
        ledger.warn(f"there is no ledger in {ledger.path.parent}: {elsewhere}")


def not_on_record(ledger: Ledger, run: str) -> str:
    """That nothing is on record of a run, which may have been renamed, and what else may run; empty if something is."""
    if ledger.resources(run) or trial_runs(ledger, run):
        return ""
    others = f"; these may run: {names}; `lorasum teardown --all` ends them" if (names := open_runs(ledger)) else ""
    return f"nothing is on record of run {run} in {paths.home()}{others}"


def open_runs(ledger: Ledger) -> str:
    """The runs of which something may run by the ledger, for messages."""
    rows = (row for row in ledger.resources() if row.is_open and row.kind != "dataset")
    return listing(sorted({row.run for row in rows}), _NAMED)


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
