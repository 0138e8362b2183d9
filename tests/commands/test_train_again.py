"""train, where the container scripts, the image or the instance type are no longer those of the job: nothing is paid
twice unless asked for, and nothing is ignored in silence."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from memory_backend import InMemoryBackend, RecordingReporter, context

from lorasum.backends.records import JobState
from lorasum.commands.deploy import deploy
from lorasum.commands.train import start_training, to_be_spent, train
from lorasum.config.schema import Config
from lorasum.errors import InterruptedRunError
from lorasum.ledger.ledger import Ledger
from lorasum.ledger.resources import Dataset

NEWER = {"container scripts": "2"}


@pytest.fixture
def made_before(config: Config, backend: InMemoryBackend, ledger: Ledger) -> str:
    """A completed job, whose container scripts are others than today's."""
    job = train(context(config, backend, ledger)).job
    backend.scripts = NEWER
    backend.calls.clear()
    return job


def test_a_finished_job_of_other_scripts_is_used_and_told_of(
    config: Config, backend: InMemoryBackend, ledger: Ledger, told: RecordingReporter, made_before: str
) -> None:
    result = train(context(config, backend, ledger, told))
    assert (result.job, result.reused, result.changed) == (made_before, True, ("container scripts",))
    assert "start_training" not in backend.calls
    assert "it was made with other container scripts than now; `lorasum train --again` makes another" in told.steps


def test_train_again_starts_one_job_which_later_commands_use(
    config: Config, backend: InMemoryBackend, ledger: Ledger, made_before: str
) -> None:
    backend.price = 1.5
    assert to_be_spent(context(config, backend, ledger)) == ""
    assert "$1.50" in to_be_spent(context(config, backend, ledger), again=True)
    anew = train(context(config, backend, ledger), again=True)
    assert anew.job != made_before
    assert not anew.reused
    assert train(context(config, backend, ledger), again=True).job == anew.job
    later = train(context(config, backend, ledger))
    assert (later.job, later.changed) == (anew.job, ())
    assert backend.calls.count("start_training") == 1
    assert deploy(context(config, backend, ledger)).job == anew.job


def test_ctrl_c_while_another_is_started_stops_that_one(
    config: Config, backend: InMemoryBackend, ledger: Ledger, made_before: str
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    backend.before["training_started"] = interrupt
    with pytest.raises(InterruptedRunError, match="training stopped"):
        train(context(config, backend, ledger), again=True)
    assert [name for name, state in backend.jobs.items() if state.status == "stopped"] == [*backend.jobs][1:]
    assert backend.live("chats") == []


def test_train_again_starts_nothing_if_nothing_has_changed(
    config: Config, backend: InMemoryBackend, ledger: Ledger
) -> None:
    first = train(context(config, backend, ledger), again=True)
    assert train(context(config, backend, ledger), again=True).job == first.job
    assert backend.calls.count("start_training") == 1


def test_scripts_that_change_once_more_leave_the_newest_job_in_place(
    config: Config, backend: InMemoryBackend, ledger: Ledger, made_before: str
) -> None:
    second = train(context(config, backend, ledger), again=True).job
    backend.scripts = {"container scripts": "3"}
    kept = train(context(config, backend, ledger))
    assert (kept.job, kept.changed) == (second, ("container scripts",))
    assert train(context(config, backend, ledger), again=True).job not in (made_before, second)


def test_a_job_that_did_not_finish_goes_on_with_the_scripts_of_today(
    config: Config, backend: InMemoryBackend, ledger: Ledger, made_before: str
) -> None:
    backend.jobs[made_before] = JobState("stopped")
    assert train(context(config, backend, ledger)).job == made_before
    assert backend.made[made_before] == NEWER


def test_train_again_resumes_its_own_unfinished_job(
    config: Config, backend: InMemoryBackend, ledger: Ledger, made_before: str
) -> None:
    anew = start_training(context(config, backend, ledger), again=True).job
    backend.jobs[anew] = JobState("stopped")
    assert train(context(config, backend, ledger)).job == made_before
    assert train(context(config, backend, ledger), again=True).job == anew


def test_a_job_of_a_version_that_recorded_nothing_is_used_as_it_is(
    config: Config, backend: InMemoryBackend, ledger: Ledger, made_before: str
) -> None:
    backend.made.clear()
    assert train(context(config, backend, ledger)).changed == ()


def test_a_colleagues_finished_job_is_found_without_any_record(
    config: Config, backend: InMemoryBackend, ledger: Ledger, made_before: str
) -> None:
    dataset = ledger.latest(Dataset, "chats", "done")
    assert dataset is not None
    ledger.path.unlink()
    of_another_machine = Ledger()
    of_another_machine.save(replace(of_another_machine.intend(dataset), state="done"))
    result = train(context(config, backend, of_another_machine))
    assert (result.job, result.changed) == (made_before, ("container scripts",))
    assert "start_training" not in backend.calls


def test_settings_that_decide_about_no_weight_train_nothing_anew(
    make_config: Callable[..., Config],
    config: Config,
    backend: InMemoryBackend,
    ledger: Ledger,
    told: RecordingReporter,
) -> None:
    backend.price = 1.5
    job = train(context(config, backend, ledger)).job
    longer = make_config(predict={"max_new_tokens": 256}, training={"epochs": 3.0, "logging_steps": 5})
    assert to_be_spent(context(longer, backend, ledger)) == ""
    assert deploy(context(longer, backend, ledger, told)).job == job
    result = train(context(longer, backend, ledger, told))
    assert (result.job, result.changed) == (job, ("predict.max_new_tokens", "training.logging_steps"))
    other = "other predict.max_new_tokens and training.logging_steps"
    assert f"job {job} was trained with {other}, with the same weights" in told.steps
    anew = train(context(longer, backend, ledger), again=True)
    assert anew.job != job
    assert [deploy(context(one, backend, ledger)).job for one in (longer, config)] == [anew.job, job]


def test_a_default_that_is_written_out_is_the_same_job(
    make_config: Callable[..., Config], config: Config, backend: InMemoryBackend, ledger: Ledger
) -> None:
    job = train(context(config, backend, ledger)).job
    written = make_config(predict={"temperature": 0.0}, training={"epochs": 3.0, "checkpoint_minutes": 10.0})
    for again in (False, True):
        result = train(context(written, backend, ledger), again=again)
        assert (result.job, result.changed) == (job, ())


def test_the_length_of_summaries_that_are_scored_decides_about_weights(
    make_config: Callable[..., Config], prepared: Path, backend: InMemoryBackend, ledger: Ledger
) -> None:
    scored = {"evaluate": "rougeL", "keep": "best"}
    job = train(context(make_config(training=scored), backend, ledger)).job
    longer = make_config(training=scored, predict={"max_new_tokens": 256})
    assert train(context(longer, backend, ledger)).job != job
