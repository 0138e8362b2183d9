"""logs: what one of the run's jobs or its endpoint has written, line by line."""

from collections.abc import Iterator

from lorasum.backends.base import is_here
from lorasum.context import RunContext
from lorasum.errors import LorasumError
from lorasum.ledger.resources import OPEN, BatchJob, Endpoint, TrainingJob


def logs(run: RunContext, endpoint: bool = False, follow: bool = False, job: str | None = None) -> Iterator[str]:
    """The lines of the log of the run's newest job, batch jobs too, or, if `endpoint`, of its endpoint; oldest first.

    A job that runs comes before those that have ended.

    Args:
        job: the name of another job.
        follow: wait for new lines until it ends.

    Raises:
        LorasumError: there is no job or endpoint on record here, or it has no log.
        BackendError: the log cannot be read.
    """
    kinds = (Endpoint,) if endpoint else (TrainingJob, BatchJob)
    backend = run.backend
    rows = [row for row in run.ledger.resources(run.name) if isinstance(row, kinds) and is_here(row, backend)]
    rows = [row for row in rows if job in (None, row.name)]
    if not rows:
        what = "endpoint" if endpoint else f"job {job}" if job else "job"
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
