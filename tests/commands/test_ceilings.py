"""limits: ceilings that become the job's own time limit and the endpoint's end, or a refusal before the start."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from memory_backend import DONE, STEP, Clock, InMemoryBackend, RecordingReporter, context

from lorasum.backends.records import JobRef, JobState, TrainSpec
from lorasum.commands.deploy import deploy
from lorasum.commands.plan import plan
from lorasum.commands.train import plan_training, to_be_spent, train
from lorasum.config.schema import Config
from lorasum.data.records import SplitStats
from lorasum.errors import BackendError, LorasumError
from lorasum.ledger.ledger import Ledger
from lorasum.lifecycle.limits import job_limit
from lorasum.ui import render

Configured = Callable[..., Config]


@pytest.fixture
def specs(backend: InMemoryBackend) -> list[TrainSpec]:
    """What start_training was called with."""
    started: list[TrainSpec] = []
    start = backend.start_training

    def remember(spec: TrainSpec, asking: Callable[[], object] = lambda: None) -> JobRef:
        started.append(spec)
        return start(spec, asking)

    backend.start_training = remember  # type: ignore[method-assign]
    return started


@pytest.mark.parametrize(
    ("limits", "price", "seconds"),
    [
        ({}, 2.0, None),
        ({"max_hours": 3}, 2.0, 3 * 3600),
        ({"max_usd": 5}, 2.0, 9000),
        ({"max_usd": 5, "max_hours": 3}, 2.0, 9000),
        ({"max_usd": 5, "max_hours": 1}, 2.0, 3600),
        ({"max_usd": 5}, 0.0, None),
    ],
)
@pytest.mark.usefixtures("prepared")
def test_a_ceiling_becomes_the_jobs_own_limit(
    make_config: Configured, backend: InMemoryBackend, ledger: Ledger, specs: list[TrainSpec],
    limits: dict[str, float], price: float, seconds: int | None,
) -> None:  # fmt: skip
    backend.price = price
    config = make_config(limits=limits)
    without = plan_training(context(make_config(), backend, ledger)).job
    assert train(context(config, backend, ledger)).job == without, "limits start no other job"
    assert [spec.max_seconds for spec in specs] == [seconds]


@pytest.mark.usefixtures("prepared")
def test_what_earlier_attempts_cost_is_taken_off(
    make_config: Configured, backend: InMemoryBackend, ledger: Ledger, specs: list[TrainSpec]
) -> None:
    backend.price, backend.billed = 2.0, 3.0
    backend.outcome = JobState("failed", "no space")
    config = make_config(limits={"max_usd": 5})
    with pytest.raises(BackendError):
        train(context(config, backend, ledger))
    with pytest.raises(BackendError):
        train(context(config, backend, ledger))
    assert [spec.max_seconds for spec in specs] == [9000, 3600]
    backend.billed = 4.99
    before = ledger.resources()
    with pytest.raises(LorasumError, match=r"is \$5.00, and pays for 18 s .*after \$4.99 for its earlier") as error:
        train(context(config, backend, ledger))
    assert "limits.max_usd" in error.value.hint
    assert (len(specs), ledger.resources()) == (2, before), "nothing was started or recorded"


@pytest.mark.usefixtures("prepared")
def test_an_unknown_price_is_warned_of_and_hours_still_hold(
    make_config: Configured, backend: InMemoryBackend, ledger: Ledger, specs: list[TrainSpec], told: RecordingReporter
) -> None:
    backend.price = None
    train(context(make_config(limits={"max_usd": 5, "max_hours": 2}), backend, ledger, told))
    assert [spec.max_seconds for spec in specs] == [7200]
    assert any("the price is unknown" in warning for warning in told.warnings)


@pytest.mark.usefixtures("prepared")
def test_nothing_is_started_that_only_a_ceiling_without_a_price_ends(
    make_config: Configured, backend: InMemoryBackend, ledger: Ledger, specs: list[TrainSpec]
) -> None:
    trained = make_config()
    train(context(trained, backend, ledger))
    backend.price = None
    before = ledger.resources()
    limited = make_config(limits={"max_usd": 5})
    with pytest.raises(LorasumError, match="the price is unknown") as error:
        train(context(make_config(limits={"max_usd": 5}, lora={"r": 2}), backend, ledger))
    assert "limits.max_hours" in error.value.hint
    with pytest.raises(LorasumError, match="the price is unknown"):
        deploy(context(limited, backend, ledger))
    assert (len(specs), ledger.resources()) == (1, before), "nothing was started or recorded"
    plan_training(context(limited, backend, ledger))


@pytest.mark.usefixtures("prepared")
def test_an_endpoints_unknown_price_is_warned_of_and_hours_still_hold(
    make_config: Configured, backend: InMemoryBackend, ledger: Ledger, clock: Clock, told: RecordingReporter
) -> None:
    backend.price = None
    config = make_config(limits={"max_usd": 5, "max_hours": 2}, deploy={"expires_after": "never"})
    train(context(config, backend, ledger))
    began = clock.time
    made = deploy(context(config, backend, ledger, told))
    assert [warning for warning in told.warnings if "the price is unknown" in warning]
    assert made.expires_at is not None
    assert made.expires_at - began == pytest.approx(timedelta(hours=2), abs=timedelta(seconds=1))


def test_what_is_billed_after_a_job_is_paid_out_of_the_ceiling(
    make_config: Configured, told: RecordingReporter
) -> None:
    warm: dict[str, Any] = {"backend": "sagemaker", "sagemaker": {"keep_alive_minutes": 30}}
    config = make_config(limits={"max_usd": 5}, **warm)
    assert job_limit(config, 2.0, 0.0, told) == 9000 - 1800 - 180, "kept warm; told to stop, killed, uploaded"


@pytest.mark.parametrize(
    ("limits", "minutes", "said"),
    [
        ({"max_hours": 2}, 0, "stopped after 2 h, $4.10 at most"),
        ({"max_hours": 1}, 60, "stopped after 1 h, $4.10 at most"),
        ({"max_usd": 5}, 60, "stopped after 1.4 h, $5.00 at most"),
        ({}, 0, "stopped after 24 h, $48.10 at most"),
        ({"max_hours": 48}, 0, "stopped after 24 h, $48.10 at most"),
    ],
)
@pytest.mark.usefixtures("prepared")
def test_plan_and_train_tell_the_same_most_that_a_job_costs(
    make_config: Configured, backend: InMemoryBackend, ledger: Ledger, told: RecordingReporter,
    capsys: pytest.CaptureFixture[str], limits: dict[str, float], minutes: int, said: str,
) -> None:  # fmt: skip
    backend.price = 2.0
    config = make_config(backend="sagemaker", limits=limits, sagemaker={"keep_alive_minutes": minutes})
    asked = to_be_spent(context(config, backend, ledger))
    plan_training(context(config, backend, ledger, told))
    assert (said in asked, said in told.steps[-1]) == (True, True), (asked, told.steps)
    planned = plan(context(config, backend, ledger))
    assert f"{planned.max_usd:.2f} at most" in said.replace("$", "")
    render.show(planned)
    assert f"${planned.max_usd:.2f} at most, when it is stopped after" in capsys.readouterr().out


@pytest.mark.usefixtures("prepared")
def test_an_endpoint_ends_at_the_ceiling_and_deploying_again_renews_none(
    make_config: Configured, backend: InMemoryBackend, ledger: Ledger, clock: Clock, told: RecordingReporter
) -> None:
    backend.price = 2.0
    config = make_config(limits={"max_usd": 5}, deploy={"expires_after": "2h"})
    train(context(config, backend, ledger))
    began = clock.time
    first = deploy(context(config, backend, ledger))
    assert first.max_usd == pytest.approx(4.00)
    clock.let_pass(1)
    second = deploy(context(config, backend, ledger))
    assert second.max_usd == pytest.approx(5.00)
    assert backend.ends["chats"] == second.expires_at
    assert second.expires_at is not None
    assert second.expires_at - began < timedelta(hours=2.5, seconds=1)
    clock.let_pass(2)
    with pytest.raises(LorasumError, match="has reached its `limits`"):
        deploy(context(config, backend, ledger))
    other = make_config(limits={"max_usd": 5}, deploy={"expires_after": "never"}, lora={"r": 2})
    train(context(other, backend, ledger))
    assert deploy(context(other, backend, ledger)).max_usd == pytest.approx(5.00), "no end is no way around a limit"


def test_a_job_that_would_be_stopped_by_a_limit_is_not_started(
    make_config: Configured, prepared: Path, backend: InMemoryBackend, ledger: Ledger, specs: list[TrainSpec],
    told: RecordingReporter,
) -> None:  # fmt: skip
    manifest = json.loads((prepared / "manifest.json").read_text())
    split = SplitStats(examples=90, packs=10, tokens=4_000, completion_tokens=900, longest_example_tokens=60, fill=0.9)
    (prepared / "manifest.json").write_text(json.dumps(manifest | {"splits": {"train": asdict(split)}}))
    backend.price = 2.0
    train(context(make_config(training={"epochs": 2}), backend, ledger, told))
    assert told.steps[0].endswith(
        "$2.00 an hour: 20 steps, 8,000 tokens, time unknown, as no earlier job has measured it; "
        "`lorasum plan` estimates it"
    )
    backend.events = [STEP, replace(DONE, tokens_per_second=1.0)]
    first = train(context(make_config(lora={"r": 2}), backend, ledger)).job
    limited = {"training": {"epochs": 2}, "lora": {"r": 3}}
    for start in (to_be_spent, train):  # before it asks, too
        with pytest.raises(LorasumError, match=rf"needs 2.2 h .* of job {first}, and limits allow 1 h") as error:
            start(context(make_config(limits={"max_hours": 1}, **limited), backend, ledger))
        assert "fewer epochs" in error.value.hint
    assert len(specs) == 2
    train(context(make_config(limits={"max_hours": 3}, **limited), backend, ledger, told))
    assert told.steps[-1].endswith(f"about 133 min by the speed of job {first}")


def test_more_instances_reach_the_ceiling_sooner(make_config: Configured, backend: InMemoryBackend) -> None:
    from lorasum.lifecycle.expiry import end_of

    now = Clock()()
    grows = {"backend": "sagemaker", "sagemaker": {"max_instances": 5}}
    config = make_config(limits={"max_usd": 5}, **grows)
    run = context(config, backend, Ledger(clock=lambda: now))
    assert end_of(run, None, None, 2.0) == now + timedelta(minutes=30)
