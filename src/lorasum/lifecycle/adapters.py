"""Which adapters an endpoint serves by name: its own run's, and those of other runs on the same base model."""

import json
from collections.abc import Sequence
from typing import Any

from lorasum.backends.base import Backend
from lorasum.backends.records import JobRef
from lorasum.context import RunContext
from lorasum.errors import BackendError, LorasumError
from lorasum.ledger.resources import Adapter, Origin, TrainingJob
from lorasum.lifecycle.artifacts import artifact_record, check_artifact
from lorasum.lifecycle.lookup import check_artifact_exists, completed
from lorasum.shared.names import ADAPTER_FOLDER

_ALONE = "deploy it with its own config, without deploy.adapters"


def adapters(run: RunContext, own: TrainingJob) -> tuple[Adapter, ...]:
    """The adapters that the config asks for, its own run's first; none if it asks for no other. They are whole.

    Args:
        own: the job whose adapter is the run's own. Of every other run it is the newest that has completed.

    Raises:
        LorasumError: a run has no trained model, its adapter is damaged, or it cannot share an endpoint with others.
    """
    others = dict.fromkeys(other for other in run.config.deploy.adapters if other != run.name)
    if not others:
        return ()
    chosen = [own, *(_newest(run, other) for other in others)]
    _refuse_other_bases(chosen)
    found = tuple(_adapter(run.backend, job) for job in chosen)
    _refuse_other_ends(run.backend, chosen)
    for one in found[1:]:
        run.reporter.step(f"adapter {one.run}: that of its newest job, {one.job}")
    return found


def _newest(run: RunContext, other: str) -> TrainingJob:
    done = completed(run.backend, run.ledger, other)
    if not done:
        raise LorasumError(
            f"deploy.adapters names run {other!r}, which has no trained model here",
            "run `lorasum train` with its config first, or leave it out",
        )
    check_artifact_exists(run.backend, done[-1])
    return done[-1]


def _adapter(backend: Backend, job: TrainingJob) -> Adapter:
    """The adapter of a job.

    Raises:
        LorasumError: it is damaged, or of a kind that is not served beside others.
    """
    reference = JobRef(job.name, job.location)
    check_artifact(backend, reference, f"{ADAPTER_FOLDER}/")
    settings = _settings(backend, reference)
    for key, kind in (("use_dora", "DoRA"), ("target_parameters", "an adapter on stacked experts")):
        if settings.get(key):
            raise LorasumError(f"run {job.run!r} has {kind}, which shares no endpoint with other adapters", _ALONE)
    rank = max([settings["r"], *settings.get("rank_pattern", {}).values()])
    return Adapter(run=job.run, job=job.name, artifact=job.artifact, rank=rank, origin=job.origin)


def _settings(backend: Backend, job: JobRef) -> dict[str, Any]:
    """PEFT's adapter_config.json of a job's adapter."""
    content = backend.artifact_file(job, f"{ADAPTER_FOLDER}/adapter_config.json")
    try:
        found: dict[str, Any] = json.loads(content or b"")
        int(found["r"])
    except (ValueError, KeyError, TypeError) as error:
        raise BackendError(
            f"cannot read adapter_config.json of {backend.artifact(job)}", "delete the artifact, then train again"
        ) from error
    return found


def _refuse_other_bases(chosen: Sequence[TrainingJob]) -> None:
    own = chosen[0]
    for job in chosen[1:]:
        if _base(job.origin) != _base(own.origin):
            raise LorasumError(
                f"run {job.run!r} was trained on {_base(job.origin)}, and run {own.run!r} on {_base(own.origin)}",
                "an endpoint of several adapters has one base model: leave the other run out of deploy.adapters",
            )


def _refuse_other_ends(backend: Backend, chosen: Sequence[TrainingJob]) -> None:
    """Refuse adapters that end a summary with different tokens: what ends one would be a word of the other."""
    ends = {}
    for job in chosen:
        record = artifact_record(backend, JobRef(job.name, job.location))
        ends[job.run] = record.eos_token_id if record else None
    if len(set(ends.values())) > 1:
        said = ", ".join(f"{name} with {end}" for name, end in ends.items())
        raise LorasumError(
            f"these runs end a summary with different tokens, so they cannot share an endpoint: {said}",
            "train them with the same data.format, or leave the other one out of deploy.adapters",
        )


def _base(origin: Origin) -> str:
    return f"{origin.model} @ {origin.model_revision}" if origin.model_revision else origin.model
