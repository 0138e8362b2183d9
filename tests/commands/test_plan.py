"""plan: what a run takes and costs before anything is started; what nobody has measured or listed is unknown."""

import json
import re
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from memory_backend import DONE, STEP, InMemoryBackend, RecordingReporter, context

from lorasum.backends.records import Check, JobState
from lorasum.cli.verb import raise_failure
from lorasum.commands.plan import plan
from lorasum.commands.train import to_be_spent, train
from lorasum.config.instances import peak_of
from lorasum.config.schema import Config, TrainingConfig
from lorasum.data.records import SplitStats
from lorasum.errors import BackendError, LorasumError, ModelError
from lorasum.ledger.ledger import Ledger
from lorasum.lifecycle.hardware import Hardware
from lorasum.lifecycle.training_time import Speed, Workload, band_of, seconds_of
from lorasum.shared.records import MemoryPlan, Needs

Configured = Callable[..., Config]
SPLIT = SplitStats(examples=90, packs=10, tokens=4_000, completion_tokens=900, longest_example_tokens=60, fill=0.9)


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
    assert (first.training_seconds, first.measured_job) == (None, None)
    assert (first.usd_per_hour, first.endpoint_usd_per_hour, first.limit_seconds) == (2.0, 2.0, None)
    assert backend.calls == []
    assert [row.kind for row in ledger.resources()] == ["dataset"]

    backend.events = [STEP, replace(DONE, tokens_per_second=4.0)]
    job = train(context(make_config(lora={"r": 2}), backend, ledger)).job
    second = plan(context(make_config(limits={"max_usd": 3}), backend, ledger))
    assert (second.training_seconds, second.measured_job, second.limit_seconds) == (3000.0, job, 5400)
    backend.price = 3.0
    assert plan(context(make_config(), backend, ledger)).training_seconds is None, (
        "at another price it is another instance"
    )


def test_without_a_dataset_or_an_account_a_plan_says_what_is_unknown(
    make_config: Configured, backend: InMemoryBackend, ledger: Ledger, tiny_model_dir: Path
) -> None:
    backend.price = 2.0
    backend.checks = [Check("credentials", False, "no credentials", "log in")]
    found = plan(context(make_config(model={"id": str(tiny_model_dir)}), backend, ledger))
    assert (found.prepared, found.usd_per_hour, found.endpoint_usd_per_hour) == (False, None, None)
    assert found.checks == tuple(backend.checks)


@pytest.mark.parametrize("stops", [True, False])
@pytest.mark.usefixtures("packed")
def test_a_plan_fails_by_what_stops_the_training_alone(
    make_config: Configured, backend: InMemoryBackend, ledger: Ledger, stops: bool
) -> None:
    backend.checks = [Check("quota", False, "it is 0", "ask for more", stops_training=stops)]
    made = plan(context(make_config(), backend, ledger))
    with pytest.raises(BackendError, match="this cannot start: it is 0") if stops else nullcontext():
        raise_failure(made)


@pytest.mark.parametrize("refused", ["", "hub_commit", "model_file", "config.json"])
def test_a_hub_model_is_looked_at_where_nothing_is_prepared(
    make_config: Configured, backend: InMemoryBackend, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    def refuse(*_: object) -> str:
        raise ModelError("it is gated", "accept its terms")

    def found(_: object, name: str) -> Path | None:
        return None if refused == name else Path(name)

    monkeypatch.setattr("lorasum.models.source.hub_commit", refuse if refused == "hub_commit" else lambda *_: "c0ffee")
    monkeypatch.setattr("lorasum.commands.plan.model_file", refuse if refused == "model_file" else found)
    *_, check = plan(context(make_config(), backend, ledger)).checks
    if refused == "config.json":
        assert (check.ok, check.found) == (False, "org/model has no config.json")
    elif refused:
        assert check == Check("model", False, "it is gated", "accept its terms")
    else:
        assert check == Check("model", True, "org/model at commit c0ffee")


def needs_of(config: Config, gib: float, disk: int = 10**9, process: int = 4 << 30) -> Needs:
    """A training that needs so many GiB of its GPU, as memory_plan.py tells it of each GPU of the config."""

    def on(gib_there: int) -> MemoryPlan:
        if gib_there < gib:
            return MemoryPlan(0, {}, gib_there << 30, 0, 0, 0, f"this training needs {gib} GiB\nlower data.max_length")
        return MemoryPlan(round(gib * 2**30), {}, gib_there << 30, 0, 32, 1)

    return Needs(tuple(map(on, Hardware.of(config).gpu_sizes)), process, 2**20, disk, disk, disk)


@pytest.fixture
def tell(monkeypatch: pytest.MonkeyPatch) -> Callable[[Needs], None]:
    """Sets what memory_plan.py tells."""
    return lambda needs: monkeypatch.setattr("lorasum.lifecycle.estimate._tell", lambda flags, variables: needs)


@pytest.mark.usefixtures("packed")
def test_each_instance_type_is_shown_with_what_fits_and_costs(
    make_config: Configured, ledger: Ledger, tell: Callable[[Needs], None]
) -> None:
    backend = InMemoryBackend("sagemaker", stops_on_interrupt=False)
    backend.price, backend.events = 2.0, [STEP, replace(DONE, tokens_per_second=4.0)]
    config = make_config(backend="sagemaker")
    tell(needs_of(config, 20.0))
    train(context(make_config(backend="sagemaker", lora={"r": 2}), backend, ledger))
    made = plan(context(config, backend, ledger))
    options = {option.instance_type: option for option in made.instances}
    assert list(options)[:3] == ["ml.g4dn.xlarge", "ml.g5.xlarge", "ml.g6.xlarge"], "the smallest GPU first"
    assert {name for name, one in options.items() if one.trains or one.serves} == {"ml.g5.2xlarge", "ml.g5.4xlarge"}
    assert {name for name, one in options.items() if not one.fits} == {"ml.g4dn.xlarge"}
    assert options["ml.g4dn.xlarge"].short_of == "GPU"
    own = options["ml.g5.2xlarge"]
    assert (own.gpus, own.gpu_bytes >> 30, own.training_seconds) == (1, 21, 3000.0)
    assert own.usd == pytest.approx(2 * (3000 + 60 + 4) / 3600), "1 GB is uploaded, by packages that were installed"
    assert (own.endpoint_usd_per_day, own.endpoint_usd_in_30_days) == (48.0, 1440.0)
    assert made.spot_least_usd_per_hour is None
    spot = plan(context(make_config(backend="sagemaker", sagemaker={"spot": True}), backend, ledger))
    assert spot.spot_least_usd_per_hour == pytest.approx(0.2)
    assert made.host
    assert made.host.there_bytes == 29 << 30
    assert made.disk
    assert (made.disk.needed_bytes, made.disk.there_bytes) == (3 * 10**9, 450 * 10**9)
    alone = plan(context(make_config(backend="sagemaker", deploy={"serve": "adapter"}), backend, ledger))
    assert alone.disk
    assert (alone.overhead_seconds, alone.disk.needed_bytes) == (60, 2 * 10**9), "nothing is merged"
    assert [one.instance_type for one in made.instances if one.training_seconds] == ["ml.g5.2xlarge"], (
        "no other was measured"
    )
    assert [check.what for check in made.checks if check.ok] == ["credentials", "memory", "main memory", "disk"]


@pytest.mark.parametrize(
    ("settings", "needs", "short_of", "said", "fix"),
    [
        ({}, {"gib": 30.0}, "GPU", "this training needs 30.0 GiB", "train on an ml.g6e.xlarge, into which it fits"),
        ({}, {"gib": 500.0}, "GPU", "this training needs 500.0 GiB", "lower data.max_length"),
        ({}, {"gib": 1.0, "process": 40 << 30}, "RAM", "there are 29 GiB of ml.g5.2xlarge", "ml.g5.4xlarge"),
        ({}, {"gib": 1.0, "disk": 200 * 10**9}, "disk", "600.0 GB, and there are 450 GB", "a larger size"),
        (
            {"training_instance_type": "ml.p3.2xlarge", "volume_size_gb": 30},
            {"gib": 1.0, "disk": 20 * 10**9}, "disk", "60.0 GB, and there are 30 GB", "volume_size_gb to 60 or more",
        ),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("packed")
def test_a_job_that_does_not_fit_is_refused_before_it_is_paid_for(
    make_config: Configured,
    ledger: Ledger,
    tell: Callable[[Needs], None],
    settings: dict[str, object],
    needs: dict[str, Any],
    short_of: str,
    said: str,
    fix: str,
) -> None:
    backend = InMemoryBackend("sagemaker", stops_on_interrupt=False)
    backend.price = 2.0
    config = make_config(backend="sagemaker", sagemaker=settings)
    tell(needs_of(config, **needs))
    run = context(config, backend, ledger)
    [problem] = [check for check in plan(run).checks if not check.ok]
    assert said in problem.found
    assert fix in problem.fix
    own = config.sagemaker.training_instance_type
    assert [one.short_of for one in plan(run).instances if one.instance_type == own] == [short_of]
    for start in (to_be_spent, train):
        with pytest.raises(LorasumError, match=re.escape(said)) as refused:
            start(run)
        assert fix in refused.value.hint
    assert "start_training" not in backend.calls


@pytest.mark.usefixtures("packed")
def test_a_base_that_gpus_share_takes_main_memory(
    make_config: Configured, ledger: Ledger, tell: Callable[[Needs], None]
) -> None:
    """It fits where there is enough of that; a GPU that holds it is named before one that does not."""
    backend, told = InMemoryBackend("sagemaker", stops_on_interrupt=False), RecordingReporter()
    backend.price = 2.0
    processes = {"gradient_accumulation_steps": 4}
    config = make_config(
        backend="sagemaker", training=processes, sagemaker={"training_instance_type": "ml.g5.12xlarge"}
    )
    needs = replace(needs_of(config, 20.0), step_operations=7e10)
    large = tuple(
        replace(one, shared_bytes=70 << 30) if not one.refusal and one.memory_free_bytes < 43 << 30 else one
        for one in needs.plans
    )
    tell(replace(needs, plans=large))
    made = plan(context(config, backend, ledger))
    assert all(check.ok for check in made.checks)
    assert made.host
    assert (made.host.parts["base model"], made.host.there_bytes >> 30) == (70 << 30, 173)
    assert made.band is None, "nobody has measured how fast it comes to the GPUs"
    assert "21.0 GiB of ml.g5.12xlarge, with 70.0 GiB of the base model in main memory" in made.checks[1].found
    small = make_config(backend="sagemaker", sagemaker={"training_instance_type": "ml.g5.2xlarge"})
    tell(replace(needs_of(small, 20.0), plans=large))
    with pytest.raises(LorasumError, match=r"needs 74.0 GiB, and there are 29 GiB of ml.g5.2xlarge") as refused:
        train(context(small, backend, ledger, told))
    assert "train on an ml.g6e.xlarge" in refused.value.hint
    tell(replace(needs, plans=tuple(replace(one, refusal="", shared_bytes=70 << 30) for one in needs.plans)))
    with pytest.raises(LorasumError) as refused:
        train(context(make_config(backend="sagemaker", lora={"r": 2}), backend, ledger, told))
    assert "train on an ml.g5.8xlarge" in refused.value.hint


@pytest.mark.usefixtures("packed")
def test_a_first_job_has_a_time_by_arithmetic(
    make_config: Configured, ledger: Ledger, tell: Callable[[Needs], None]
) -> None:
    """12,000 tokens of 10^11 operations each, on an A10G of 70 x 10^12: 17 s at its peak."""
    backend, told = InMemoryBackend("sagemaker", stops_on_interrupt=False), RecordingReporter()
    backend.price, backend.events = 2.0, [STEP, replace(DONE, tokens_per_second=4.0)]
    config = make_config(backend="sagemaker")
    needs = replace(needs_of(config, 20.0), step_operations=7e10, forward_operations=6e10)
    half_of_the_layers_again = tuple(replace(one, recomputed_layers=16) for one in needs.plans)
    tell(replace(needs, plans=half_of_the_layers_again))
    run = context(config, backend, ledger, told)
    first = plan(run)
    assert first.band
    assert (first.band.operations, first.band.peak_operations_per_second) == (12_000 * 1e11, 70e12)
    assert (first.band.shortest_seconds, first.band.longest_seconds) == pytest.approx((26.4, 85.7), abs=0.1)
    bands = {one.instance_type: one.band for one in first.instances}
    assert bands["ml.g5.2xlarge"] == first.band
    assert bands["ml.g4dn.xlarge"] is None, "it does not fit there"
    assert bands["ml.g7e.2xlarge"] is None, "nobody knows its peak"
    slow = context(make_config(backend="sagemaker", limits={"max_hours": 0.005}), backend, ledger, told)
    with pytest.raises(LorasumError, match=re.escape("for its steps at 65% of 70 TFLOP/s, and limits allow 0.005 h")):
        train(slow)
    assert told.warnings == []
    close = make_config(backend="sagemaker", limits={"max_hours": 0.02}, lora={"r": 4})
    train(context(close, backend, ledger, told))
    [warning] = told.warnings
    assert "65% of 70 TFLOP/s and about 2 min 16 s to start and end, and limits allow 0.02 h" in warning
    told.steps.clear()
    backend.price = 2.5
    train(run)
    assert told.warnings == [warning]
    assert "12,000 tokens, 0 to 1 min by arithmetic, and about 2 min 16 s to start and end" in told.steps[0]
    measured = plan(context(make_config(backend="sagemaker", lora={"r": 2}), backend, ledger))
    assert (measured.training_seconds, measured.band) == (3000.0, None)


@pytest.mark.usefixtures("packed")
def test_a_job_is_started_where_nobody_can_tell_what_it_needs(make_config: Configured, ledger: Ledger) -> None:
    backend, told = InMemoryBackend("sagemaker", stops_on_interrupt=False), RecordingReporter()
    backend.price = 2.0
    run = context(make_config(backend="sagemaker"), backend, ledger, told)
    assert plan(run).memory_unknown == "there are no packs"
    train(run)
    assert told.steps[-1].endswith("; memory not estimated: there are no packs")
    odd = make_config(backend="sagemaker", sagemaker={"training_instance_type": "ml.g9.xlarge"})
    assert plan(context(odd, backend, ledger)).memory_unknown == "what ml.g9.xlarge has is not known"


@pytest.mark.usefixtures("packed")
def test_an_estimate_for_instance_types_is_made_once(
    make_config: Configured, ledger: Ledger, told: RecordingReporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, asked = make_config(backend="sagemaker"), []

    def tell(*about: object) -> Needs:
        asked.append(about)
        return needs_of(config, 1.0)

    monkeypatch.setattr("lorasum.lifecycle.estimate._tell", tell)
    run = context(config, InMemoryBackend("sagemaker", stops_on_interrupt=False), ledger, told)
    assert plan(run) == plan(run)
    train(run)
    assert len(asked) == 1
    assert told.steps.count("estimating memory and time of the training") == 1, "it takes a quarter of a minute"
    plan(context(make_config(backend="sagemaker", lora={"r": 2}), InMemoryBackend("sagemaker"), ledger))
    assert len(asked) == 2


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
    assert problem.found == "an optimizer step has 2 packs for 4 processes"
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
    """5 steps of 100 tokens took 10 s, a pass over the test split 40 s, and everything else 30 s."""
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
    assert (round(band.shortest_seconds), round(band.longest_seconds)) == (4290, 13943)
    assert peak_of("ml.g5.12xlarge") == 4 * peak_of("ml.g5.2xlarge")
    assert band_of(work, 0.0, 1e12, measured=True) is None
    assert band_of(work, 1e9, peak_of("ml.g99.xlarge"), measured=False) is None
    assert band_of(None, 1e9, 1e12, measured=True) is None
    assert band_of(work, 1e9, 1e14, measured=True) is None, "a step is 5 ms: not the arithmetic takes the time"
