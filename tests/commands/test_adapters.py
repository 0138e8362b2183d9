"""deploy.adapters: adapters of several runs on one endpoint, or a reason why not before anything starts."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from memory_backend import InMemoryBackend, RecordingReporter, context
from pydantic import ValidationError

from lorasum.backends.records import JobRef, JobState
from lorasum.commands.deploy import deploy
from lorasum.commands.predict import predict
from lorasum.commands.predict_file import predict_file
from lorasum.commands.teardown import teardown
from lorasum.commands.train import train
from lorasum.config.schema import Config
from lorasum.errors import LorasumError
from lorasum.ledger.ledger import Ledger
from lorasum.ledger.resources import Endpoint, Origin, TrainingJob
from lorasum.shared.records import FileFacts


@pytest.fixture
def config(make_config: Callable[..., Config], prepared: Path) -> Config:
    return make_config(deploy={"adapters": ["orders", "travel"]}, predict={"batch_size": 2})


@pytest.fixture
def have(ledger: Ledger, backend: InMemoryBackend, tmp_path: Path) -> Callable[..., None]:
    """Have another run with a completed job, made as given."""
    backend.artifacts = f"{tmp_path}/"

    def have(run: str, model: str = "org/model", eos: int = 2, files: Any = None, **settings: Any) -> None:
        name = f"{run}-job"
        origin = Origin(template=f"{run}: {{dialogue}} =>", model=model)
        artifact = backend.artifact(JobRef(name, ""))
        row = TrainingJob(run=run, name=name, backend="local", origin=origin, location=f"job:{name}", artifact=artifact)
        ledger.save(replace(ledger.intend(row), state="done"))
        backend.jobs[name] = JobState("completed")
        write_adapter(Path(artifact), eos, files or {}, settings)

    return have


def write_adapter(artifact: Path, eos: int, files: Any, settings: Any) -> None:
    (artifact / "adapter").mkdir(parents=True)
    (artifact / "lorasum.json").write_text(json.dumps({"eos_token_id": eos, "files": files}))
    (artifact / "adapter" / "adapter_config.json").write_text(json.dumps({"r": 4, **settings}))


@pytest.fixture
def trained(config: Config, backend: InMemoryBackend, ledger: Ledger, have: Callable[..., None]) -> Config:
    """The own run has a model; the others have none yet."""
    result = train(context(config, backend, ledger))
    write_adapter(Path(str(result.artifact)), 2, {}, {"r": 8})
    return config


@pytest.fixture
def deployed(trained: Config, backend: InMemoryBackend, ledger: Ledger, have: Callable[..., None]) -> Config:
    have("orders", rank_pattern={"down_proj": 16})
    have("travel")
    deploy(context(trained, backend, ledger))
    return trained


def test_one_endpoint_is_started_and_each_of_its_adapters_is_asked(
    deployed: Config, backend: InMemoryBackend, ledger: Ledger
) -> None:
    asked = [request["parameters"]["adapter"] for request in backend.requests]
    assert asked == ["chats", "orders", "travel"]
    [row] = ledger.rows(Endpoint, "chats")
    assert [(one.run, one.rank) for one in row.adapters] == [("chats", 8), ("orders", 16), ("travel", 4)]
    assert list(backend.endpoints) == ["chats"]
    assert deploy(context(deployed, backend, ledger)).adapters == ("chats", "orders", "travel")
    assert deploy(context(deployed, backend, ledger)).reused
    assert teardown(context(deployed, backend, ledger)).remaining == ()
    assert backend.endpoints == {}


def test_files_of_an_adapter_in_service_are_not_deleted(
    deployed: Config, make_config: Callable[..., Config], backend: InMemoryBackend, ledger: Ledger
) -> None:
    orders = context(make_config(name="orders"), backend, ledger)
    with pytest.raises(LorasumError, match="endpoint chats of run 'chats' serves its adapter") as error:
        teardown(orders, artifacts=True)
    assert error.value.hint == "tear down run 'chats' first"
    assert "orders-job" in backend.jobs
    teardown(context(deployed, backend, ledger))
    teardown(orders, artifacts=True)
    assert backend.jobs == {}


def test_predict_asks_the_adapter_it_names_with_that_runs_prompt(
    deployed: Config, backend: InMemoryBackend, ledger: Ledger, tmp_path: Path
) -> None:
    run = context(deployed, backend, ledger)
    backend.requests.clear()
    predict(run, "Ana: hi")
    predict(run, "Ana: hi", "orders")
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"dialogue": "Ana: hi"}\n')
    predict_file(run, rows, tmp_path / "out.jsonl", adapter="travel")
    asked = [(request["parameters"]["adapter"], request["inputs"]) for request in backend.requests]
    assert asked == [
        ("chats", ["Sum up: Ana: hi =>"]),
        ("orders", ["orders: Ana: hi =>"]),
        ("travel", ["travel: Ana: hi =>"]),
    ]


def test_an_unknown_adapter_is_refused_with_the_names_there_are(
    deployed: Config, backend: InMemoryBackend, ledger: Ledger, make_config: Callable[..., Config]
) -> None:
    backend.requests.clear()
    with pytest.raises(LorasumError, match="no adapter 'nobody'") as error:
        predict(context(deployed, backend, ledger), "Ana: hi", "nobody")
    assert error.value.hint == "it has chats, orders, travel"
    one_model = make_config()
    deploy(context(one_model, backend, ledger))
    with pytest.raises(LorasumError, match="no adapter 'orders'"):
        predict(context(one_model, backend, ledger), "Ana: hi", "orders")
    assert [request["parameters"].get("adapter") for request in backend.requests] == [None], "only deploy has asked"


def test_an_adapter_that_was_trained_anew_is_deployed_anew(
    deployed: Config, backend: InMemoryBackend, ledger: Ledger, tmp_path: Path
) -> None:
    [row] = ledger.rows(TrainingJob, "orders")
    newer = tmp_path / "orders-newer"
    write_adapter(newer, 2, {}, {})
    backend.jobs["orders-newer"] = JobState("completed")
    again = TrainingJob(run="orders", name="orders-newer", backend="local", origin=row.origin, artifact=str(newer))
    ledger.save(replace(ledger.intend(again), state="done"))
    reporter = RecordingReporter()
    assert not deploy(context(deployed, backend, ledger, reporter)).reused
    assert "adapter orders: that of its newest job, orders-newer" in reporter.steps


@pytest.mark.parametrize(
    ("travel", "said"),
    [
        ({"model": "org/other"}, "run 'travel' was trained on org/other, and run 'chats' on org/model"),
        ({"eos": 5}, "end a summary with different tokens"),
        ({"use_dora": True}, "run 'travel' has DoRA"),
        ({"target_parameters": ["experts.down_proj"]}, "an adapter on stacked experts"),
        ({"files": {"adapter/adapter_model.safetensors": {"bytes": 7, "sha256": "x"}}}, "has changed"),
        (None, "run 'travel', which has no trained model here"),
    ],
)
def test_what_cannot_share_an_endpoint_is_refused_before_it_starts(
    trained: Config,
    backend: InMemoryBackend,
    ledger: Ledger,
    have: Callable[..., None],
    travel: dict[str, Any] | None,
    said: str,
) -> None:
    have("orders")
    if travel is not None:
        have("travel", **travel)
    backend.files = {"adapter/adapter_model.safetensors": FileFacts(7, "y")}
    with pytest.raises(LorasumError, match=said):
        deploy(context(trained, backend, ledger))
    assert "start_endpoint" not in backend.calls
    assert ledger.rows(Endpoint, "chats") == []


def test_the_hugging_face_image_serves_no_second_adapter(make_config: Callable[..., Config]) -> None:
    several = {"deploy": {"adapters": ["orders"]}, "backend": "sagemaker"}
    with pytest.raises(ValidationError, match=r"needs sagemaker\.engine: vllm"):
        make_config(**several)
    assert make_config(**several, sagemaker={"engine": "vllm"}).deploy.adapters == ["orders"]
