"""train: one job per configuration, never two, resumed after whatever happened."""

import json
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path

import pytest
from memory_backend import DONE, InMemoryBackend, RecordingReporter, context

from engine.arguments import Arguments, parse_arguments
from lorasum.backends.records import JobState
from lorasum.commands.deploy import deploy
from lorasum.commands.status import status
from lorasum.commands.teardown import teardown
from lorasum.commands.train import plan_training, start_training, train
from lorasum.config.schema import Config
from lorasum.context import RunContext
from lorasum.errors import BackendError, ConfigError, LorasumError
from lorasum.ledger.ledger import Ledger
from lorasum.ledger.resources import TrainingJob
from lorasum.lifecycle import jobs
from lorasum.lifecycle.planning import hyperparameters
from lorasum.lifecycle.teardowns import TornDownError, note_teardown
from lorasum.lock import RunBusyError

MakeConfig = Callable[..., Config]


class Crash(BaseException):
    """The process ends here, and nobody tidies up."""


def crash() -> None:
    raise Crash


def interrupt() -> None:
    raise KeyboardInterrupt


def state(ledger: Ledger) -> str:
    [row] = ledger.rows(TrainingJob, "chats")
    return row.state


def test_hyperparameters_are_flags_of_the_training_script_as_text(make_config: MakeConfig) -> None:
    config = make_config(
        model={"id": "org/model", "revision": "v1"},
        lora={"targets": ["q_proj", "v_proj"]},
        training={"max_steps": 7, "gradient_checkpointing": True, "learning_rate": 2e-5},
        predict={"temperature": 0.5},
    )
    flags = hyperparameters(config)
    without_default = {"early_stopping_patience", "evaluate_every"}
    assert (
        set(flags) == {field.name for field in fields(Arguments)} - {"checkpoint_dir", "engine_base"} - without_default
    )
    given = make_config(training=dict.fromkeys(without_default, 2))
    assert without_default <= set(hyperparameters(given))
    read = parse_arguments([text for name, value in flags.items() for text in (f"--{name}", value)])
    assert (read.run_name, read.model_revision, read.max_steps, read.temperature) == ("chats", "v1", 7, 0.5)
    assert (read.lora_targets, read.gradient_checkpointing, read.learning_rate) == (("q_proj", "v_proj"), "true", 2e-5)


def test_a_hyperparameter_longer_than_sagemaker_takes_is_refused(make_config: MakeConfig) -> None:
    with pytest.raises(ConfigError, match="lora_targets is 349 characters"):
        hyperparameters(make_config(lora={"targets": ["q_proj"] * 50}))


def test_a_plan_names_one_job_per_config_and_starts_nothing(
    config: Config, make_config: MakeConfig, backend: InMemoryBackend, ledger: Ledger, told: RecordingReporter
) -> None:
    backend.price = 2.0
    plan = plan_training(context(config, backend, ledger, told))
    assert told.steps == [f"would start job {plan.job}, $2.00 an hour; nothing was started"]
    assert plan == plan_training(context(config, backend, ledger))
    assert plan.job != plan_training(context(make_config(lora={"r": 4}), backend, ledger)).job
    assert plan.hyperparameters["model_id"] == "org/model"
    assert ledger.rows(TrainingJob, "chats") == []


def test_intent_is_recorded_before_the_job_starts_and_figures_after(
    config: Config, backend: InMemoryBackend, ledger: Ledger, told: RecordingReporter
) -> None:
    seen: list[str] = []
    backend.before["start_training"] = lambda: seen.append(state(ledger))
    backend.before["follow_training"] = lambda: seen.append(state(ledger))
    result = train(context(config, backend, ledger, told))
    assert seen == ["intended", "live", "live"]
    assert state(ledger) == "done"
    assert (result.reused, result.train_loss, result.tokens) == (False, DONE.train_loss, DONE.tokens)
    assert told.events == backend.events


def test_a_completed_job_is_not_started_again_and_becomes_the_latest(
    config: Config, make_config: MakeConfig, backend: InMemoryBackend, ledger: Ledger
) -> None:
    first = train(context(config, backend, ledger))
    train(context(make_config(lora={"r": 4}), backend, ledger))
    again = train(context(config, backend, ledger))
    assert backend.calls.count("start_training") == 2
    assert again.reused
    assert (again.job, again.artifact, again.eval_loss) == (first.job, first.artifact, first.eval_loss)
    assert deploy(context(config, backend, ledger)).artifact == first.artifact


def test_a_job_that_runs_is_followed_even_when_the_ledger_was_lost(
    config: Config, backend: InMemoryBackend, ledger: Ledger
) -> None:
    backend.jobs[plan_training(context(config, backend, ledger)).job] = JobState("running")
    assert not train(context(config, backend, ledger)).reused
    assert "start_training" not in backend.calls
    assert state(ledger) == "done"


@pytest.mark.parametrize("healer", ["train", "status"])
def test_a_crash_between_intent_and_start_heals(
    config: Config, backend: InMemoryBackend, ledger: Ledger, healer: str
) -> None:
    backend.before["start_training"] = crash
    with pytest.raises(Crash):
        train(context(config, backend, ledger))
    assert state(ledger) == "intended"
    backend.before.clear()
    if healer == "train":
        train(context(config, backend, ledger))
    else:
        status([backend], ledger)
    assert state(ledger) == ("done" if healer == "train" else "gone")


@pytest.mark.parametrize("events_left", [True, False])
def test_a_crash_while_following_loses_no_figures(
    config: Config, backend: InMemoryBackend, ledger: Ledger, tmp_path: Path, events_left: bool
) -> None:
    backend.before["follow_training"] = crash
    backend.artifacts = f"{tmp_path}/"
    with pytest.raises(Crash):
        train(context(config, backend, ledger))
    backend.before.clear()
    job = plan_training(context(config, backend, ledger)).job
    backend.jobs[job] = JobState("completed")
    if not events_left:
        backend.events = []
        (tmp_path / job).mkdir()
        (tmp_path / job / "lorasum.json").write_text(json.dumps({"training": asdict(DONE)}))
    assert train(context(config, backend, ledger)).tokens == DONE.tokens


def test_a_failed_job_says_why_and_the_same_command_starts_it_again(
    config: Config, backend: InMemoryBackend, ledger: Ledger
) -> None:
    backend.outcome = JobState("failed", "no space left on the disk", "free some disk")
    with pytest.raises(BackendError, match="failed: no space left on the disk") as error:
        train(context(config, backend, ledger))
    assert error.value.hint == "free some disk"
    assert state(ledger) == "failed"
    backend.outcome = JobState("completed")
    train(context(config, backend, ledger))
    assert state(ledger) == "done"


def test_a_job_that_cannot_be_started_is_on_record_as_failed(
    config: Config, backend: InMemoryBackend, ledger: Ledger
) -> None:
    def refuse() -> None:
        raise BackendError("no quota", "ask for some")

    backend.before["start_training"] = refuse
    with pytest.raises(BackendError, match="no quota"):
        train(context(config, backend, ledger))
    assert state(ledger) == "failed"


def test_ctrl_c_stops_a_local_job_and_says_where(config: Config, backend: InMemoryBackend, ledger: Ledger) -> None:
    def interrupt_once() -> None:
        backend.before.clear()
        interrupt()

    backend.before["follow_training"] = interrupt_once
    with pytest.raises(LorasumError, match="training stopped at step 3 of 9") as error:
        train(context(config, backend, ledger))
    assert "resumes" in error.value.hint
    [row] = ledger.rows(TrainingJob, "chats")
    assert (row.state, row.reason) == ("stopped", f"interrupted at step 3 of 9; {error.value.hint}")
    assert backend.live("chats") == []


def test_ctrl_c_again_while_the_job_stops_leaves_it_on_record_as_live(
    config: Config, backend: InMemoryBackend, ledger: Ledger
) -> None:
    backend.before = {"follow_training": interrupt, "stop_training": interrupt}
    with pytest.raises(KeyboardInterrupt):
        train(context(config, backend, ledger))
    assert state(ledger) == "live"


def test_a_job_that_can_no_longer_be_followed_is_said_to_go_on(
    config: Config, backend: InMemoryBackend, ledger: Ledger, told: RecordingReporter
) -> None:
    def lose_the_network() -> None:
        raise BackendError("cannot look at the job: the network is down")

    backend.before["follow_training"] = lose_the_network
    with pytest.raises(BackendError, match="network is down"):
        train(context(config, backend, ledger, told))
    [name] = backend.jobs
    assert told.warnings == [
        f"job {name} may still run: the same command follows it again, `lorasum teardown` stops it"
    ]


def test_ctrl_c_without_a_network_says_at_once_that_the_job_goes_on(config: Config, ledger: Ledger) -> None:
    backend = InMemoryBackend("sagemaker", stops_on_interrupt=False)

    def lose_the_network() -> None:
        raise BackendError("cannot look for the job: the network is down")

    def lose_it_and_interrupt() -> None:
        backend.before["find_training"] = lose_the_network
        raise KeyboardInterrupt

    backend.before["follow_training"] = lose_it_and_interrupt
    with pytest.raises(LorasumError, match=r"no longer following job .*, which continues"):
        train(context(config, backend, ledger))


def test_ctrl_c_while_a_job_is_only_to_be_started_names_it(config: Config, ledger: Ledger) -> None:
    backend = InMemoryBackend("sagemaker", stops_on_interrupt=False)
    backend.before["training_started"] = interrupt
    with pytest.raises(LorasumError, match="which continues before its first step") as error:
        start_training(context(config, backend, ledger))
    [running] = backend.live("chats")
    assert running.name in error.value.message
    assert "lorasum teardown" in error.value.hint


def test_ctrl_c_leaves_a_job_elsewhere_running(config: Config, ledger: Ledger) -> None:
    backend = InMemoryBackend("sagemaker", stops_on_interrupt=False)
    backend.before["follow_training"] = interrupt
    with pytest.raises(LorasumError, match="continues at step 3 of 9"):
        train(context(config, backend, ledger))
    assert state(ledger) == "live"
    assert len(backend.live("chats")) == 1


def test_a_second_configuration_waits_for_the_first(
    config: Config, make_config: MakeConfig, backend: InMemoryBackend, ledger: Ledger
) -> None:
    backend.before["follow_training"] = crash
    with pytest.raises(Crash):
        train(context(config, backend, ledger))
    with pytest.raises(RunBusyError, match="still training job chats-"):  # exit code 5: it can be tried again
        train(context(make_config(lora={"r": 4}), backend, ledger))
    assert backend.calls.count("start_training") == 1


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"name": "other"}, "run 'other' has no prepared data"),
        ({"model": {"id": "org/another"}}, "prepared: model.id"),
        ({"data": {"dataset": "d", "max_length": 9}}, "prepared: data.template, data.max_length"),
    ],
)
def test_train_refuses_a_dataset_of_another_config(
    make_config: MakeConfig,
    prepared: Path,
    backend: InMemoryBackend,
    ledger: Ledger,
    sections: dict[str, object],
    message: str,
) -> None:
    with pytest.raises(LorasumError, match=message) as error:
        train(context(make_config(**sections), backend, ledger))
    assert "lorasum prepare" in error.value.hint
    assert backend.calls == []


def test_a_job_that_found_no_instance_is_started_again(
    config: Config, backend: InMemoryBackend, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "WAITS_FOR_AN_INSTANCE", (0.0, 0.0))
    backend.outcome = JobState("failed", "CapacityError: none is free", no_capacity=True)

    def one_is_free_at_the_third_start() -> None:
        if backend.calls.count("start_training") == 3:
            backend.outcome = JobState("completed")

    backend.before["start_training"] = one_is_free_at_the_third_start
    said = RecordingReporter()
    train(context(config, backend, ledger, said))
    assert state(ledger) == "done"
    assert len([step for step in said.steps if "no instance was free" in step]) == 2


@pytest.mark.parametrize(("no_capacity", "starts"), [(True, 3), (False, 1)])
def test_waiting_for_an_instance_ends_and_other_failures_do_not_wait(
    config: Config,
    backend: InMemoryBackend,
    ledger: Ledger,
    monkeypatch: pytest.MonkeyPatch,
    no_capacity: bool,
    starts: int,
) -> None:
    monkeypatch.setattr(jobs, "WAITS_FOR_AN_INSTANCE", (0.0, 0.0))
    backend.outcome = JobState("failed", "CapacityError: none is free", no_capacity=no_capacity)
    with pytest.raises(BackendError, match="none is free"):
        train(context(config, backend, ledger))
    assert backend.calls.count("start_training") == starts


def test_a_train_that_waits_for_an_instance_notices_a_teardown(
    config: Config, backend: InMemoryBackend, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It started its job up to half an hour after a teardown that had said that nothing is left."""
    monkeypatch.setattr(jobs, "WAITS_FOR_AN_INSTANCE", (0.0,))
    backend.outcome = JobState("failed", "CapacityError: none is free", no_capacity=True)
    said = RecordingReporter()

    def tear_down_while_it_waits(step: str) -> None:
        if "no instance was free" in step:
            assert teardown(context(config, backend, ledger)).remaining == ()

    monkeypatch.setattr(said, "step", tear_down_while_it_waits)
    with pytest.raises(TornDownError, match="was torn down meanwhile"):
        train(context(config, backend, ledger, said))
    assert backend.calls.count("start_training") == 1
    backend.outcome = JobState("completed")
    train(context(config, backend, ledger))


@pytest.mark.usefixtures("prepared")
@pytest.mark.parametrize("command", [train, start_training])
def test_a_job_torn_down_while_it_is_started_is_stopped(
    config: Config, backend: InMemoryBackend, ledger: Ledger, command: Callable[[RunContext], object]
) -> None:
    """Starting it may upload a model, which takes an hour; the teardown has given up after ten seconds."""
    run = context(config, backend, ledger)
    backend.before["start_training"] = lambda: note_teardown(run.name)
    with pytest.raises(TornDownError, match="was torn down meanwhile"):
        command(run)
    assert [job.status for job in backend.jobs.values()] == ["stopped"]
    assert state(ledger) == "gone"
