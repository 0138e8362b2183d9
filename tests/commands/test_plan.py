"""plan: what a run takes and costs before anything is started; what nobody has measured or listed is unknown."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from memory_backend import DONE, STEP, InMemoryBackend, context

from lorasum.backends.records import Check, JobState
from lorasum.commands.plan import plan
from lorasum.commands.train import to_be_spent, train
from lorasum.config.instances import peak_of
from lorasum.config.schema import Config, TrainingConfig
from lorasum.contract import MemoryPlan
from lorasum.data.records import SplitStats
from lorasum.errors import LorasumError, ModelError
from lorasum.ledger import Ledger
from lorasum.lifecycle.estimates import Speed, Workload, band_of, seconds_of
from lorasum.lifecycle.memory import fit

Configured = Callable[..., Config]
SPLIT = SplitStats(examples=90, packs=10, tokens=4_000, completion_tokens=900, longest_example=60, fill=0.9)


@pytest.fixture(autouse=True)
def no_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    """These datasets hold no packs to estimate memory of."""
    monkeypatch.setattr("lorasum.commands.plan.memory_of", lambda config, spec: None)


@pytest.fixture
def packed(prepared: Path) -> Path:
    """A prepared dataset of ten packs."""
    manifest = json.loads((prepared / "manifest.json").read_text())
    (prepared / "manifest.json").write_text(json.dumps(manifest | {"splits": {"train": asdict(SPLIT)}}))
    return prepared


@pytest.mark.parametrize(
    ("training", "steps", "tokens"),
    [
        ({}, 30, 12_000),
        ({"epochs": 1.5}, 15, 6_000),
        ({"gradient_accumulation_steps": 4}, 9, 12_000),
        ({"gradient_accumulation_steps": 4, "per_device_batch_size": 2}, 6, 12_000),
        ({"gradient_accumulation_steps": 4, "per_device_batch_size": "auto"}, 9, 12_000),
        ({"max_steps": 5}, 5, 2_000),
        ({"epochs": 0.01}, 1, 400),
    ],
)
def test_the_steps_are_those_that_the_container_takes(training: dict[str, object], steps: int, tokens: int) -> None:
    from engine.arguments import Arguments
    from engine.schedule import plan_steps

    config = TrainingConfig.model_validate(training)
    work = Workload.of(SPLIT, config)
    assert (work.packs, work.steps, work.tokens) == (10, steps, tokens)
    size = 1 if config.per_device_batch_size == "auto" else config.per_device_batch_size
    arguments = replace(
        Arguments(model_id="m"), epochs=config.epochs, max_steps=config.max_steps or 0, per_device_batch_size=size,
        gradient_accumulation_steps=config.gradient_accumulation_steps,
    )  # fmt: skip
    assert plan_steps(arguments, SPLIT.packs).steps == steps


@pytest.mark.usefixtures("packed")
def test_a_plan_has_measured_time_and_listed_prices_and_starts_nothing(
    make_config: Configured, backend: InMemoryBackend, ledger: Ledger
) -> None:
    backend.price = 2.0
    first = plan(context(make_config(), backend, ledger))
    assert (first.packs, first.steps, first.tokens) == (10, 30, 12_000)
    assert (first.seconds, first.seconds_from) == (None, "")
    assert (first.usd_per_hour, first.endpoint_usd_per_hour, first.longest_seconds) == (2.0, 2.0, None)
    assert backend.calls == []
    assert [row.kind for row in ledger.resources()] == ["dataset"]

    backend.events = [STEP, replace(DONE, tokens_per_second=4.0)]
    job = train(context(make_config(lora={"r": 2}), backend, ledger)).job
    second = plan(context(make_config(limits={"max_usd": 3}), backend, ledger))
    assert (second.seconds, second.seconds_from, second.longest_seconds) == (3000.0, f"job {job}", 5400)
    backend.price = 3.0
    assert plan(context(make_config(), backend, ledger)).seconds is None, "at another price it is another instance"


def test_without_a_dataset_or_an_account_a_plan_says_what_is_unknown(
    make_config: Configured, backend: InMemoryBackend, ledger: Ledger
) -> None:
    backend.price = 2.0
    backend.checks = [Check("credentials", False, "no credentials", "log in")]
    found = plan(context(make_config(), backend, ledger))
    assert (found.prepared, found.usd_per_hour, found.endpoint_usd_per_hour) == (False, None, None)
    assert found.checks == tuple(backend.checks)


def test_a_card_that_is_too_small_is_told_with_one_that_is_not(make_config: Configured) -> None:
    config = make_config(backend="sagemaker")
    refusal = "this training needs 30.00 GiB, and 21.00 GiB are free\nlower data.max_length"
    problem = fit(config, MemoryPlan(1, 30 << 30, {}, 43 << 30, 0, 32, 1, refusal))
    assert (problem.ok, problem.found) == (False, "this training needs 30.00 GiB, and 21.00 GiB are free")
    assert problem.fix == "lower data.max_length; or train on an ml.g6e.xlarge, into which it fits"
    assert fit(config, MemoryPlan(-1, 0, {}, 0, 0, 0, 0, refusal)).fix == "lower data.max_length"
    fits = fit(config, MemoryPlan(0, 10 << 30, {}, 21 << 30, 0, 32, 1))
    assert (fits.ok, fits.found) == (True, "it fits into the 21.0 GiB of ml.g5.2xlarge")


def test_a_target_that_the_model_lacks_is_refused_before_it_is_priced(
    make_config: Configured, backend: InMemoryBackend, ledger: Ledger, tiny_model_dir: Path
) -> None:
    config = make_config(model={"id": str(tiny_model_dir)}, lora={"targets": ["q_proj"]})
    with pytest.raises(ModelError, match="no linear layer of bloom is called q_proj"):
        plan(context(config, backend, ledger))


@pytest.mark.usefixtures("packed")
def test_processes_without_a_pack_of_each_step_are_refused_before_a_start(
    make_config: Configured, backend: InMemoryBackend, ledger: Ledger
) -> None:
    four = {"training_instance_type": "ml.g5.12xlarge"}
    config = make_config(backend="sagemaker", sagemaker=four, training={"gradient_accumulation_steps": 2})
    [problem] = [check for check in plan(context(config, backend, ledger)).checks if not check.ok]
    assert problem.found == "an optimizer step has 2 packs for 4 processes, a GPU each"
    assert "gradient_accumulation_steps to 4 or more" in problem.fix
    with pytest.raises(LorasumError, match="an optimizer step has 2 packs for 4 processes"):
        train(context(config, backend, ledger))
    assert "start_training" not in str(backend.calls)
    shared = make_config(backend="sagemaker", sagemaker=four, training={"gradient_accumulation_steps": 4})
    assert all(check.ok for check in plan(context(shared, backend, ledger)).checks)


@pytest.mark.usefixtures("packed")
def test_only_what_costs_money_and_is_not_started_yet_is_asked_about(
    make_config: Configured, backend: InMemoryBackend, ledger: Ledger
) -> None:
    config = make_config(limits={"max_hours": 2})
    assert to_be_spent(context(config, backend, ledger)) == "", "it is free"
    backend.price = 2.0
    asked = to_be_spent(context(config, backend, ledger))
    assert "$2.00 an hour, stopped after 2 h, $4.00 at most: 30 steps, 12,000 tokens" in asked
    job = train(context(config, backend, ledger)).job
    assert to_be_spent(context(config, backend, ledger)) == ""
    backend.jobs[job] = JobState("failed", "no space")
    assert to_be_spent(context(config, backend, ledger)) != ""


def test_a_short_job_predicts_the_time_of_a_long_one() -> None:
    """5 steps of 100 tokens took 10 s, a pass over the test split 40 s, and all else 30 s."""
    short = replace(DONE, tokens=500, tokens_per_second=10.0, seconds=80.0, evaluation_seconds=40.0, evaluations=1)
    speed = Speed.of(short, "job chats-0")
    assert (speed.tokens_per_second, speed.evaluation_seconds, speed.other_seconds) == (50.0, 40.0, 30.0)
    assert seconds_of(Workload(packs=50, steps=100, tokens=10_000, evaluations=2), speed) == 200.0 + 80.0 + 30.0
    of_an_earlier_version = replace(short, evaluation_seconds=0.0, evaluations=0)
    assert seconds_of(Workload(5, 5, 500, 1), Speed.of(of_an_earlier_version, "job chats-0")) == 50.0


def test_arithmetic_gives_a_band_of_time_where_all_of_it_is_known() -> None:
    """BLOOMZ-7B1 on samsum: 8 million tokens, 24.4e9 operations each, on one A10G; the published job took 20,632 s."""
    work = Workload(packs=5_000, steps=15_000, tokens=8_000_000, evaluations=3)
    band = band_of(work, 24.4e9, peak_of("ml.g5.2xlarge"), measured=False)
    assert band
    assert (round(band.shortest), round(band.longest)) == (4290, 13943)
    assert peak_of("ml.g5.12xlarge") == 4 * peak_of("ml.g5.2xlarge")
    assert band_of(work, 0.0, 1e12, measured=True) is None
    assert band_of(work, 1e9, peak_of("ml.g99.xlarge"), measured=False) is None
    assert band_of(None, 1e9, 1e12, measured=True) is None
