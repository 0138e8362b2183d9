"""Predict a file by a job: no endpoint is needed, and its instances are gone at the end. An interrupted job resumes."""

import json
import shutil
import time
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import NoReturn

from lorasum.backends.records import JobRef, TrainSpec
from lorasum.context import RunContext
from lorasum.errors import BackendError, InterruptedRunError
from lorasum.ledger.resources import BatchJob, TrainingJob
from lorasum.lifecycle import batches, jobs
from lorasum.lifecycle.answers import Answer, answers_of
from lorasum.lifecycle.artifacts import check_artifact
from lorasum.lifecycle.lookup import chosen_job
from lorasum.lifecycle.placement import Placement, refuse_what_does_not_fit, shape_of_artifact
from lorasum.lifecycle.row_files import AGAIN, Rows, checked_output, key_of, open_rows, predictions, write_output
from lorasum.lifecycle.teardowns import TeardownWatch
from lorasum.models.source import ModelRef
from lorasum.results.serving import BatchPrediction
from lorasum.shared.events import StepEvent
from lorasum.shared.names import ANSWERS_FOLDER
from lorasum.shared.requests import MAX_PROMPTS, fill_template
from lorasum.system.files import maker_lock, new_folder, open_file, writing
from lorasum.system.signals import release_frames

_SHARD_ROWS = 5000
"""Most rows of a file of answers, which are put in order in memory."""
_WAITING = "waiting for another process that writes answers of this run"
_SHARDS = 64
"""Files that there are at least, so that as many instances have one each: but a file has as many rows as a request."""


def predict_batch(run: RunContext, input: Path, output: Path) -> BatchPrediction:  # noqa: A002
    """Summarise every row of `input` into `output`, as `predict_file` does, by a job of its own and the newest model.

    The job's name is a hash of the rows, the model and how it is asked. So the same command follows a job that runs,
    resumes one that was stopped, and takes the answers of one that has completed.

    Raises:
        DataError: a row cannot be used; nothing was started.
        LorasumError: nothing is trained, its artifact is damaged or has no merged model, `output` cannot be written,
            or the instance has no room for the model.
        TornDownError: the run was torn down meanwhile; the job is stopped.
        InterruptedRunError: Ctrl-C; the message says whether the job was stopped.
        BackendError: the job could not be started, failed or was stopped.
    """
    began, watch = time.monotonic(), TeardownWatch(run.name)
    output = checked_output(output, input)
    with open_rows(run, input) as rows:
        model = chosen_job(run, merged=True)
        key = key_of(model.artifact, model.origin.template, run.config.predict, rows)
        name = batches.name_of(run.name, key)
        if run.backend.find_training(run.name, name) is None:
            artifact = JobRef(model.name, model.location)
            check_artifact(run.backend, artifact)
            refuse_what_does_not_fit(Placement.of(run.config, shape_of_artifact(run.backend, artifact), batch=True))
        shards = _shards(run, model, rows, key)
        reference = _answered(run, _spec(run, model, shards, name), watch)
        copy = predictions(run.name) / f"answers-{key}"
        with writing(output, AGAIN), maker_lock(copy, lambda: run.reporter.step(_WAITING)):
            folder = run.backend.fetch_artifact(reference, copy, f"{ANSWERS_FOLDER}/") / ANSWERS_FOLDER
            failures = write_output(rows, _in_order(folder, rows.count), output)
            shutil.rmtree(shards, ignore_errors=True)  # another process with the same rows may have ended before
            shutil.rmtree(copy, ignore_errors=True)
    seconds = time.monotonic() - began
    return BatchPrediction(
        run.name, str(input.absolute()), str(output.absolute()), rows.count + rows.empty, seconds, failures
    )


def to_be_spent(run: RunContext) -> str:
    """What a batch job costs, in a line; empty where nothing is paid for."""
    price = run.backend.usd_per_hour("batch_job")
    if price == 0:
        return ""
    with run.looking_ahead():
        _, note = batches.quoted(run.config, price, 0.0, run.reporter)
    return f"start a batch job{note}"


def _shards(run: RunContext, model: TrainingJob, rows: Rows, key: str) -> Path:
    """The folder of the prompts, in files of as many rows as fit into memory; made once."""
    folder = predictions(run.name) / f"prompts-{key}"
    with maker_lock(folder, lambda: run.reporter.step("waiting for another process that writes these rows")):
        if not folder.is_dir():
            with new_folder(folder) as made:
                _write_shards(model, rows, made)
    return folder


def _rows_of_shard(count: int) -> int:
    """The rows of each file. They depend on the number of rows only, so a job goes on with other instances."""
    return min(_SHARD_ROWS, max(MAX_PROMPTS, -(-count // _SHARDS)))


def _write_shards(model: TrainingJob, rows: Rows, folder: Path) -> None:
    size = _rows_of_shard(rows.count)
    for number, shard in groupby(enumerate(rows.asked()), lambda placed: placed[0] // size):
        with open_file(folder / f"{number:05}.jsonl", "w") as file:
            for place, row in shard:
                prompt = fill_template(model.origin.template, row.dialogue, model.origin.control_tokens)
                file.write(json.dumps({"row": place, "prompt": prompt}) + "\n")


def _spec(run: RunContext, model: TrainingJob, shards: Path, name: str) -> TrainSpec:
    asked = run.config.predict
    return TrainSpec(
        run=run.name,
        job_name=name,
        model=ModelRef(model.artifact, None),
        dataset=shards,
        hyperparameters={"max_new_tokens": str(asked.max_new_tokens), "temperature": str(asked.temperature)},
        program="answer.py",
        artifact=model.artifact,
        processes=run.config.local.processes,
    )


def _answered(run: RunContext, spec: TrainSpec, watch: TeardownWatch) -> JobRef:
    """The job, once it has completed."""
    try:
        with run.hold() as held:
            watch.check()
            reference = batches.start(held, spec, run.config)
            jobs.stop_if_torn_down(held, watch, spec.job_name)
        with jobs.followed(run.reporter, spec.job_name):
            for event in run.backend.follow_training(reference):
                if isinstance(event, StepEvent):
                    run.reporter.progress("summarising", event.step, event.steps)
    except KeyboardInterrupt:
        _interrupted(run, spec.job_name)
    with run.hold() as held:
        state = batches.reconcile(held, reference)
    if state.status != "completed":
        why = f": {state.reason}" if state.reason else ""
        raise BackendError(
            f"batch job {spec.job_name} has not completed{why}",
            state.hint or "the same command continues with the rows that have no answer",
        )
    return reference


def _interrupted(run: RunContext, name: str) -> NoReturn:
    release_frames()
    if not run.backend.stops_on_interrupt:
        raise InterruptedRunError(
            f"no longer following batch job {name}, which continues if it was started",
            "the same command follows it again; `lorasum teardown` stops it",
        )
    with run.hold() as held:
        jobs.stop(held, name)
        known = run.ledger.find(BatchJob, run.name, name)
        if known and jobs.reconcile(held, BatchJob, name).status in ("failed", "stopped"):
            jobs.mark(held, BatchJob, name, "stopped", "interrupted; the same command continues where it was")
    raise InterruptedRunError(f"batch job {name} was stopped", "the same command continues where it was")


def _in_order(folder: Path, count: int) -> Iterator[Answer]:
    size = _rows_of_shard(count)
    for first in range(0, count, size):
        file = folder / f"{first // size:05}.jsonl"
        found = answers_of(file)
        for place in range(first, min(first + size, count)):
            if place not in found:
                raise BackendError(
                    f"{file} has no answer to row {place + 1}", "delete the batch job's folder, and ask again"
                )
            yield found[place]
