"""Which completed job is meant, and its artifact as a folder of this machine."""

from pathlib import Path

from lorasum import paths
from lorasum.backends.base import Backend
from lorasum.backends.records import JobRef
from lorasum.config.schema import Config
from lorasum.errors import LorasumError
from lorasum.files import writing
from lorasum.ledger import Ledger
from lorasum.lifecycle import jobs
from lorasum.lifecycle.artifacts import check_artifact
from lorasum.lifecycle.planning import is_job_of
from lorasum.reporting import Reporter
from lorasum.resources import TrainingJob


def chosen_job(
    config: Config, backend: Backend, ledger: Ledger, report: Reporter, name: str | None = None
) -> TrainingJob:
    """The completed job of this name; without one, the newest that the config describes.

    Raises:
        LorasumError: there is none, or its artifact is gone.
    """
    job = _chosen(config, backend, ledger, report, name)
    if backend.training_state(JobRef(job.name, job.location)).status != "completed":
        raise LorasumError(
            f"the artifact of job {job.name} is no longer at {job.artifact}", "run `lorasum train` again"
        )
    return job


def artifact_folder(backend: Backend, job: TrainingJob, below: str = "") -> Path:
    """A job's artifact as a folder of this machine. It is checked first, and copied here if it is elsewhere.

    Args:
        below: only files whose path begins with it.

    Raises:
        LorasumError: a file is missing or damaged, or the copy cannot be written.
        BackendError: it cannot be read.
    """
    reference = JobRef(job.name, job.location)
    check_artifact(backend, reference, below)
    copy = paths.run_dir(job.run) / "artifacts" / job.name
    with writing(copy):
        return backend.fetch_artifact(reference, copy, below)


def _chosen(config: Config, backend: Backend, ledger: Ledger, report: Reporter, name: str | None) -> TrainingJob:
    done = [row for row in jobs.recorded(ledger, config.name, backend) if row.state == "done"]
    if not done:
        raise LorasumError(f"run {config.name!r} has no trained model", "run `lorasum train` with this config first")
    newest = done[-1]
    if name is not None:
        named = [row for row in done if row.name == name]
        if not named:
            raise LorasumError(
                f"run {config.name!r} has no completed job {name!r}", f"it has {', '.join(row.name for row in done)}"
            )
        return named[0]
    fitting = [row for row in done if is_job_of(row, config)]
    if not fitting:
        raise LorasumError(
            f"run {config.name!r} was trained with another configuration: "
            f"its newest model is that of job {newest.name}",
            f"run `lorasum train` with this config, or choose that model with --job {newest.name}",
        )
    if fitting[-1].name != newest.name:
        report.step(f"taking job {fitting[-1].name}, which this config describes; --job {newest.name} takes the newest")
    return fitting[-1]
