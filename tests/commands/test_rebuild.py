"""status --rebuild: what the ledger has lost is recorded again, and what runs is never forgotten."""

import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from memory_backend import DONE, InMemoryBackend, RecordingReporter, context

from lorasum.backends.records import JobState
from lorasum.commands.deploy import deploy
from lorasum.commands.predict import predict
from lorasum.commands.status import status
from lorasum.commands.teardown import teardown
from lorasum.commands.train import train
from lorasum.config.schema import Config
from lorasum.ledger.ledger import Ledger
from lorasum.ledger.resources import Endpoint, TrainingJob
from lorasum.results.overview import StatusResult
from lorasum.shared.names import RECORD_FILE
from lorasum.shared.records import ArtifactRecord, record_text
from lorasum.system import paths


def record(template: str) -> str:
    return record_text(ArtifactRecord(1, "chats", "org/model", None, template, 2, (), "f", {}, DONE, {}))


@pytest.fixture
def deployed(config: Config, backend: InMemoryBackend, ledger: Ledger, tmp_path: Path) -> str:
    """A trained and deployed run; returns its job's name. The artifact's own record is as a training writes it."""
    backend.artifacts = f"{tmp_path}/artifacts/"
    job = train(context(config, backend, ledger)).job
    template = ledger.rows(TrainingJob, "chats")[0].origin.template
    (tmp_path / "artifacts" / job).mkdir(parents=True)
    (tmp_path / "artifacts" / job / RECORD_FILE).write_text(record(template))
    deploy(context(config, backend, ledger))
    return job


def rebuilt(backend: InMemoryBackend, ledger: Ledger) -> StatusResult:
    return status([backend], ledger, "chats", backend)


def states(result: StatusResult) -> dict[str, str]:
    return {row.name: row.state for row in result.resources if row.kind != "dataset"}


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"\0" * 8192),
        lambda path: path.write_bytes(path.read_bytes()[:5000]),
        lambda path: path.write_text("name: chats"),
        lambda path: (path.unlink(), path.mkdir()),
        lambda path: sql(path, "PRAGMA user_version = 9"),
        lambda path: sql(path, "DROP TABLE resources"),
        lambda path: sql(path, "UPDATE resources SET detail='{'"),
        lambda path: sql(path, "UPDATE resources SET state='gone'"),
    ],
    ids=["lost", "empty", "zeroed", "cut", "another file", "a folder", "newer", "no table", "no details", "gone"],
)
def test_a_damaged_ledger_is_rebuilt_and_predict_works_again(
    deployed: str, config: Config, backend: InMemoryBackend, ledger: Ledger, damage: Callable[[Path], object]
) -> None:
    damage(ledger.path)
    result = rebuilt(backend, ledger)
    assert states(result)["chats"] == "live"
    assert states(result)[deployed] in ("done", "gone")
    assert predict(context(config, backend, ledger), "Ana: hi").summary == "Sum up: Ana: hi =>"
    assert rebuilt(backend, ledger).rebuilt == (), "there is nothing more to do"


def sql(path: Path, statement: str) -> None:
    with sqlite3.connect(path) as db:
        db.execute(statement)


def test_what_cannot_be_told_about_an_endpoint_is_asked_by_deploy(
    deployed: str, config: Config, backend: InMemoryBackend, ledger: Ledger
) -> None:
    """Without the artifact's record the template is unknown: a summary with another one would be wrong in silence."""
    (Path(backend.artifacts) / deployed / RECORD_FILE).write_text("{")
    ledger.path.unlink()
    backend.price = 2.0
    result = rebuilt(backend, ledger)
    assert states(result) == {deployed: "done", "chats": "intended"}
    [endpoint] = [row for row in result.resources if row.kind == "endpoint"]
    assert (endpoint.may_run, endpoint.usd_per_hour, endpoint.usd) == (True, 2.0, None)
    dataset = context(config, backend, ledger)
    assert not [row for row in ledger.rows(Endpoint) if row.state == "live"]
    assert list(map(str, teardown(dataset).removed)) == ["endpoint chats"]


def test_a_job_that_runs_is_recorded_whatever_its_record_said(
    deployed: str, backend: InMemoryBackend, ledger: Ledger
) -> None:
    row = ledger.rows(TrainingJob, "chats")[0]
    ledger.save(replace(row, state="gone"))
    backend.jobs[deployed] = JobState("running")
    assert states(rebuilt(backend, ledger))[deployed] == "live"
    assert ledger.rows(TrainingJob, "chats")[0].origin == row.origin


def test_train_completes_a_rebuilt_record_of_its_job(
    deployed: str, config: Config, backend: InMemoryBackend, ledger: Ledger
) -> None:
    before = ledger.rows(TrainingJob, "chats")[0].origin
    ledger.note(replace(ledger.rows(TrainingJob, "chats")[0], origin=replace(before, template="", fingerprint="")))
    assert train(context(config, backend, ledger)).reused
    assert ledger.rows(TrainingJob, "chats")[0].origin == before


def test_status_of_a_newer_ledger_shows_what_runs_and_keeps_the_ledger(
    deployed: str, backend: InMemoryBackend, ledger: Ledger, told: RecordingReporter
) -> None:
    sql(ledger.path, "PRAGMA user_version = 9")
    before = ledger.path.read_bytes()
    ledger.warn = told.warn
    result = status([backend], ledger, "chats")
    assert states(result) == {deployed: "done", "chats": "live"}
    assert ledger.path.read_bytes() == before
    assert "is of a newer lorasum" in told.warnings[0]


def test_an_empty_ledger_beside_a_runs_folder_is_told(ledger: Ledger, backend: InMemoryBackend) -> None:
    paths.run_dir("chats").mkdir(parents=True)
    said: list[str] = []
    ledger.warn = said.append
    status([backend], ledger)
    (paths.run_dir("chats") / "jobs").mkdir()
    status([backend], ledger)
    assert ["--rebuild" in line for line in said] == [False, True], "an empty folder was not worth a word"
