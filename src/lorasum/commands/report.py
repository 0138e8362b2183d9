"""Report: one HTML page about a run, or about two side by side. It asks the backend for the job's log, and no more."""

from pathlib import Path

from lorasum.backends.base import is_here
from lorasum.config.secrets import redacted
from lorasum.context import RunContext
from lorasum.data.store import read_manifest
from lorasum.errors import BackendError, LorasumError
from lorasum.ledger.resources import Endpoint, TrainingJob
from lorasum.lifecycle.artifacts import artifact_record
from lorasum.lifecycle.costs import cost, total
from lorasum.pages.facts import RunFacts
from lorasum.pages.run_page import run_page
from lorasum.results.overview import ReportResult
from lorasum.scoring import evaluation_files
from lorasum.shared.events import Event
from lorasum.system import paths
from lorasum.system.files import FILE_MODE, USER_FILE_MODE, write_file, writing


def report(
    run: RunContext, output: Path | None = None, other: str | None = None, job: str | None = None, samples: int = 12
) -> ReportResult:
    """Write the page.

    Args:
        output: the file; by default one in the run's folder.
        other: a run to compare with, by its newest job; or the name of any job, of this run too.
        job: the training job; by default the run's newest.
        samples: how many test dialogues stand on the page.

    Raises:
        LorasumError: there is no such job, or the page cannot be written.
    """
    first = _job(run, run.name, job)
    second = _other(run, other, first) if other else None
    both = [_facts(run, one, _name(one, second if one is first else first)) for one in (first, second) if one]
    default = f"report-{first.name}{f'-and-{second.name}' if second else ''}.html"
    page = output or paths.run_dir(run.name) / "reports" / default
    with writing(page):
        write_file(page, run_page(both, _config(run), samples), FILE_MODE if output is None else USER_FILE_MODE)
    missing = tuple(f"{one.name}: {line}" if second else line for one in both for line in _missing(one))
    return ReportResult(run.name, str(page.absolute()), other, missing)


def _job(run: RunContext, of: str, name: str | None) -> TrainingJob:
    """A job of a run: the one of this name, or the newest."""
    rows = [row for row in run.ledger.rows(TrainingJob, of) if name in (None, row.name)]
    if not rows:
        what = f"no training job {name}" if name else "no training job yet"
        raise LorasumError(f"run {of!r} has {what}", "`lorasum status` shows what there is; `lorasum train` starts one")
    return rows[-1]


def _other(run: RunContext, name: str, first: TrainingJob) -> TrainingJob:
    named = [row for row in run.ledger.rows(TrainingJob) if row.name == name]
    found = named[-1] if named else _job(run, name, None)
    if found.name == first.name:
        raise LorasumError(f"job {found.name} would be compared with itself", "name another run, or another job")
    return found


def _name(row: TrainingJob, other: TrainingJob | None) -> str:
    return row.name if other and other.run == row.run else row.run


def _facts(run: RunContext, row: TrainingJob, name: str) -> RunFacts:
    """Everything that is on record about a job, and in its log."""
    here = is_here(row, run.backend)
    reference = run.backend.find_training(row.run, row.name) if here else None
    events: tuple[Event, ...] = ()
    record = None
    if reference:
        try:
            steps = run.backend.steps_of(row.run, reference)  # another job's, where this one has only merged them
            jobs = dict.fromkeys(one for one in (steps, reference) if one)
            events = tuple(event for one in jobs for event in run.backend.training_events(one))
            record = artifact_record(run.backend, reference) if row.state == "done" else None
        except BackendError as error:
            run.reporter.warn(f"{error.message}: the page has no curves ({error.hint})")
    evaluation = evaluation_files.newest(row.run, row.artifact)
    now = run.ledger.now()
    return RunFacts(
        name=name,
        job=row,
        events=events,
        manifest=read_manifest(Path(row.origin.dataset)) if row.origin.dataset else None,
        record=record,
        evaluation=evaluation[0] if evaluation else None,
        scored=evaluation[1] if evaluation else (),
        usd=cost(row, now),
        endpoint_usd=total(cost(one, now) for one in run.ledger.rows(Endpoint, row.run)),
    )


def _config(run: RunContext) -> str:
    """The config as it is used, as YAML, without secrets."""
    import yaml

    shown = redacted(run.config.model_dump(mode="json"))
    return str(yaml.safe_dump(shown, sort_keys=False, allow_unicode=True))


def _missing(facts: RunFacts) -> list[str]:
    lines = []
    if facts.job.state != "done":
        lines.append(f"the job has not completed: it is {facts.job.state}")
    if not facts.events:
        lines.append("the job's log is gone or elsewhere: there are no curves")
    if facts.evaluation is None:
        lines.append("it has not been evaluated: `lorasum evaluate` scores it while its endpoint is up")
    if facts.manifest is None:
        lines.append("its dataset was deleted")
    return lines
