"""The verbs as functions: what a notebook sees of them."""

import logging

import pytest
from memory_backend import InMemoryBackend

import lorasum
from lorasum import api
from lorasum.config.schema import Config
from lorasum.errors import BackendError, DataError, LorasumError, RefusedError


@pytest.fixture
def trained(config: Config, backend: InMemoryBackend, monkeypatch: pytest.MonkeyPatch) -> Config:
    """A config whose model is trained, on a backend in memory that bills endpoints."""
    monkeypatch.setattr(api, "backend", lambda config, reporter: backend)
    monkeypatch.setattr(api, "local", lambda: backend)
    backend.price = 2.0
    lorasum.train(config)
    return config


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [text for name, level, text in caplog.record_tuples if (name, level) == ("lorasum", logging.WARNING)]


def test_what_costs_money_is_logged_each_time(
    trained: Config, backend: InMemoryBackend, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse() -> None:
        raise BackendError("no role is set")

    backend.before["expire_endpoint"] = refuse
    for _ in range(2):
        caplog.clear()
        assert not lorasum.deploy(trained, expires="4h").ends_itself
        assert [text for text in logged(caplog) if "will NOT end by itself" in text]


def test_what_an_interrupted_call_leaves_running_is_logged(
    trained: Config, backend: InMemoryBackend, caplog: pytest.LogCaptureFixture
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    backend.before["confirm_endpoint"] = interrupt
    with pytest.raises(KeyboardInterrupt):
        lorasum.deploy(trained)
    assert "in service, and billed," in logged(caplog)[-1]


def test_several_dialogues_are_answered_in_order_and_a_refusal_is_none(
    trained: Config, backend: InMemoryBackend, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse_the_third() -> None:
        if backend.calls.count("invoke") in (2, 3):  # with its neighbour, and alone
            raise RefusedError("too long")

    lorasum.deploy(trained)
    backend.calls.clear()
    backend.before["invoke"] = refuse_the_third
    assert lorasum.predict(trained, (f"Ana: {number}" for number in "1234")) == [
        f"Sum up: Ana: {number} =>" if number != "3" else None for number in "1234"
    ]
    assert logged(caplog)[-1] == "dialogue 3 of 4 was refused: too long"
    with pytest.raises(DataError, match="dialogue 2 of 2 is empty"):
        lorasum.predict(trained, ["Ana: 1", " "])
    with pytest.raises(DataError, match="dialogue 1 of 1 is empty or no text"):
        lorasum.predict(trained, [float("nan")])  # type: ignore[list-item]  # pandas' empty cell
    with pytest.raises(LorasumError, match="concurrency=0"):  # it never returned
        lorasum.predict(trained, ["Ana: 1"], concurrency=0)


def test_a_notebook_sees_what_it_has_started_and_removes_all(trained: Config, backend: InMemoryBackend) -> None:
    started = lorasum.train(lorasum.load_config(trained.model_dump(mode="json"), ["lora.r=4"]), wait=False)
    assert started.state == "live"
    assert lorasum.plan(trained).endpoint_usd_per_hour == 2.0
    shown = {row.name: row.state for row in lorasum.status(trained).resources if row.kind == "training_job"}
    assert shown[started.job] == "live"
    torn = lorasum.teardown(trained, artifacts=True)
    assert [gone.name for gone in torn.removed] == [started.job]
    assert (torn.deleted, torn.remaining, backend.jobs) == (("jobs",), (), {})
