"""The verbs as functions: what a notebook sees of them."""

import logging
from datetime import timedelta

import pytest
from memory_backend import InMemoryBackend

import lorasum
from lorasum import api
from lorasum.config.schema import Config
from lorasum.errors import BackendError


@pytest.fixture
def trained(config: Config, backend: InMemoryBackend, monkeypatch: pytest.MonkeyPatch) -> Config:
    """A config whose model is trained, on a backend in memory that bills endpoints."""
    monkeypatch.setattr(api, "backend", lambda config, reporter: backend)
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
    config = trained.model_copy(
        update={"deploy": trained.deploy.model_copy(update={"expires_after": timedelta(hours=4)})}
    )
    for _ in range(2):
        caplog.clear()
        assert not lorasum.deploy(config).ends_itself
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
