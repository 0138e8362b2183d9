"""What the base model says of the test dialogues, as it is kept.

No training changes that. So what one job has had it say serves every other job and run with the same base model,
dialogues, prompt and settings, and is not paid for twice.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from lorasum.backends.base import Backend, is_here
from lorasum.backends.records import JobRef
from lorasum.config.schema import EvaluateConfig, PredictConfig
from lorasum.data.store import read_manifest, read_test_examples
from lorasum.errors import BackendError, LorasumError, OutageError
from lorasum.ledger.ledger import Ledger
from lorasum.ledger.resources import Origin, TrainingJob
from lorasum.lifecycle.answers import Answer, AnswerLog, answers_of
from lorasum.lifecycle.artifacts import base_summaries
from lorasum.lifecycle.planning import PlannedJob
from lorasum.lock import HeldRun
from lorasum.models.hub import is_commit
from lorasum.scoring import evaluation_files
from lorasum.scoring.evaluation import BASE
from lorasum.system.files import make_folder, writing

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


def answers_file(run: str, origin: Origin, artifact: str, system: str, asked: PredictConfig) -> Path:
    """The file of a system's summaries. Its name has a hash of everything that they depend on."""
    return evaluation_files.folder_of(run) / f"{system.replace(' ', '-')}-{answers_key(origin, artifact, asked)}.jsonl"


def answers_key(origin: Origin, artifact: str, asked: PredictConfig) -> str:
    """A hash of everything that the summaries of an artifact, or of a base model, depend on."""
    parts = [artifact, origin.template, origin.fingerprint, asked.max_new_tokens, asked.temperature]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


def kept_answers(
    run: str,
    backend: Backend,
    ledger: Ledger,
    origin: Origin,
    asked: PredictConfig,
    count: int,
    served: JobRef | None = None,
) -> Mapping[int, Answer]:
    """The base model's summaries that the run keeps, by place, after adding those that jobs have left behind.

    Args:
        origin: with the prompt for the base model.
        count: of the test dialogues: once so many are there, no further job is looked at.
        served: the job whose model they are compared with; it is looked at first.

    Raises:
        LorasumError: another process is writing them, or they cannot be written.
    """
    generation = {"max_new_tokens": asked.max_new_tokens, "temperature": asked.temperature}
    file = answers_file(run, origin, model_of(origin), BASE, asked)
    with writing(file, AGAIN):
        make_folder(file.parent)
        with AnswerLog(file, refused_count=False) as answers:
            for job in [*([served] if served else []), *_jobs_with_the_same_base(backend, ledger, origin)]:
                if answers.count >= count:
                    break
                try:
                    found = enumerate(base_summaries(backend, job, generation, origin.template))
                except OutageError:
                    raise
                except BackendError:  # it was deleted; the base model can be asked again
                    continue
                answers.add({place: Answer(text) for place, text in found if place not in answers})
            return {place: answer for place, answer in answers_of(file).items() if answer.error is None}


def all_kept(held: HeldRun, planned: PlannedJob) -> bool:
    """Whether a job need not have the base model summarise: what it would say of all test dialogues is kept."""
    origin = base_origin(planned.origin, planned.config.evaluate)
    if not is_commit(origin.model_revision):
        return False
    try:
        count = len(read_test_examples(planned.spec.dataset))
        asked = planned.config.predict
        return 0 < count <= len(kept_answers(held.name, held.backend, held.ledger, origin, asked, count))
    except (OSError, ValueError, LorasumError):
        return False  # as when an evaluation is writing them; the job can make them


def _jobs_with_the_same_base(backend: Backend, ledger: Ledger, origin: Origin) -> list[JobRef]:
    """The completed jobs of this base model and these dialogues, the newest first.

    A branch of the hub and a folder may hold other weights than they did, so only what is pinned is the same.
    """
    if not is_commit(origin.model_revision):
        return []
    wanted = (origin.model, origin.model_revision, origin.fingerprint)
    return [
        JobRef(row.name, row.location)
        for row in reversed(ledger.rows(TrainingJob))
        if row.state == "done"
        and is_here(row, backend)
        and (row.origin.model, row.origin.model_revision, row.origin.fingerprint) == wanted
    ]
