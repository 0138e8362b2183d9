"""A job's artifact: its record, whether it is still what the training wrote, and its files on this machine."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from lorasum.backends.base import Backend
from lorasum.backends.records import JobRef
from lorasum.errors import BackendError, LorasumError
from lorasum.ledger.resources import TrainingJob
from lorasum.shared.events import MERGE_LEFT_OUT
from lorasum.shared.names import BASE_SUMMARIES_FILE, RECORD_FILE
from lorasum.shared.records import ArtifactRecord, BaseSummaries, FileFacts, from_json
from lorasum.system import paths
from lorasum.system.files import writing


def artifact_record(backend: Backend, job: JobRef) -> ArtifactRecord | None:
    """The artifact's lorasum.json; None if there is none.

    Raises:
        BackendError: it cannot be read.
    """
    content = backend.artifact_file(job, RECORD_FILE)
    try:
        return from_json(ArtifactRecord, content) if content is not None else None
    except ValueError as error:
        raise BackendError(
            f"cannot read {RECORD_FILE} of {backend.artifact(job)}: {error}", "delete the artifact, then train again"
        ) from error


def base_summaries(backend: Backend, job: JobRef, generation: Mapping[str, float], template: str) -> Sequence[str]:
    """What the base model said of the first test dialogues at the end of the job, if it was asked so.

    Args:
        template: the prompt that it was to be asked with.
    """
    content = backend.artifact_file(job, BASE_SUMMARIES_FILE)
    try:
        found = from_json(BaseSummaries, content) if content is not None else None
    except ValueError:
        return ()  # damaged, and not needed: an endpoint of the base model can be asked
    asked_so = found and found.generation == generation and found.template == template
    return found.summaries if found and asked_so else ()


def check_artifact(backend: Backend, job: JobRef, below: str = "") -> None:
    """See that every file is there, and as large as it was written; and the same, where its digest is known.

    An artifact without a list of its files is believed.

    Args:
        below: only files whose path begins with it; without it the merged model is among them.

    Raises:
        LorasumError: a file is missing or damaged, of which it names the first one; or there is no merged model.
    """
    record = artifact_record(backend, job)
    if record and not below:
        _refuse_without_merge(job.name, record.training.not_merged)
    written = {name: facts for name, facts in (record.files if record else {}).items() if name.startswith(below)}
    problems = damages(written, backend.artifact_files(job)) if written else []
    if problems:
        more = f", and {len(problems) - 1} more" if problems[1:] else ""
        artifact = backend.artifact(job)
        raise LorasumError(
            f"the artifact of job {job.name} is damaged: {problems[0]}{more}",
            f"delete {artifact}, then run `lorasum train`: it makes it again from its newest checkpoint",
        )


def _refuse_without_merge(job: str, why: str) -> None:
    if why == MERGE_LEFT_OUT:
        raise LorasumError(
            f"job {job} has no merged model: {why}, because nobody had asked for it",
            "`lorasum train --set deploy.serve=merged` makes it, and repeats no step; deploy.serve: adapter serves the "
            "adapter, and `lorasum push --adapter` shares it",
        )
    if why:
        raise LorasumError(
            f"job {job} has left its adapter alone, without a merged model: {why}",
            "deploy.serve: adapter serves it, and `lorasum push --adapter` shares it",
        )


def artifact_folder(backend: Backend, job: TrainingJob, below: str = "") -> Path:
    """A job's artifact as a folder of this machine. It is checked first, and copied here if it is elsewhere.

    Args:
        below: only files whose path begins with it.

    Raises:
        LorasumError: as `check_artifact`; or the copy cannot be written.
        BackendError: it cannot be read.
    """
    reference = JobRef(job.name, job.location)
    check_artifact(backend, reference, below)
    copy = paths.run_dir(job.run) / "artifacts" / job.name
    with writing(copy):
        return backend.fetch_artifact(reference, copy, below)


def damages(written: Mapping[str, FileFacts], present: Mapping[str, FileFacts]) -> list[str]:
    """What is wrong with each file that is not as it was written."""
    problems = []
    for name, was in sorted(written.items()):
        now = present.get(name)
        if now is None:
            problems.append(f"{name} is missing")
        elif now.bytes != was.bytes:
            problems.append(f"{name} has {now.bytes:,} bytes instead of {was.bytes:,}")
        elif now.sha256 and now.sha256 != was.sha256:
            problems.append(f"the content of {name} has changed")
    return problems
