"""sweep: the same trials every time, those that fall behind are stopped, nothing is trained twice, a budget holds."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from memory_backend import DONE, InMemoryBackend, RecordingReporter, context

from lorasum.backends.records import JobRef, JobState, TrainSpec
from lorasum.commands import sweep as command
from lorasum.commands.deploy import deploy
from lorasum.commands.status import status
from lorasum.commands.sweep import plan_sweep, sweep, to_be_spent
from lorasum.commands.teardown import teardown
from lorasum.commands.train import start_training
from lorasum.config.schema import Config
from lorasum.context import RunContext
from lorasum.errors import BackendError, ConfigError, InterruptedRunError, LorasumError, OutageError
from lorasum.ledger.ledger import Ledger
from lorasum.ledger.resources import Dataset, Origin, TrainingJob
from lorasum.lifecycle.trials import falls_behind, trials
from lorasum.shared.events import MERGE_LEFT_OUT, EvalEvent, Event, StepEvent
from lorasum.ui import render

RATES = {"training.learning_rate": {"low": 1e-5, "high": 1e-3, "log": True}}
RANKS = {"lora.r": [2, 4, 8]}


class Trainings(InMemoryBackend):
    """A job of three evaluations, one more whenever it is looked at. Its loss is its rank, and falls by a tenth."""

    def __init__(self) -> None:
        super().__init__()
        self.ranks: dict[str, float] = {}
        self.evaluations: dict[str, int] = {}
        self.most_at_once = 0
        self.done = DONE

    def start_training(self, spec: TrainSpec, asking: Callable[[], object] = lambda: None) -> JobRef:
        self.ranks[spec.job_name] = float(spec.hyperparameters["lora_r"])
        self.limits = {**getattr(self, "limits", {}), spec.job_name: spec.max_seconds}
        started = super().start_training(spec, asking)
        running = [name for name, state in self.jobs.items() if state.status == "running"]
        self.most_at_once = max(self.most_at_once, len(running))
        return started

    def training_state(self, job: JobRef) -> JobState:
        if self.jobs[job.name].status == "running":
            self._call("training_state")
            seen = self.evaluations[job.name] = self.evaluations.get(job.name, 0) + 1
            if seen == 4:
                self.jobs[job.name] = JobState("completed")
        return self.jobs[job.name]

    def training_events(self, job: JobRef) -> Iterator[Event]:
        for number in range(1, min(self.evaluations.get(job.name, 0), 3) + 1):
            yield StepEvent(number, 3, number, 1.0, 1e-4, 9.0, 1.0)
            yield EvalEvent(number, self.ranks[job.name] - number / 10)
        if self.jobs[job.name].status == "completed":
            yield replace(self.done, eval_loss=self.ranks[job.name] - 0.3)

    follow_training = training_events


@pytest.fixture
def backend() -> Trainings:
    return Trainings()


@pytest.fixture
def swept(
    make_config: Callable[..., Config], ledger: Ledger, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Config]:
    """A config with a sweep. Its data is prepared once; each trial takes it as its own."""

    def take(run: RunContext) -> None:
        if not ledger.latest_dataset(run.name):
            row = ledger.intend(Dataset(run=run.name, name=prepared.name, backend="local", path=str(prepared)))
            ledger.save(replace(row, state="done"))

    monkeypatch.setattr(command, "prepare", take)
    monkeypatch.setattr(command, "_LOOKS", {"local": 0.0})
    return lambda **sweep: make_config(sweep={"keys": RANKS, **sweep})


def test_the_same_trials_are_drawn_again_and_more_add_to_them(swept: Callable[..., Config]) -> None:
    keys = {**RATES, "lora.alpha": {"low": 8, "high": 64}, "quantization": ["int8", "nf4"]}
    ten, twenty = trials(swept(keys=keys, trials=10)), trials(swept(keys=keys, trials=20))
    assert [one.values for one in twenty[:10]] == [one.values for one in ten]
    assert len({one.run for one in twenty}) == 20
    rates = [one.config.training.learning_rate for one in twenty]
    assert all(1e-5 <= rate < 1e-3 for rate in rates)
    assert 8 <= sum(rate < 1e-4 for rate in rates) <= 12, "each power of ten is drawn equally often"
    assert all(8 <= one.config.lora.alpha <= 64 for one in twenty)
    assert [one.values for one in trials(swept(keys=keys, trials=10, seed=1))] != [one.values for one in ten]


def test_lists_that_are_few_are_tried_in_all_combinations(swept: Callable[..., Config]) -> None:
    found = trials(swept(keys={**RANKS, "lora.alpha": [8, 16]}, trials=6))
    assert [tuple(one.values.values()) for one in found] == [(2, 8), (2, 16), (4, 8), (4, 16), (8, 8), (8, 16)]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"lora.r": [0]}, "lora.r=0, which no run can have"),
        ({"lora.rank": [1]}, "lora.rank=1, which no run can have"),
        ({"lora.r.x": [1]}, "no run can have"),
    ],
)
def test_values_that_no_run_can_have_are_refused_at_once(
    swept: Callable[..., Config], keys: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        trials(swept(keys=keys))


@pytest.mark.parametrize(
    ("mine", "others", "seen", "stopped"),
    [
        ([3.0], [], 0, False),
        ([3.0], [[1.0], [2.0]], 0, True),
        ([1.0], [[3.0], [2.0]], 0, False),
        ([1.5], [[1.0], [2.0], [3.0]], 0, False),  # the best two of four
        ([1.0, 9.0], [[2.0, 1.0]], 0, False),  # the second evaluation is not compared
        ([1.0, 9.0, 9.0], [[2.0, 1.0, 1.0]], 0, True),
        ([3.0], [[1.0], [2.0]], 1, False),  # judged before the others came
    ],
)
def test_a_trial_goes_on_that_is_among_the_best_third(
    mine: list[float], others: list[list[float]], seen: int, stopped: bool
) -> None:
    assert falls_behind(mine, others, 3, seen) is stopped
    assert not falls_behind(mine, others, 1, seen)


def test_trials_that_fall_behind_are_stopped_and_the_best_is_named(
    swept: Callable[..., Config], backend: Trainings, ledger: Ledger
) -> None:
    result = sweep(context(swept(), backend, ledger))
    assert [(one.values["lora.r"], one.state) for one in result.trials] == [(2, "done"), (4, "stopped"), (8, "stopped")]
    assert (result.best, result.trials[0].value) == (result.trials[0].run, 1.7)
    page = Path(str(result.page)).read_text()
    assert "<svg" in page
    assert f'<tr role="row" class="chosen"><th scope="row" role="rowheader">{result.best}<' in page
    assert backend.live("chats") == []


def test_the_command_that_is_shown_deploys_the_best_trial(
    swept: Callable[..., Config], backend: Trainings, ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    result = sweep(context(swept(), backend, ledger))
    render.show(result, then=result.next)
    [words] = [line.split() for line in capsys.readouterr().out.splitlines() if "lorasum deploy" in line]
    named = f"FILE --set sweep=null --set name={result.best} --job {result.trials[0].job}"
    assert words == f"lorasum deploy {named}".split()
    config = swept().model_copy(update={"name": result.best, "sweep": None})
    assert deploy(context(config, backend, ledger), result.trials[0].job).job == result.trials[0].job


def test_a_sweep_is_repeated_without_training_anything_again(
    swept: Callable[..., Config], backend: Trainings, ledger: Ledger
) -> None:
    run = context(swept(), backend, ledger)
    first = sweep(run)
    started = backend.calls.count("start_training")
    again = sweep(run)
    assert (again.trials, again.best) == (first.trials, first.best)
    assert backend.calls.count("start_training") == started == 3
    more = sweep(context(swept(keys={"lora.r": [2, 4, 8, 1]}), backend, ledger))
    assert backend.calls.count("start_training") == 4
    assert [one.values["lora.r"] for one in more.trials if one.state == "done"] == [1, 2]


class Killed(BaseException):
    """The process ends here, and nobody tidies up."""


def killed_at(moment: str, backend: Trainings, run: RunContext) -> None:
    """A sweep that is killed where it first asks the backend for this."""

    def kill() -> None:
        raise Killed

    backend.before[moment] = kill
    with pytest.raises(Killed):
        sweep(run)
    backend.before.clear()


@pytest.mark.parametrize("moment", ["start_training", "training_state", "stop_training"])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_sweep_that_was_killed_goes_on_where_it_was(
    swept: Callable[..., Config], backend: Trainings, ledger: Ledger, moment: str, number: int
) -> None:
    def kill() -> None:
        if backend.calls.count(moment) == number:
            raise Killed

    backend.before[moment] = kill
    try:
        sweep(context(swept(at_once=2), backend, ledger))
    except Killed:
        backend.before.clear()
    result = sweep(context(swept(at_once=2), backend, ledger))
    assert (result.trials[0].values, result.trials[0].state) == ({"lora.r": 2}, "done")
    assert backend.calls.count("start_training") <= 4  # one may have been killed before it was started
    assert [row for one in result.trials for row in ledger.rows(TrainingJob, one.run) if row.is_open] == []


def test_a_trial_that_completed_while_nobody_looked_is_settled(
    swept: Callable[..., Config], backend: Trainings, ledger: Ledger
) -> None:
    """It stayed on record as running, at a cost that rose without end."""
    killed_at("training_state", backend, context(swept(), backend, ledger))
    [job] = backend.jobs
    backend.jobs[job], backend.evaluations[job] = JobState("completed"), 3
    result = sweep(context(swept(), backend, ledger))
    assert [row for one in result.trials for row in ledger.rows(TrainingJob, one.run) if row.is_open] == []


def test_ctrl_c_stops_all_that_run_and_the_same_command_resumes(
    swept: Callable[..., Config], backend: Trainings, ledger: Ledger
) -> None:
    def interrupt() -> None:
        if backend.calls.count("training_state") == 2:
            raise KeyboardInterrupt

    backend.before["training_state"] = interrupt
    backend.stops_on_interrupt = False  # as on SageMaker
    config = swept(at_once=2, keep_one_in=1)
    with pytest.raises(InterruptedRunError, match="jobs were stopped"):
        sweep(context(config, backend, ledger))
    assert backend.live("chats") == []
    backend.before.clear()
    assert [one.state for one in sweep(context(config, backend, ledger)).trials] == ["done"] * 3
    assert backend.most_at_once == 2


def test_a_job_that_was_just_being_started_is_stopped_too(
    swept: Callable[..., Config], backend: Trainings, ledger: Ledger
) -> None:
    def interrupt() -> None:
        if len(backend.jobs) == 2:
            raise KeyboardInterrupt

    backend.before["training_started"] = interrupt
    with pytest.raises(InterruptedRunError, match="jobs were stopped"):
        sweep(context(swept(at_once=2), backend, ledger))
    assert len(backend.jobs) == 2
    assert backend.live("chats") == []


def test_ctrl_c_at_the_beginning_stops_what_a_killed_sweep_had_started(
    swept: Callable[..., Config], backend: Trainings, ledger: Ledger
) -> None:
    def interrupt_once() -> None:
        backend.before.clear()
        raise KeyboardInterrupt

    killed_at("stop_training", backend, context(swept(at_once=2), backend, ledger))
    assert backend.live("chats")
    backend.before["stop_training"] = interrupt_once
    with pytest.raises(InterruptedRunError):
        sweep(context(swept(at_once=2), backend, ledger))
    assert backend.live("chats") == []


def test_a_best_trial_without_a_merged_model_is_told_of(
    backend: Trainings, swept: Callable[..., Config], ledger: Ledger, told: RecordingReporter
) -> None:
    backend.done = replace(DONE, not_merged="it answers as the base model")
    for _ in range(2):
        best = sweep(context(swept(), backend, ledger, told)).best
        assert told.warnings.pop().startswith(f"trial {best} has no merged model: it answers as the base model; deploy")


def test_trials_merge_nothing_and_the_best_is_served_by_one_command(
    backend: Trainings, swept: Callable[..., Config], ledger: Ledger, told: RecordingReporter
) -> None:
    """Its merge is one more job, without a step, and takes nothing of what is known of the trial."""
    backend.done = replace(DONE, not_merged=MERGE_LEFT_OUT)
    result = sweep(context(swept(), backend, ledger, told))
    assert told.warnings == []
    assert {spec.adapter_only for spec in backend.specs.values()} == {True}
    [best] = [one for one in result.trials if one.run == result.best]
    assert result.next == (
        f"lorasum deploy FILE --set sweep=null --set name={best.run} --job {best.job} --set deploy.serve=adapter",
        f"lorasum train FILE --set sweep=null --set name={best.run} --set lora.r=2 --set deploy.serve=merged",
    )
    [config] = [one.config for one in trials(swept()) if one.run == result.best]
    job = start_training(context(config, backend, ledger)).job
    assert backend.specs[job].checkpoints == best.job
    backend.jobs[job], backend.evaluations[job], backend.done = JobState("completed"), 0, DONE
    later = sweep(context(swept(), backend, ledger))
    assert [replace(one, job=best.job) if one.run == best.run else one for one in later.trials] == [*result.trials]
    assert later.next == (f"lorasum deploy FILE --set sweep=null --set name={best.run} --job {job}",)
    assert len(backend.jobs) == 4


def test_vllm_serves_the_best_trial_once_it_is_merged(
    make_config: Callable[..., Config], backend: Trainings, swept: Callable[..., Config], ledger: Ledger
) -> None:
    backend.done = replace(DONE, not_merged=MERGE_LEFT_OUT)
    best = sweep(context(swept(), backend, ledger)).best
    config = make_config(sweep={"keys": RANKS}, backend="sagemaker", sagemaker={"engine": "vllm"})
    same = f"FILE --set sweep=null --set name={best} --set lora.r=2 --set deploy.serve=merged"
    assert plan_sweep(context(config, backend, ledger)).next == (f"lorasum train {same}", f"lorasum deploy {same}")


class KeptWarm(Trainings):
    """An instance stays for a while after each job, however that ended, and the next job takes it, some looks later."""

    def __init__(self) -> None:
        super().__init__()
        self.cold_starts = 0
        self.looks: dict[str, int] = {}

    def start_training(self, spec: TrainSpec, asking: Callable[[], object] = lambda: None) -> JobRef:
        started = super().start_training(spec, asking)
        if self.jobs[spec.job_name].status == "running":
            self.jobs[spec.job_name] = JobState("running", pending=True)
        return started

    def training_state(self, job: JobRef) -> JobState:
        if self.jobs[job.name].pending:
            seen = self.looks[job.name] = self.looks.get(job.name, 0) + 1
            if seen < 3:
                return self.jobs[job.name]
            self.jobs[job.name] = JobState("running")
            self.cold_starts += not self.warm
            self.warm = set(sorted(self.warm)[1:])
        ran = self.jobs[job.name].status == "running"
        state = super().training_state(job)
        self.warm |= {job.name} if ran and state.status == "completed" else set()
        return state

    def stop_training(self, job: JobRef, keep_warm: bool = False) -> None:
        self.warm |= {job.name} if self.jobs[job.name].status == "running" else set()
        super().stop_training(job, keep_warm)


@pytest.mark.parametrize("at_once", [1, 2])
def test_a_warm_instance_goes_to_the_next_trial_and_then_goes(
    swept: Callable[..., Config], ledger: Ledger, at_once: int
) -> None:
    """A trial that fell behind released it while the next one waited, and nobody released the last one."""
    backend = KeptWarm()
    config = swept(at_once=at_once, keys={"lora.r": [2, 4, 8, 16]})
    result = sweep(context(config, backend, ledger))
    assert [one.state for one in result.trials] == ["done"] + ["stopped"] * 3
    assert backend.cold_starts == at_once
    assert backend.live("chats") == []
    assert [row for one in result.trials for row in ledger.rows(TrainingJob, one.run) if row.kept_warm] == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, LorasumError("no room on this disk", "free some")])
def test_a_sweep_that_ends_early_keeps_no_instance_warm(
    swept: Callable[..., Config], ledger: Ledger, error: BaseException
) -> None:
    backend = KeptWarm()

    def end() -> None:
        if backend.calls.count("start_training") == 2:
            raise error

    backend.before["start_training"] = end
    with pytest.raises(LorasumError):
        sweep(context(swept(), backend, ledger))
    assert backend.cold_starts == 1
    assert backend.live("chats") == []


class NotReleased(KeptWarm):
    """An account that may not update jobs."""

    error = BackendError("cannot release it: you may not", "allow sagemaker:UpdateTrainingJob")

    def stop_training(self, job: JobRef, keep_warm: bool = False) -> None:
        if not keep_warm and self.jobs[job.name].status != "running":
            self._call("release")
            raise self.error
        super().stop_training(job, keep_warm)


def test_an_outage_keeps_no_other_instance_from_its_release(swept: Callable[..., Config], ledger: Ledger) -> None:
    backend = NotReleased()
    backend.error = OutageError("no network")

    def interrupt() -> None:
        if backend.calls.count("start_training") == 3:
            raise KeyboardInterrupt

    backend.before["start_training"] = interrupt
    with pytest.raises(InterruptedRunError):
        sweep(context(swept(at_once=2, keep_one_in=1), backend, ledger))
    assert len(backend.warm) == backend.calls.count("release") == 2


def test_an_instance_that_cannot_be_released_ends_no_sweep(
    swept: Callable[..., Config], ledger: Ledger, told: RecordingReporter
) -> None:
    """The sweep ended without its result, and nobody said what is billed."""
    backend = NotReleased()
    config = swept(at_once=2, keep_one_in=1, keys={"lora.r": [2, 4]})
    result = sweep(context(config, backend, ledger, told))
    assert [one.state for one in result.trials] == ["done", "done"]
    assert len(backend.warm) == backend.calls.count("release") == 2
    refused, kept = told.warnings[:2], told.warnings[2:]
    assert refused == ["cannot release it: you may not"] * 2
    assert [f"the instance of job {name} is kept warm" in " ".join(kept) for name in backend.warm] == [True, True]


def test_a_released_instance_does_not_change_why_its_trial_ended(swept: Callable[..., Config], ledger: Ledger) -> None:
    config = swept(keys={"lora.r": [2, 4, 8]})
    result = sweep(context(config, KeptWarm(), ledger))
    rows = [row for one in result.trials for row in ledger.rows(TrainingJob, one.run)]
    assert [(row.state, row.reason) for row in rows if row.state != "done"] == [
        ("gone", "it fell behind the others")
    ] * 2


@pytest.mark.parametrize("outage", [False, True])
def test_no_trial_waits_beside_an_instance_that_became_free(
    swept: Callable[..., Config], ledger: Ledger, told: RecordingReporter, monkeypatch: pytest.MonkeyPatch, outage: bool
) -> None:
    """It went on to wait for capacity, up to 30 minutes, while the instance of another trial was kept for it.

    The network may fail just after that has ended, while a third one goes on.
    """
    backend = KeptWarm()
    looks: list[float] = []
    restarts: list[int] = []

    def started() -> None:
        newest = list(backend.jobs)[-1]
        if len(backend.jobs) == 2:
            backend.evaluations[newest] = -100
        elif len(backend.jobs) == 3 and backend.warm:
            restarts.append(len(looks))
        elif len(backend.jobs) == 3:
            backend.jobs[newest] = JobState("failed", "CapacityError: none is free", no_capacity=True)

    def looked_at() -> None:
        if outage and backend.warm and not told.warnings:
            raise OutageError("no network")

    backend.before = {"training_started": started, "training_state": looked_at}
    monkeypatch.setattr(command, "time", SimpleNamespace(sleep=looks.append, monotonic=lambda: float(len(looks))))
    result = sweep(context(swept(at_once=3, keep_one_in=1), backend, ledger, told))
    assert [one.state for one in result.trials] == ["done"] * 3
    assert "no instance was free; trials start again in 5 min (Ctrl-C ends this)" in told.steps
    assert restarts[0] < 60
    assert (len(told.warnings), backend.cold_starts) == (outage, 2)


def test_a_job_that_cannot_be_stopped_keeps_no_other_from_it(
    swept: Callable[..., Config], backend: Trainings, ledger: Ledger, told: RecordingReporter
) -> None:
    def interrupt() -> None:
        if len(backend.jobs) == 2:
            del backend.before["training_state"]
            raise KeyboardInterrupt

    def fail() -> None:
        if backend.calls.count("stop_training") == 1:
            raise BackendError("cannot stop it: the network is down", "try again")

    backend.before |= {"training_state": interrupt, "stop_training": fail}
    with pytest.raises(InterruptedRunError, match="not all of its jobs were stopped"):
        sweep(context(swept(at_once=2), backend, ledger, told))
    [running] = backend.live("chats")
    assert [warning.partition(":")[0] for warning in told.warnings] == [
        "cannot stop it",
        f"job {running.name} may still run",
    ]


def test_a_sweep_goes_on_through_an_outage(
    swept: Callable[..., Config], backend: Trainings, ledger: Ledger, told: RecordingReporter
) -> None:
    """A trial that could not be stopped meanwhile is stopped then: it would be billed to its end."""

    def fail_first() -> None:
        if backend.calls.count(backend.calls[-1]) == 1:
            raise OutageError("cannot look at the job: the network is down")

    backend.before |= dict.fromkeys(["training_state", "stop_training"], fail_first)
    result = sweep(context(swept(at_once=2), backend, ledger, told))
    assert [one.state for one in result.trials] == ["done", "stopped", "stopped"]
    assert backend.live("chats") == []
    assert "it answers again" in told.steps


def test_an_error_that_ends_a_sweep_names_the_jobs_that_may_run(
    swept: Callable[..., Config], backend: Trainings, ledger: Ledger, told: RecordingReporter
) -> None:
    def refuse() -> None:
        if backend.calls.count("start_training") == 2:
            raise LorasumError("no room on this disk", "free some")

    backend.before["start_training"] = refuse
    with pytest.raises(LorasumError, match="no room on this disk"):
        sweep(context(swept(at_once=2), backend, ledger, told))
    [running] = backend.live("chats")
    [warning] = told.warnings
    assert warning.startswith(f"job {running.name} may still run")
    assert "lorasum teardown" in warning


def test_all_trials_together_stay_within_the_budget(
    swept: Callable[..., Config], backend: Trainings, ledger: Ledger
) -> None:
    backend.price, backend.billed = 2.0, 0.0
    run = context(swept(at_once=2, keep_one_in=1, max_usd=1.0), backend, ledger)
    assert "at most $1.00 for all trials" in to_be_spent(run)

    def bill() -> None:
        backend.billed = 0.5 if backend.calls.count("start_training") else 0.0

    backend.before["training_state"] = bill
    result = sweep(run)
    assert list(backend.limits.values()) == [900, 900]  # half a dollar each
    assert [one.state for one in result.trials].count("left_out") == 1
    assert result.usd == pytest.approx(1.0)


def test_a_budget_that_pays_for_no_job_on_sagemaker_ends_no_sweep(
    swept: Callable[..., Config], backend: Trainings, ledger: Ledger
) -> None:
    """90 s of each trial are paid for, and a job is billed for three minutes after its limit."""
    backend.price, backend.billed = 2.0, 0.0
    config = swept(at_once=2, keep_one_in=1, max_usd=0.1).model_copy(update={"backend": "sagemaker"})
    with pytest.raises(BackendError, match=r"nothing is left of sweep\.max_usd"):
        sweep(context(config, backend, ledger))
    assert "start_training" not in backend.calls


def test_a_budget_that_cannot_be_kept_is_refused(
    swept: Callable[..., Config], backend: Trainings, ledger: Ledger
) -> None:
    """It was ignored where the price is unknown, and `at most $1.00 for all trials` was said all the same."""
    backend.price = None
    run = context(swept(max_usd=1.0), backend, ledger)
    for ask in (to_be_spent, sweep):
        with pytest.raises(LorasumError, match=r"sweep\.max_usd cannot be kept"):
            ask(run)
    assert "start_training" not in backend.calls
    assert "nothing limits the sum" in to_be_spent(context(swept(), backend, ledger))


def test_no_trial_starts_where_nobody_knows_what_is_left(
    swept: Callable[..., Config], backend: Trainings, ledger: Ledger
) -> None:
    """The job of a trial was deleted, and its cost with it. It counted as nothing."""
    backend.price, backend.billed = 2.0, 0.0
    run = context(swept(max_usd=1.0), backend, ledger)
    row = ledger.intend(
        TrainingJob(run=trials(run.config)[2].run, name="x", backend="local", origin=Origin(template=""))
    )
    ledger.save(replace(row, state="gone", usd_per_hour=2.0))
    with pytest.raises(BackendError, match=r"nobody knows what is left of sweep\.max_usd"):
        sweep(run)
    assert "start_training" not in backend.calls


def test_a_trial_that_may_not_start_yet_waits_for_another(
    swept: Callable[..., Config], backend: Trainings, ledger: Ledger, told: RecordingReporter
) -> None:
    """As by a quota of one instance: it ended the sweep, and nobody looked at the trial that ran and was paid for."""

    def refuse() -> None:
        if any(state.status == "running" for state in backend.jobs.values()):
            raise BackendError("your quota is 1, 1 of them in use")

    backend.before["start_training"] = refuse
    result = sweep(context(swept(at_once=2, keep_one_in=1), backend, ledger, told))
    assert [one.state for one in result.trials] == ["done"] * 3
    assert backend.most_at_once == 1
    assert len([line for line in told.warnings if "waits until another has ended" in line]) == 1


def test_teardown_and_status_know_the_trials(
    swept: Callable[..., Config], backend: Trainings, ledger: Ledger, told: RecordingReporter
) -> None:
    run = context(swept(), backend, ledger, told)
    killed_at("training_state", backend, run)
    shown = status([backend], ledger, "chats")
    assert [one.kind for one in shown.resources].count("training_job") == 1
    assert [removed for removed in teardown(run).removed if removed.kind == "training_job"]
    assert backend.live("chats") == []


def test_a_plan_starts_nothing_and_tells_the_price(
    swept: Callable[..., Config], backend: Trainings, ledger: Ledger, told: RecordingReporter
) -> None:
    backend.price = 2.0
    run = context(swept(max_usd=9), backend, ledger, told)
    assert [one.state for one in plan_sweep(run).trials] == ["waiting"] * 3
    [said] = told.steps
    assert said.startswith("would train 3 trials, $2.00 an hour each; at most $9.00 for all trials; ")
    assert "start_training" not in str(backend.calls)


def test_a_plan_tells_of_trials_that_run_just_now(
    swept: Callable[..., Config], backend: Trainings, ledger: Ledger
) -> None:
    """As a script sees them that watches the sweep of another process."""
    killed_at("training_state", backend, context(swept(), backend, ledger))
    assert [one.state for one in plan_sweep(context(swept(), backend, ledger)).trials] == ["live", "waiting", "waiting"]


def test_a_sweep_that_is_done_costs_nothing_more(
    swept: Callable[..., Config], backend: Trainings, ledger: Ledger
) -> None:
    run = context(swept(), backend, ledger)
    sweep(run)
    backend.price = 2.0
    assert to_be_spent(run) == ""


@pytest.mark.parametrize(
    "sweep",
    [
        {"keys": {}},
        {"keys": {"name": ["a", "b"]}},
        {"keys": {"sagemaker.spot": [True]}},
        {"keys": {"lora.r": []}},
        {"keys": {"lora.r": {"low": 3, "high": 3}}},
        {"keys": {"lora.r": {"low": 0, "high": 3, "log": True}}},
    ],
)
def test_a_sweep_of_nothing_or_of_other_keys_is_refused(
    make_config: Callable[..., Config], sweep: dict[str, object]
) -> None:
    with pytest.raises(ValueError, match="sweep"):
        make_config(sweep=sweep)
