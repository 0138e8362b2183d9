"""The verbs on a ledger of a newer version, and with rows that cannot be read."""

import sqlite3
import threading
from collections.abc import Callable

import pytest
from memory_backend import InMemoryBackend, RecordingReporter, context

from lorasum.commands.deploy import deploy
from lorasum.commands.predict import predict
from lorasum.commands.status import status
from lorasum.commands.teardown import plan_teardown, teardown
from lorasum.commands.train import train
from lorasum.config.schema import Config
from lorasum.errors import LorasumError
from lorasum.ledger.ledger import Ledger
from lorasum.results.overview import ResourceStatus


def shown(backend: InMemoryBackend, ledger: Ledger) -> dict[str, ResourceStatus]:
    return {row.name: row for row in status([backend], ledger, "chats").resources}


@pytest.fixture
def deployed(config: Config, backend: InMemoryBackend, ledger: Ledger) -> Config:
    train(context(config, backend, ledger))
    deploy(context(config, backend, ledger))
    return config


def spoil(ledger: Ledger, kind: str) -> None:
    with sqlite3.connect(ledger.path) as db:
        db.execute("UPDATE resources SET detail='{' WHERE kind=?", (kind,))


@pytest.mark.parametrize("kind", ["endpoint", "training_job", "dataset"])
def test_a_row_that_cannot_be_read_is_shown_and_does_not_stop_teardown(
    deployed: Config, backend: InMemoryBackend, ledger: Ledger, kind: str
) -> None:
    spoil(ledger, kind)
    [row] = [row for row in shown(backend, ledger).values() if row.kind == kind]
    assert (row.state, "Expecting property name" in row.reason, row.usd) == ("unreadable", True, None)
    assert teardown(context(deployed, backend, ledger)).remaining == ()
    assert backend.endpoints == {}
    if kind != "dataset":
        [row] = [row for row in shown(backend, ledger).values() if row.kind == kind]
        assert row.state == "gone"


def test_a_row_that_cannot_be_read_of_another_backend_remains(
    deployed: Config, backend: InMemoryBackend, ledger: Ledger
) -> None:
    spoil(ledger, "endpoint")
    elsewhere = InMemoryBackend("sagemaker")
    [left] = teardown(context(deployed, elsewhere, ledger)).remaining
    assert str(left) == "endpoint chats: it is on backend local, which was not asked"


def test_the_next_deploy_writes_an_endpoints_row_anew(
    deployed: Config, backend: InMemoryBackend, ledger: Ledger
) -> None:
    spoil(ledger, "endpoint")
    with pytest.raises(LorasumError, match="no endpoint in service"):
        predict(context(deployed, backend, ledger), "Ana: hi")
    deploy(context(deployed, backend, ledger))
    assert shown(backend, ledger)["chats"].state == "live"


def test_teardown_works_without_a_ledger_that_is_newer(
    deployed: Config, backend: InMemoryBackend, ledger: Ledger, told: RecordingReporter
) -> None:
    with sqlite3.connect(ledger.path) as db:
        db.execute("PRAGMA user_version = 9")
    before = ledger.path.read_bytes()
    assert plan_teardown(context(deployed, backend, ledger)) == ["delete endpoint chats"]
    assert list(map(str, teardown(context(deployed, backend, ledger, told)).removed)) == ["endpoint chats"]
    assert (backend.endpoints, ledger.path.read_bytes()) == ({}, before)
    [warning] = told.warnings
    assert "is of a newer lorasum" in warning
    assert "on the backend alone" in warning


def test_a_damaged_ledger_does_not_stop_teardown(deployed: Config, backend: InMemoryBackend, ledger: Ledger) -> None:
    ledger.path.write_text("this is no database, nor was it ever one")
    assert list(map(str, teardown(context(deployed, backend, ledger)).removed)) == ["endpoint chats"]
    assert list(ledger.path.parent.glob("ledger.sqlite.damaged-*"))


def test_deploy_serves_the_job_of_its_config_and_says_which(
    deployed: Config,
    make_config: Callable[..., Config],
    backend: InMemoryBackend,
    ledger: Ledger,
    told: RecordingReporter,
) -> None:
    mine = deploy(context(deployed, backend, ledger))
    newer = train(context(make_config(lora={"r": 4}), backend, ledger))
    again = deploy(context(deployed, backend, ledger, told))
    assert (again.reused, again.job, again.artifact) == (True, mine.job, mine.artifact)
    assert f"--job {newer.job} takes the newest" in told.steps[0]
    chosen = deploy(context(deployed, backend, ledger), newer.job)
    assert (chosen.reused, chosen.job, chosen.artifact) == (False, newer.job, newer.artifact)


@pytest.mark.parametrize(
    "sections",
    [{"lora": {"r": 4}}, {"model": {"id": "org/another"}}, {"data": {"dataset": "d", "template": "{dialogue}!"}}],
)
def test_deploy_refuses_a_config_that_was_not_trained(
    deployed: Config,
    make_config: Callable[..., Config],
    backend: InMemoryBackend,
    ledger: Ledger,
    sections: dict[str, object],
) -> None:
    trained = deploy(context(deployed, backend, ledger)).job
    other = context(make_config(**sections), backend, ledger)
    with pytest.raises(LorasumError, match=f"its newest model is that of job {trained}") as error:
        deploy(other)
    assert f"--job {trained}" in error.value.hint
    assert deploy(other, trained).job == trained
    with pytest.raises(LorasumError, match="no completed job 'chats-1'") as error:
        deploy(other, "chats-1")
    assert trained in error.value.hint


def test_a_second_deploy_waits_for_the_first_and_says_so(
    deployed: Config, backend: InMemoryBackend, ledger: Ledger, told: RecordingReporter
) -> None:
    waits = threading.Event()
    told.step = lambda text: waits.set() if "waiting for another lorasum process" in text else None  # type: ignore[method-assign]
    results = []
    second = threading.Thread(target=lambda: results.append(deploy(context(deployed, backend, ledger, told))))
    with context(deployed, backend, ledger).hold():
        second.start()
        assert waits.wait(200)
        assert results == []
    second.join(200)
    assert [result.reused for result in results] == [True]
