"""teardown leaves nothing running, and proves it; status tells what is so, not what was."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from memory_backend import DONE, Clock, InMemoryBackend, RecordingReporter, context

from lorasum.backends.base import RunningResource
from lorasum.backends.records import EndpointRef, EndpointState, JobState
from lorasum.cli.backends import recorded
from lorasum.commands.deploy import deploy
from lorasum.commands.predict import predict
from lorasum.commands.run import run
from lorasum.commands.status import status
from lorasum.commands.teardown import plan_all, plan_teardown, teardown, teardown_all
from lorasum.commands.train import plan_training, train
from lorasum.config.schema import Config
from lorasum.errors import BackendError, LorasumError, OutageError
from lorasum.ledger.ledger import Ledger
from lorasum.ledger.resources import OPEN, BatchJob, Endpoint, Origin, ResourceState, TrainingJob, Unreadable
from lorasum.lifecycle.teardowns import TeardownWatch, TornDownError
from lorasum.reporting import Silent
from lorasum.results.overview import Progress, ResourceStatus
from lorasum.system import paths


def states(ledger: Ledger) -> dict[str, str]:
    return {f"{row.kind} {row.name}": row.state for row in ledger.resources()}


def refuse() -> None:
    raise BackendError("no answer from there")


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.fixture
def deployed(config: Config, backend: InMemoryBackend, ledger: Ledger) -> Config:
    train(context(config, backend, ledger))
    deploy(context(config, backend, ledger))
    return config


def test_teardown_does_what_it_planned_and_nothing_the_second_time(
    deployed: Config, backend: InMemoryBackend, ledger: Ledger
) -> None:
    assert plan_teardown(context(deployed, backend, ledger)) == ["delete endpoint chats"]
    result = teardown(context(deployed, backend, ledger))
    assert (list(map(str, result.removed)), result.remaining) == (["endpoint chats"], ())
    assert backend.endpoints == {}
    assert states(ledger)["endpoint chats"] == "gone"
    assert plan_teardown(context(deployed, backend, ledger)) == []
    assert teardown(context(deployed, backend, ledger)).removed == ()


def test_a_run_that_is_not_on_record_is_named_with_those_that_may_run(
    deployed: Config, backend: InMemoryBackend, ledger: Ledger, told: RecordingReporter
) -> None:
    """As after `name` was changed in the YAML file: "nothing was running" would leave the endpoint to be billed."""
    renamed = deployed.model_copy(update={"name": "support"})
    teardown(context(renamed, backend, ledger, told))
    others = "these may run: chats; `lorasum teardown --all` ends them"
    assert told.warnings == [f"nothing is on record of run support in {paths.home()}; {others}"]
    ledger.warn = told.warnings.append
    status([backend], ledger, "support")
    assert told.warnings[1:] == ["of other runs these may run: chats; `lorasum status` shows them"]
    for _ in range(2):
        teardown(context(deployed, backend, ledger, told))
    assert len(told.warnings) == 2


@pytest.mark.parametrize(("price", "said"), [(2.0, 1), (0.0, 0)])
def test_teardown_names_the_files_that_are_still_billed(
    config: Config, backend: InMemoryBackend, ledger: Ledger, price: float, said: int
) -> None:
    backend.price = price
    train(context(config, backend, ledger))
    told = RecordingReporter()
    teardown(context(config, backend, ledger, told))
    assert len([step for step in told.steps if step.startswith("what stays is billed") and "jobs" in step]) == said
    told.steps.clear()
    teardown(context(config, backend, ledger, told), data=True, artifacts=True)
    assert not any("stays" in step for step in told.steps)


@pytest.mark.parametrize(("name", "found"), [("local", False), ("sagemaker", True)])
def test_a_run_that_cannot_be_locked_is_found_from_elsewhere_on_aws(
    config: Config, ledger: Ledger, name: str, found: bool
) -> None:
    (paths.run_dir(config.name) / "lock").mkdir(parents=True)  # so that no such file can be made
    with pytest.raises(LorasumError, match="cannot lock run") as refused:
        teardown(context(config, InMemoryBackend(name), ledger))
    assert ("SageMaker" in refused.value.hint) == found


def test_files_that_cannot_be_listed_do_not_fail_a_teardown(
    config: Config, backend: InMemoryBackend, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend.price = 2.0
    monkeypatch.setattr(backend, "stored_files", lambda *_: refuse())
    told = RecordingReporter()
    assert teardown(context(config, backend, ledger, told)).remaining == ()
    assert [line for line in told.warnings if "it is unknown which files" in line]


def test_what_is_on_record_goes_where_nobody_may_list(
    deployed: Config, backend: InMemoryBackend, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "live", lambda _: refuse())
    told = RecordingReporter()
    with pytest.raises(BackendError, match="no answer from there"):  # nobody can tell that nothing is left
        teardown(context(deployed, backend, ledger, told))
    assert backend.endpoints == {}
    assert states(ledger)["endpoint chats"] == "gone"
    assert "only what is on record is looked for" in told.warnings[0]


@pytest.mark.parametrize("method", ["live", "delete_endpoint", "stop_training"])
def test_teardown_goes_on_through_an_outage(
    deployed: Config, backend: InMemoryBackend, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """It ended, and what it had not removed yet was billed until somebody looked."""
    monkeypatch.setattr("lorasum.commands.teardown._BETWEEN_TRIES", 0.0)
    answered, faults = getattr(backend, method), iter([True, True])

    def fail_first(*args: object) -> object:
        if next(faults, False):
            raise OutageError("the network is down")
        return answered(*args)

    monkeypatch.setattr(backend, method, fail_first)
    backend.jobs["chats-12345678"] = JobState("running")
    told = RecordingReporter()
    result = teardown(context(deployed, backend, ledger, told))
    assert (len(result.removed), result.remaining, backend.live("chats")) == (2, (), [])
    assert told.steps.count("it answers again") == 1


def test_teardown_finds_what_the_ledger_does_not_know(config: Config, backend: InMemoryBackend, ledger: Ledger) -> None:
    backend.jobs["chats-12345678"] = JobState("running")
    backend.endpoints["chats"] = EndpointRef("chats", "url", "artifact")
    result = teardown(context(config, backend, ledger))
    assert set(map(str, result.removed)) == {"training job chats-12345678", "endpoint chats"}
    assert backend.live("chats") == []


def test_teardown_finds_what_only_the_ledger_knows(deployed: Config, backend: InMemoryBackend, ledger: Ledger) -> None:
    backend.live = lambda run: []  # type: ignore[method-assign]
    assert list(map(str, teardown(context(deployed, backend, ledger)).removed)) == ["endpoint chats (url:chats)"]


def test_teardown_stops_a_running_job_and_train_starts_it_again(
    config: Config, backend: InMemoryBackend, ledger: Ledger
) -> None:
    backend.stops_on_interrupt = False
    backend.before["follow_training"] = interrupt
    with pytest.raises(LorasumError):
        train(context(config, backend, ledger))
    backend.before.clear()
    assert teardown(context(config, backend, ledger)).remaining == ()
    [job] = ledger.rows(TrainingJob, "chats")
    assert (job.state, backend.jobs[job.name].status) == ("gone", "stopped")
    assert not train(context(config, backend, ledger)).reused


def test_what_cannot_be_removed_remains_and_the_rest_is_removed(
    deployed: Config, backend: InMemoryBackend, ledger: Ledger, told: RecordingReporter
) -> None:
    backend.jobs["chats-12345678"] = JobState("running")
    backend.before["delete_endpoint"] = refuse
    result = teardown(context(deployed, backend, ledger, told), data=True)
    assert list(map(str, result.removed)) == ["training job chats-12345678"]
    assert list(map(str, result.remaining)) == ["endpoint chats: no answer from there"]
    assert states(ledger)["endpoint chats"] == "live"
    assert told.warnings == ["no answer from there", "no files were deleted, because something still runs"]
    assert next(iter(Path(ledger.path).parent.rglob("manifest.json")))


def test_what_runs_on_another_backend_remains(deployed: Config, ledger: Ledger) -> None:
    elsewhere = InMemoryBackend("sagemaker")
    [left] = teardown(context(deployed, elsewhere, ledger)).remaining
    assert (left.name, left.backend) == ("chats", "local")
    assert str(left) == "endpoint chats (url:chats): it is on backend local, which was not asked"
    with pytest.raises(LorasumError, match="no endpoint in service"):
        predict(context(deployed, elsewhere, ledger), "Ana: hi")


def test_files_go_when_asked_and_the_run_begins_anew(
    deployed: Config, backend: InMemoryBackend, ledger: Ledger, prepared: Path
) -> None:
    assert len(plan_teardown(context(deployed, backend, ledger), data=True, artifacts=True)) == 3
    result = teardown(context(deployed, backend, ledger), data=True, artifacts=True)
    assert (list(map(str, result.removed)), result.deleted) == (["endpoint chats"], (str(prepared.parent), "jobs"))
    assert not prepared.exists()
    assert set(states(ledger).values()) == {"gone"}
    with pytest.raises(LorasumError, match="no prepared data"):
        train(context(deployed, backend, ledger))
    assert teardown(context(deployed, backend, ledger), data=True).deleted == ()


def test_teardown_of_a_run_that_never_was(make_config: Callable[..., Config], ledger: Ledger) -> None:
    result = teardown(context(make_config(), InMemoryBackend(), ledger), data=True, artifacts=False)
    assert (result.removed, result.remaining) == ((), ())


def test_status_tells_an_endpoint_that_died_and_a_job_that_finished(
    deployed: Config, make_config: Callable[..., Config], backend: InMemoryBackend, ledger: Ledger
) -> None:
    backend.before["follow_training"] = interrupt
    backend.stops_on_interrupt = False
    with pytest.raises(LorasumError):
        train(context(make_config(lora={"r": 4}), backend, ledger))
    job = ledger.rows(TrainingJob, "chats")[-1].name
    backend.before.clear()
    ledger.save(replace(ledger.rows(TrainingJob, "chats")[-1], instance_type="ml.g5.2xlarge"))
    backend.jobs[job] = JobState("completed")
    backend.endpoints.clear()
    assert states(ledger)[f"training_job {job}"] == states(ledger)["endpoint chats"] == "live"
    shown = {row.name: row for row in status([backend], ledger).resources}
    assert (shown[job].state, shown["chats"].state) == ("done", "gone")
    assert shown[job].progress == Progress(train_loss=DONE.train_loss, eval_loss=DONE.eval_loss)
    first = ledger.rows(TrainingJob, "chats")[0].name
    assert (shown["chats"].job, shown["chats"].instance_type) == (first, None)
    assert (shown[job].job, shown[job].instance_type) == (None, "ml.g5.2xlarge")


def jobs(backend: InMemoryBackend, ledger: Ledger) -> dict[str, ResourceStatus]:
    """What status says of training jobs."""
    shown = status([backend], ledger).resources
    return {row.name: row for row in shown if row.kind == "training_job"}


def test_status_tells_an_instance_that_is_kept_warm_until_it_is_gone(
    config: Config, make_config: Callable[..., Config], backend: InMemoryBackend, ledger: Ledger
) -> None:
    backend.price = backend.billed = 2.0
    job = plan_training(context(config, backend, ledger)).job
    backend.warm = {job}
    artifact = train(context(config, backend, ledger)).artifact
    since = jobs(backend, ledger)[job].updated_at
    newer = train(context(make_config(lora={"r": 4}), backend, ledger))  # which a warm instance does not forbid
    backend.billed = 3.0
    shown = jobs(backend, ledger)
    assert (shown[job].state, shown[job].kept_warm, shown[job].usd) == ("done", True, 3.0)
    assert (shown[job].updated_at, shown[newer.job].kept_warm) == (since, False)
    assert deploy(context(config, backend, ledger), newer.job).artifact == newer.artifact
    again = train(context(config, backend, ledger))
    assert (again.reused, again.artifact) == (True, artifact)
    assert backend.calls.count("start_training") == 2
    deploy(context(config, backend, ledger))

    backend.warm.clear()
    backend.billed = 4.0
    shown = jobs(backend, ledger)
    assert (shown[job].state, shown[job].may_run, shown[job].usd) == ("done", False, 4.0)
    backend.billed = 5.0
    assert jobs(backend, ledger)[job].usd == 4.0, "nobody asks for a job that is settled"


@pytest.mark.parametrize(("listed", "state"), [(True, "failed"), (False, "failed"), (False, "gone")])
def test_teardown_releases_the_warm_instance_of_a_failed_job(
    config: Config, backend: InMemoryBackend, ledger: Ledger, listed: bool, state: ResourceState
) -> None:
    """Also of one that was stopped, and is on record as gone."""
    backend.warm = {job := plan_training(context(config, backend, ledger)).job}
    backend.outcome = JobState("failed", "no space left on the disk")
    with pytest.raises(BackendError):
        train(context(config, backend, ledger))
    assert jobs(backend, ledger)[job].kept_warm
    [known] = ledger.rows(TrainingJob)
    ledger.note(replace(known, state=state))
    if not listed:
        backend.live = lambda run: []  # type: ignore[method-assign]
    torn = teardown(context(config, backend, ledger))
    assert [(one.kind, one.name) for one in torn.removed] == [("training_job", job)]
    assert (torn.remaining, backend.warm) == ((), set())
    row = jobs(backend, ledger)[job]
    assert (row.state, row.may_run, row.reason) == (state, False, "no space left on the disk")


def test_a_warm_instance_of_another_account_keeps_its_row(
    config: Config, backend: InMemoryBackend, ledger: Ledger
) -> None:
    elsewhere = InMemoryBackend("sagemaker")
    elsewhere.warm = {job := plan_training(context(config, backend, ledger)).job}
    train(context(config, elsewhere, ledger))
    [left] = teardown(context(config, backend, ledger)).remaining
    assert (left.name, left.backend) == (job, "sagemaker")
    with pytest.raises(LorasumError, match="is still kept warm on sagemaker"):
        train(context(config, backend, ledger))
    assert teardown(context(config, elsewhere, ledger)).remaining == ()
    assert not train(context(config, backend, ledger)).reused


def test_status_shows_what_is_recorded_where_nothing_can_be_written(
    deployed: Config, backend: InMemoryBackend, ledger: Ledger
) -> None:
    lock = paths.run_dir(deployed.name) / "lock"
    lock.unlink(missing_ok=True)
    lock.mkdir()
    [endpoint] = [one for one in status([backend], ledger).resources if one.kind == "endpoint"]
    assert (endpoint.state, endpoint.asked) == ("live", False)


def test_a_backend_that_cannot_be_asked_hides_no_other_run(
    deployed: Config, backend: InMemoryBackend, ledger: Ledger, told: RecordingReporter
) -> None:
    ledger.warn = told.warn
    far = InMemoryBackend("sagemaker")
    row = Endpoint(run="desk", name="desk", backend="sagemaker", artifact="s3://b/m/", origin=Origin(template=""))
    ledger.save(replace(ledger.intend(row), state="live"))

    def denied(run: str, name: str) -> EndpointState:
        raise BackendError("you may not look", "")

    far.endpoint_state = denied  # type: ignore[method-assign]
    asked = {row.run: row.asked for row in status([backend, far], ledger).resources if row.kind == "endpoint"}
    assert asked == {"chats": True, "desk": False}
    assert told.warnings == ["you may not look: run 'desk' is shown as recorded"]
    with pytest.raises(BackendError):
        status([backend, far], ledger, "desk")


def test_status_leaves_a_run_at_work_and_unknown_backends_alone(
    deployed: Config, backend: InMemoryBackend, ledger: Ledger
) -> None:
    backend.endpoints.clear()
    with context(deployed, backend, ledger).hold():
        assert states(ledger)["endpoint chats"] == status([backend], ledger).resources[-1].state == "live"
    assert status([], ledger).resources[-1].state == "live"
    other = status([backend], ledger, "other")
    assert (other.resources, other.run) == ((), "other")


@pytest.mark.parametrize("method", ["start_endpoint", "invoke"])
@pytest.mark.parametrize("failure", [refuse, interrupt])
def test_run_leaves_nothing_when_a_verb_fails(
    tiny_chats: Path,
    tiny_model_dir: Path,
    make_config: Callable[..., Config],
    backend: InMemoryBackend,
    ledger: Ledger,
    method: str,
    failure: Callable[[], None],
) -> None:
    config = _runnable(make_config, tiny_chats, tiny_model_dir)

    def at_the_third() -> None:  # the base model's start is the second, a test example's summary the third
        if backend.calls.count(method) == (2 if method == "start_endpoint" else 3):
            failure()

    backend.before[method] = at_the_third
    with pytest.raises((BackendError, KeyboardInterrupt)):
        run(context(config, backend, ledger))
    assert backend.live("chats") == []
    assert "live" not in states(ledger).values()


def test_ctrl_c_in_the_last_teardown_of_run_leaves_nothing(
    tiny_chats: Path, tiny_model_dir: Path, make_config: Callable[..., Config], backend: InMemoryBackend, ledger: Ledger
) -> None:
    def at_the_runs_own() -> None:  # the first is the base model's
        if backend.calls.count("delete_endpoint") == 2:
            raise KeyboardInterrupt

    backend.before["delete_endpoint"] = at_the_runs_own
    with pytest.raises(KeyboardInterrupt):
        run(context(_runnable(make_config, tiny_chats, tiny_model_dir), backend, ledger))
    assert backend.live("chats") == []
    assert "live" not in states(ledger).values()


def test_ctrl_c_while_run_tears_down_after_an_error_leaves_nothing(
    tiny_chats: Path, tiny_model_dir: Path, make_config: Callable[..., Config], backend: InMemoryBackend, ledger: Ledger
) -> None:
    def at_the_first_example() -> None:
        if backend.calls.count("invoke") == 3:
            backend.before["delete_endpoint"] = once
            refuse()

    def once() -> None:
        if backend.endpoints.keys() == {"chats"}:  # the base model's is gone
            del backend.before["delete_endpoint"]
            interrupt()

    backend.before["invoke"] = at_the_first_example
    with pytest.raises(KeyboardInterrupt):
        run(context(_runnable(make_config, tiny_chats, tiny_model_dir), backend, ledger))
    assert backend.live("chats") == []
    assert "live" not in states(ledger).values()


def test_run_goes_from_chats_to_a_summary_and_back_to_nothing(
    tiny_chats: Path, tiny_model_dir: Path, make_config: Callable[..., Config], backend: InMemoryBackend, ledger: Ledger
) -> None:
    config = _runnable(make_config, tiny_chats, tiny_model_dir)
    result = run(context(config, backend, ledger))
    assert "base model" in result.evaluate.scores
    assert result.predict.reference
    assert result.teardown is not None
    assert [one.kind for one in result.teardown.removed] == ["endpoint"]
    assert backend.live("chats") == []
    kept = run(context(config, backend, ledger), keep=True)
    assert (kept.prepare.reused, kept.train.reused, kept.teardown) == (True, True, None)
    assert list(backend.endpoints) == ["chats"]


def test_run_does_not_hide_the_error_when_teardown_fails_too(
    tiny_chats: Path,
    tiny_model_dir: Path,
    make_config: Callable[..., Config],
    backend: InMemoryBackend,
    ledger: Ledger,
    told: RecordingReporter,
) -> None:
    backend.before["endpoint_started"] = interrupt

    def stuck(run: str, name: str, mark: str = "") -> bool:
        raise BackendError("it does not end", "")

    backend.delete_endpoint = stuck  # type: ignore[method-assign]
    with pytest.raises((KeyboardInterrupt, BackendError)):
        run(context(_runnable(make_config, tiny_chats, tiny_model_dir), backend, ledger, told))
    assert told.warnings[-1] == "still there: endpoint chats: it does not end; run `lorasum teardown` with this config"
    assert states(ledger)["endpoint chats"] in OPEN, "it may be running, and the record says so"


def _runnable(make_config: Callable[..., Config], chats: Path, model: Path) -> Config:
    data = {"train": str(chats / "train.jsonl"), "test": str(chats / "test.jsonl"), "max_length": 256}
    return make_config(model={"id": str(model)}, data=data)


@pytest.mark.parametrize("price", [2.0, None])
def test_status_tells_what_an_endpoint_has_cost(
    deployed: Config, backend: InMemoryBackend, ledger: Ledger, clock: Clock, price: float | None
) -> None:
    backend.price = price
    [endpoint] = ledger.rows(Endpoint, "chats")
    ledger.save(replace(endpoint, usd_per_hour=price))
    clock.let_pass(3)
    expected = None if price is None else pytest.approx(6.0, abs=0.01)
    [job, shown] = [row for row in status([backend], ledger).resources if row.kind != "dataset"]
    assert (job.usd, shown.usd) == (0.0, expected)
    teardown(context(deployed, backend, ledger))
    assert status([], ledger).resources[-1].usd == expected, "it is no longer there, and was not for nothing"


def spent(backend: InMemoryBackend, ledger: Ledger) -> float | None:
    """What status says that the endpoint has cost."""
    [endpoint] = [row for row in status([backend], ledger).resources if row.kind == "endpoint"]
    return None if endpoint.usd is None else round(endpoint.usd, 2)


def test_an_endpoint_costs_what_all_of_its_name_have_cost(
    config: Config, make_config: Callable[..., Config], backend: InMemoryBackend, ledger: Ledger, clock: Clock
) -> None:
    other = make_config(lora={"r": 4})
    backend.price = 2.0
    train(context(config, backend, ledger))
    deploy(context(config, backend, ledger))
    clock.let_pass(3)
    train(context(other, backend, ledger))
    backend.price = 4.0
    deploy(context(other, backend, ledger))  # in place, in a larger instance
    assert spent(backend, ledger) == 6.0
    clock.let_pass(1)
    assert deploy(context(other, backend, ledger)).reused
    assert spent(backend, ledger) == 10.0
    teardown(context(other, backend, ledger))

    here = InMemoryBackend("memory")
    train(context(config, here, ledger))
    deploy(context(config, here, ledger))
    clock.let_pass(1)
    assert spent(here, ledger) == 10.0, "one that costs nothing adds nothing"


def test_a_deploy_that_fails_costs_until_it_was_undone(
    deployed: Config, make_config: Callable[..., Config], backend: InMemoryBackend, ledger: Ledger, clock: Clock
) -> None:
    other = make_config(lora={"r": 4})
    backend.price = 4.0
    teardown(context(deployed, backend, ledger))
    deploy(context(deployed, backend, ledger))
    before = spent(backend, ledger) or 0.0
    train(context(other, backend, ledger))
    backend.before["start_endpoint"] = refuse
    with pytest.raises(BackendError):
        deploy(context(other, backend, ledger))  # it goes on serving what it did
    assert (states(ledger)["endpoint chats"], spent(backend, ledger)) == ("live", before)
    clock.let_pass(1)

    def refuse_after_half_an_hour() -> None:
        clock.let_pass(0.5)
        refuse()

    backend.before = {"invoke": refuse_after_half_an_hour}
    with pytest.raises(BackendError):
        deploy(context(other, backend, ledger))  # it is replaced, does not answer, and is deleted
    assert (states(ledger)["endpoint chats"], spent(backend, ledger)) == ("failed", before + 6.0)
    backend.before.clear()
    clock.let_pass(1)
    deploy(context(other, backend, ledger))
    assert spent(backend, ledger) == before + 6.0, "nothing ran meanwhile"


def test_the_cost_of_an_endpoint_that_disappeared_is_unknown(
    config: Config, backend: InMemoryBackend, ledger: Ledger
) -> None:
    backend.price = 4.0
    train(context(config, backend, ledger))
    deploy(context(config, backend, ledger))
    assert spent(backend, ledger) == 0.0
    backend.endpoints.clear()
    deploy(context(config, backend, ledger))
    assert spent(backend, ledger) is None
    teardown(context(config, backend, ledger))
    assert spent(backend, ledger) is None


def test_what_another_region_holds_is_neither_judged_nor_forgotten(
    deployed: Config, backend: InMemoryBackend, ledger: Ledger
) -> None:
    backend.account_and_region = "account 1, us-east-1"
    [near] = ledger.rows(Endpoint, "chats")
    far = ledger.intend(replace(near, name="far", account_and_region="account 1, eu-west-1"))
    ledger.save(replace(far, state="live"))
    assert [row.state for row in status([backend], ledger).resources if row.name == "far"] == ["live"]
    remaining = teardown(context(deployed, backend, ledger)).remaining
    assert [(one.name, one.account_and_region) for one in remaining] == [("far", "account 1, eu-west-1")]
    with pytest.raises(LorasumError, match="still live in account 1, eu-west-1"):
        ledger.intend(replace(far, account_and_region=backend.account_and_region))


def test_status_tells_how_far_a_job_is_and_how_it_ended(
    config: Config, backend: InMemoryBackend, ledger: Ledger
) -> None:
    backend.outcome = JobState("running")
    with pytest.raises(BackendError):
        train(context(config, backend, ledger))
    [job] = [row for row in status([backend], ledger).resources if row.kind == "training_job"]
    assert job.progress == Progress(3, 9, 1.5, seconds_left=6.0)
    [job] = [row for row in status([], ledger).resources if row.kind == "training_job"]
    assert (job.progress, job.asked) == (None, False), "nobody was asked"
    backend.jobs["chats-rows-1"] = JobState("running")
    ledger.save(replace(ledger.intend(BatchJob(run="chats", name="chats-rows-1", backend=backend.name)), state="live"))
    [batch] = [row for row in status([backend], ledger).resources if row.kind == "batch_job"]
    assert batch.progress == Progress(3, 9, 1.5, seconds_left=6.0)
    backend.jobs[job.name] = backend.outcome = JobState("completed")
    train(context(config, backend, ledger))
    [job] = [row for row in status([backend], ledger).resources if row.kind == "training_job"]
    assert job.progress == Progress(train_loss=1.5, eval_loss=1.25)


def test_what_is_gone_and_cost_nothing_is_left_out(deployed: Config, backend: InMemoryBackend, ledger: Ledger) -> None:
    teardown(context(deployed, backend, ledger))

    def kinds(everything: bool) -> list[str]:
        return [row.kind for row in status([backend], ledger, everything=everything).resources]

    assert "endpoint" in kinds(True)
    assert "endpoint" not in kinds(False)
    [endpoint] = ledger.rows(Endpoint)
    ledger.note(replace(endpoint, usd_per_hour=2.0, usd_total=6.1))
    assert "endpoint" in kinds(False), "what it has cost stays to be seen"


def test_all_runs_of_this_machine_are_torn_down_and_others_named(
    deployed: Config, backend: InMemoryBackend, ledger: Ledger
) -> None:
    cloud = Endpoint(run="desk", name="desk", backend="sagemaker", artifact="s3://b/m/", origin=Origin(template=""))
    ledger.save(replace(ledger.intend(cloud), state="live"))
    backend.live = lambda run: _live_of_chats(backend, run)  # type: ignore[method-assign]
    assert plan_all(ledger, [backend], Silent()) == ["delete endpoint chats of run chats"]
    result = teardown_all(ledger, [backend], Silent())
    assert (result.run, [(one.run, str(one)) for one in result.removed]) == (None, [("chats", "endpoint chats")])
    assert [(one.run, one.kind, one.backend) for one in result.remaining] == [("desk", "endpoint", "sagemaker")]
    assert states(ledger)["endpoint desk"] == "live", "nobody was asked about it"
    assert teardown_all(ledger, [backend], Silent()).removed == ()
    assert plan_all(ledger, [backend], Silent()) == []


def test_an_account_that_denies_lists_keeps_no_other_from_its_plan(
    deployed: Config, backend: InMemoryBackend, ledger: Ledger, told: RecordingReporter
) -> None:
    cloud = InMemoryBackend("sagemaker")
    cloud.account_and_region = "1, eu-west-1"
    cloud.live = lambda run: refuse() or []  # type: ignore[func-returns-value, method-assign]
    row = Endpoint(run="desk", name="desk", backend="sagemaker", artifact="s3://b/m/", origin=Origin(template=""))
    ledger.save(replace(ledger.intend(row), state="live", account_and_region=cloud.account_and_region))
    cloud.endpoints["desk"] = EndpointRef("desk", "url:desk", "s3://b/m/", 60.0)
    backend.live = lambda run: _live_of_chats(backend, run)  # type: ignore[method-assign]
    lines = ["delete endpoint desk (url:desk) of run desk", "delete endpoint chats of run chats"]
    assert plan_all(ledger, [cloud, cloud, backend], told) == lines
    assert "only what is on record is looked for" in told.warnings[0]


@pytest.mark.parametrize(
    ("place", "state"), [("", "unreadable"), ("1, eu-west-1", "gone"), ("2, eu-west-1", "unreadable")]
)
def test_what_cannot_be_read_goes_only_where_it_is(ledger: Ledger, place: str, state: str) -> None:
    cloud = InMemoryBackend("sagemaker")
    cloud.account_and_region = "1, eu-west-1"
    row = Endpoint(run="desk", name="desk", backend="sagemaker", artifact="s3://b/m/", origin=Origin(template=""))
    ledger.intend(row)
    stored = f'{{"account_and_region": "{place}"}}'
    ledger.save(Unreadable(run="desk", name="desk", backend="sagemaker", stored_kind="endpoint", stored=stored))
    result = teardown_all(ledger, [cloud], Silent())
    assert [row.state for row in ledger.resources()] == [state]
    assert [one.name for one in result.remaining] == ["desk"] * (state != "gone")


def test_only_the_place_of_a_row_that_cannot_be_read_is_asked(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, ...]] = []
    monkeypatch.setattr("lorasum.cli.backends._reached", lambda *given: asked.append(given[:2]))
    access = {"region": "eu-west-1", "profile": "work"}
    for name, stored in (("a", json.dumps({"account_and_region": "1, eu-west-1", "access": access})), ("b", "{")):
        ledger.intend(Endpoint(run=name, name=name, backend="sagemaker", artifact="", origin=Origin(template="")))
        ledger.save(Unreadable(run=name, name=name, backend="sagemaker", stored_kind="endpoint", stored=stored))
    assert [one.name for one in recorded(ledger, Silent())] == ["local"]
    assert asked == [(access, "1, eu-west-1")]


def test_a_watch_notices_that_all_is_torn_down_before_its_run_has_a_file(ledger: Ledger) -> None:
    watch = TeardownWatch("desk")
    watch.check()
    teardown_all(ledger, [], Silent())
    with pytest.raises(TornDownError):
        watch.check()


def _live_of_chats(backend: InMemoryBackend, run: str) -> list[RunningResource]:
    return InMemoryBackend.live(backend, run) if run == "chats" else []
