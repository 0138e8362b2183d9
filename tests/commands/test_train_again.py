"""train, where the container scripts, the image or the instance type are no longer those of the job: nothing is paid
twice unless asked for, and nothing is ignored in silence."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from memory_backend import DONE, STEP, InMemoryBackend, RecordingReporter, context

from lorasum.backends.records import JobState
from lorasum.commands.deploy import deploy
from lorasum.commands.train import start_training, to_be_spent, train
from lorasum.config.schema import Config
from lorasum.errors import BackendError, InterruptedRunError, LorasumError
from lorasum.ledger.ledger import Ledger
from lorasum.ledger.resources import TrainingJob
from lorasum.shared.events import MERGE_LEFT_OUT
from lorasum.shared.names import RECORD_FILE
from lorasum.shared.records import ArtifactRecord, record_text

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
    dataset = ledger.latest_dataset("chats")
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
    assert (anew.job != job, steps_of(backend)) == (True, ["", job])
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


NOT_MERGED = replace(DONE, not_merged="what was learnt is lost in rounding")


def steps_of(backend: InMemoryBackend) -> list[str]:
    """The job whose checkpoints each job went on from."""
    return [spec.checkpoints for spec in backend.specs.values()]


def test_another_merge_dtype_repeats_no_step_of_the_job_that_was_taken(
    make_config: Callable[..., Config], backend: InMemoryBackend, ledger: Ledger, made_before: str
) -> None:
    """Nor does it take those of an older job, which another one was made in the place of."""
    backend.events = [STEP, NOT_MERGED]
    anew = train(context(make_config(), backend, ledger), again=True).job
    for dtype in ("float32", "bfloat16"):
        merged = make_config(training={"merge_dtype": dtype, "logging_steps": 5})
        assert not train(context(merged, backend, ledger)).reused
    assert steps_of(backend) == ["", "", anew, anew]


def test_another_merge_dtype_does_not_go_on_from_a_job_that_has_not_ended(
    make_config: Callable[..., Config], backend: InMemoryBackend, ledger: Ledger, made_before: str
) -> None:
    backend.jobs[made_before] = JobState("stopped")
    train(context(make_config(training={"merge_dtype": "float32"}), backend, ledger))
    assert steps_of(backend) == ["", ""]


def test_scripts_that_can_merge_repeat_no_step(
    config: Config, backend: InMemoryBackend, ledger: Ledger, told: RecordingReporter
) -> None:
    """An attempt that was stopped neither. What has a merged model is trained by the scripts of today."""
    backend.events = [STEP, NOT_MERGED]
    first = train(context(config, backend, ledger)).job
    backend.scripts, backend.outcome = NEWER, JobState("stopped")
    train(context(config, backend, ledger, told))
    assert "`lorasum train --again` merges again, and repeats no step" in told.warnings[-1]
    with pytest.raises(BackendError):
        train(context(config, backend, ledger), again=True)
    backend.events, backend.outcome = [DONE], JobState("completed")
    train(context(config, backend, ledger), again=True)
    assert steps_of(backend) == ["", first]
    backend.scripts = {"container scripts": "3"}
    train(context(config, backend, ledger), again=True)
    assert steps_of(backend) == ["", first, ""]


def test_a_merge_that_would_be_refused_again_is_not_offered(
    make_config: Callable[..., Config],
    prepared: Path,
    backend: InMemoryBackend,
    ledger: Ledger,
    told: RecordingReporter,
) -> None:
    backend.events = [STEP, NOT_MERGED]
    train(context(make_config(), backend, ledger))
    other = train(context(make_config(training={"logging_steps": 5}), backend, ledger, told))
    assert other.changed == ("training.logging_steps",)
    assert told.warnings[-1].endswith("what was learnt is lost in rounding")


def test_a_job_that_only_merges_is_not_held_to_the_time_of_its_steps(
    make_config: Callable[..., Config], prepared: Path, backend: InMemoryBackend, ledger: Ledger
) -> None:
    split = {"examples": 90, "packs": 10, "tokens": 4_000, "completion_tokens": 900, "longest_example_tokens": 60}
    manifest = json.loads((prepared / "manifest.json").read_text())
    (prepared / "manifest.json").write_text(json.dumps(manifest | {"splits": {"train": split | {"fill": 0.9}}}))
    backend.price, backend.events = 2.0, [STEP, replace(NOT_MERGED, tokens_per_second=0.1)]
    job = train(context(make_config(), backend, ledger)).job
    longer = {"limits": {"max_hours": 20}}
    with pytest.raises(LorasumError, match="this job needs"):
        train(context(make_config(training={"epochs": 4}, **longer), backend, ledger))
    row = ledger.find(TrainingJob, "chats", job)
    assert row is not None
    ledger.note(replace(row, hyperparameters={}))  # as after `status --rebuild`
    merges = context(make_config(training={"merge_dtype": "float32"}, **longer), backend, ledger)
    said = f"it merges what job {job} has trained, and repeats no step"
    assert to_be_spent(merges).endswith(f"{said}; onto org/model as it is now: no commit pins it")
    assert not train(merges).reused


LEFT_OUT = replace(DONE, not_merged=MERGE_LEFT_OUT)


@pytest.fixture
def adapter_alone(make_config: Callable[..., Config], prepared: Path, backend: InMemoryBackend, ledger: Ledger) -> str:
    """A completed job of `deploy.serve: adapter`. Later ones merge."""
    backend.events = [STEP, LEFT_OUT]
    job = train(context(make_config(deploy={"serve": "adapter"}), backend, ledger)).job
    backend.events = [DONE]
    return job


def test_a_merge_that_was_left_out_is_made_once_and_without_a_step(
    make_config: Callable[..., Config],
    backend: InMemoryBackend,
    ledger: Ledger,
    told: RecordingReporter,
    adapter_alone: str,
) -> None:
    assert [spec.adapter_only for spec in backend.specs.values()] == [True]
    adapter, merged = make_config(deploy={"serve": "adapter"}), make_config()
    assert train(context(adapter, backend, ledger, told)).reused
    assert told.warnings == []
    backend.price = 1.5
    offer = f"it merges what job {adapter_alone} has trained, and repeats no step"
    assert offer in to_be_spent(context(merged, backend, ledger))
    job = train(context(merged, backend, ledger)).job
    assert [(one.checkpoints, one.adapter_only) for one in backend.specs.values()] == [
        ("", True),
        (adapter_alone, False),
    ]
    for config in (merged, adapter):
        assert train(context(config, backend, ledger)).job == deploy(context(config, backend, ledger)).job == job
    assert len(backend.jobs) == 2


def test_a_merge_that_failed_is_tried_again_without_a_step(
    make_config: Callable[..., Config], backend: InMemoryBackend, ledger: Ledger, adapter_alone: str
) -> None:
    backend.outcome = JobState("failed")
    with pytest.raises(BackendError):
        train(context(make_config(), backend, ledger))
    backend.outcome = JobState("completed")
    train(context(make_config(), backend, ledger))
    assert steps_of(backend) == ["", adapter_alone]


def test_another_machine_merges_what_was_left_out_too(
    make_config: Callable[..., Config],
    backend: InMemoryBackend,
    ledger: Ledger,
    prepared: Path,
    tmp_path: Path,
    adapter_alone: str,
) -> None:
    """From the artifact's record: it has no ledger of the job. What one has merged, the other one takes."""
    backend.artifacts = f"{tmp_path}/"
    (tmp_path / adapter_alone).mkdir()
    record = ArtifactRecord(
        format=1, run="chats", base_model="m", base_revision=None, template="{dialogue}", eos_token_id=1,
        control_tokens=(), dataset_fingerprint="", generation={}, training=LEFT_OUT, versions={},
    )  # fmt: skip
    (tmp_path / adapter_alone / RECORD_FILE).write_text(record_text(record))
    dataset = ledger.latest_dataset("chats")
    assert dataset is not None
    ledger.path.unlink()
    jobs = []
    for _ in range(2):
        elsewhere = Ledger()
        elsewhere.save(replace(elsewhere.intend(dataset), state="done"))
        jobs.append(train(context(make_config(), backend, elsewhere)).job)
        elsewhere.path.unlink()
    assert steps_of(backend) == ["", adapter_alone]
    assert set(jobs) == {*backend.jobs} - {adapter_alone}


def test_a_merge_with_another_length_of_summaries_repeats_no_step(
    make_config: Callable[..., Config], backend: InMemoryBackend, ledger: Ledger, adapter_alone: str
) -> None:
    longer = context(make_config(predict={"max_new_tokens": 256}), backend, ledger)
    job = train(longer).job
    assert (deploy(longer).job, train(longer).job) == (job, job)
    assert steps_of(backend) == ["", adapter_alone]


def test_following_a_job_that_leaves_the_merge_out_names_what_merges(
    make_config: Callable[..., Config],
    prepared: Path,
    backend: InMemoryBackend,
    ledger: Ledger,
    told: RecordingReporter,
) -> None:
    start_training(context(make_config(deploy={"serve": "adapter"}), backend, ledger))
    backend.events = [STEP, LEFT_OUT]
    train(context(make_config(), backend, ledger, told))
    assert told.warnings[-1].endswith("the merge was left out; the same command merges it, and repeats no step")
    assert not train(context(make_config(), backend, ledger)).reused


@pytest.mark.parametrize("serve", ["adapter", "merged"])
def test_other_scripts_train_anew_where_no_merge_was_refused(
    make_config: Callable[..., Config], backend: InMemoryBackend, ledger: Ledger, adapter_alone: str, serve: str
) -> None:
    backend.scripts = NEWER
    train(context(make_config(deploy={"serve": serve}), backend, ledger), again=True)
    assert steps_of(backend) == ["", ""]
