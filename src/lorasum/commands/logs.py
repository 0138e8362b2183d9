"""logs: what the run's job or endpoint has written, line by line."""

from collections.abc import Iterator

from lorasum.backends.base import is_here
from lorasum.context import RunContext
from lorasum.errors import LorasumError
from lorasum.resources import OPEN, Endpoint, TrainingJob


def logs(run: RunContext, endpoint: bool = False, follow: bool = False) -> Iterator[str]:
    """The lines of the log of the run's newest training job or, if `endpoint`, of its endpoint; oldest first.

    Args:
        follow: wait for new lines until it ends.

    Raises:
        LorasumError: there is no job or endpoint on record here, or it has no log.
        BackendError: the log cannot be read.
    """
    kind = Endpoint if endpoint else TrainingJob
    backend = run.backend
    rows = [row for row in run.ledger.rows(kind, run.name) if is_here(row, backend)]
    if not rows:
        what = "endpoint" if endpoint else "training job"
        raise LorasumError(f"run {run.name!r} has no {what}", "`lorasum status` shows what there is")
    row = max(rows, key=lambda one: (one.state in OPEN, one.updated_at))
    where = backend.log_place("endpoint" if endpoint else "training_job", run.name, row.name)
    run.reporter.step(f"log of {row.kind.replace('_', ' ')} {row.name}: {where}")
    lines = backend.log_lines("endpoint" if endpoint else "training_job", run.name, row.name, follow)
    some = False
    for line in lines:
        some = True
        yield line
    if not some:
        raise LorasumError(f"{row.name} has no log yet", "it begins once the process has started; -f waits for it")
