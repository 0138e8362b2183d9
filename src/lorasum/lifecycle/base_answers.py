"""What the base model says of the test dialogues, as it is kept.

No training changes that. So what one job has had it say serves every other job and run with the same base model,
dialogues, prompt and settings, and is not paid for twice.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

from lorasum.backends.base import Backend, is_here
from lorasum.backends.records import SCRIPTS, JobRef
from lorasum.config.schema import EvaluateConfig, PredictConfig
from lorasum.context import Run, RunContext
from lorasum.data.store import read_manifest, read_test_examples
from lorasum.errors import BackendError, LorasumError, OutageError
from lorasum.ledger.resources import Origin, TrainingJob
from lorasum.lifecycle.answers import Answer, AnswerLog, answers_of
from lorasum.lifecycle.artifacts import base_summaries
from lorasum.lifecycle.planning import PlannedJob
from lorasum.lock import HeldRun
from lorasum.models.hub import is_commit
from lorasum.scoring import evaluation_files
from lorasum.scoring.evaluation import BASE
from lorasum.shared.names import BASE_SUMMARIES_FILE
from lorasum.shared.records import BaseSummaries, base_summaries_text
from lorasum.system.files import make_folder, write_file, writing

AGAIN = "free some disk, then evaluate again"


def base_origin(trained: Origin, settings: EvaluateConfig) -> Origin:
    """`trained` with the prompt for the base model: the chat format that its dataset's manifest has, if it has one."""
    manifest = read_manifest(Path(trained.dataset))
    if settings.base_prompt == "trained" or manifest is None or not manifest.base_template:
        return trained
    return replace(trained, template=manifest.base_template)


def model_of(origin: Origin) -> str:
    """The base model, and its revision if it has one."""
    return f"{origin.model}@{origin.model_revision}" if origin.model_revision else origin.model


def answers_file(run: RunContext, origin: Origin, artifact: str, system: str) -> Path:
    """The file of a system's summaries. Its name has a hash of everything that they depend on."""
    key = answers_key(origin, artifact, run.config.predict)
    return evaluation_files.folder_of(run.name) / f"{system.replace(' ', '-')}-{key}.jsonl"


def answers_key(origin: Origin, artifact: str, asked: PredictConfig) -> str:
    """A hash of everything that the summaries of an artifact, or of a base model, depend on."""
    parts = [artifact, origin.template, origin.fingerprint, asked.max_new_tokens, asked.temperature]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


def kept_answers(run: RunContext, origin: Origin, count: int, served: JobRef | None) -> Mapping[int, Answer]:
    """The base model's summaries that the run keeps, by place, after adding those that jobs have left behind.

    Args:
        origin: with the prompt for the base model.
        count: of the test dialogues: once so many are there, no further job is looked at.
        served: the job whose model they are compared with: what it has had the base model say counts before all else.

    Raises:
        LorasumError: another process is writing them, or they cannot be written.
    """
    asked, backend = run.config.predict, run.backend
    own = _left_by(backend, served, origin, asked) if served else ()
    if len(own) >= count:
        return {place: Answer(text) for place, text in enumerate(own)}
    file = answers_file(run, origin, model_of(origin), BASE)
    with writing(file, AGAIN):
        make_folder(file.parent)
        with AnswerLog(file, refused_count=False) as answers:
            others = (_left_by(backend, job, origin, asked) for job in _jobs_with_the_same_base(run, origin, served))
            for texts in chain([own], others):
                answers.add({place: Answer(text) for place, text in enumerate(texts) if place not in answers})
                if answers.count >= count:
                    break
            return {place: answer for place, answer in answers_of(file).items() if answer.error is None}


def given_summaries(held: HeldRun, planned: PlannedJob) -> Path | None:
    """A folder with what the base model would say of all test dialogues, for a job that need not have it say that.

    The job takes it into its artifact, where every machine finds it. None if no earlier job of today's container
    scripts has left it: others may have asked the base model in another way.
    """
    origin, asked = base_origin(planned.origin, planned.config.evaluate), planned.config.predict
    try:
        count = len(read_test_examples(planned.spec.dataset))
        for job in _jobs_with_the_same_base(held, origin, None) if count else ():
            summaries = _left_by(held.backend, job, origin, asked)
            if len(summaries) >= count:
                name = f"{BASE.replace(' ', '-')}-{answers_key(origin, model_of(origin), asked)}"
                folder = evaluation_files.folder_of(held.name) / name
                make_folder(folder)
                kept = BaseSummaries(_generation(asked), tuple(summaries), origin.template)
                write_file(folder / BASE_SUMMARIES_FILE, base_summaries_text(kept))
                return folder
    except (OSError, ValueError, LorasumError):  # the job can make them
        return None
    return None


def _left_by(backend: Backend, job: JobRef, origin: Origin, asked: PredictConfig) -> Sequence[str]:
    """What the base model said of the first test dialogues at a job's end; nothing where its artifact was deleted."""
    try:
        return base_summaries(backend, job, _generation(asked), origin.template)
    except OutageError:
        raise
    except BackendError:
        return ()


def _generation(asked: PredictConfig) -> dict[str, float]:
    return {"max_new_tokens": asked.max_new_tokens, "temperature": asked.temperature}


def _jobs_with_the_same_base(run: Run | HeldRun, origin: Origin, compared: JobRef | None) -> Iterator[JobRef]:
    """The completed jobs of this base model and these dialogues, the newest first.

    A branch of the hub and a folder may hold other weights than they did, so only what is pinned is the same.

    Args:
        compared: the job whose container scripts they have; None: those of today.
    """
    if not is_commit(origin.model_revision):
        return
    wanted = (origin.model, origin.model_revision, origin.fingerprint)
    backend = run.backend
    scripts = backend.made_with(compared).get(SCRIPTS)
    for row in reversed(run.ledger.rows(TrainingJob)):
        same = (row.origin.model, row.origin.model_revision, row.origin.fingerprint) == wanted
        job = JobRef(row.name, row.location)
        if same and row.state == "done" and is_here(row, backend) and backend.made_with(job).get(SCRIPTS) == scripts:
            yield job
