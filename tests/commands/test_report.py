"""report: the page of a run is gathered from what is on record, and says what is missing."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from memory_backend import DONE, STEP, InMemoryBackend, context

from lorasum.commands.deploy import deploy
from lorasum.commands.evaluate import evaluate
from lorasum.commands.report import report
from lorasum.commands.train import train
from lorasum.config.schema import Config
from lorasum.errors import LorasumError
from lorasum.ledger.ledger import Ledger
from lorasum.ledger.resources import TrainingJob
from lorasum.shared.events import MERGE_LEFT_OUT
from lorasum.system import paths


def test_a_run_without_a_job_has_nothing_to_report(config: Config, backend: InMemoryBackend, ledger: Ledger) -> None:
    with pytest.raises(LorasumError, match="has no training job yet"):
        report(context(config, backend, ledger))


def test_a_page_is_written_and_says_what_it_lacks(
    config: Config, backend: InMemoryBackend, ledger: Ledger, tmp_path: Path
) -> None:
    run = context(config, backend, ledger)
    job = train(run).job
    made = report(run)
    page = Path(made.page)
    assert page == paths.run_dir("chats") / "reports" / f"report-{job}.html"
    assert page.stat().st_mode & 0o777 == 0o600, "dialogues stand on it"
    assert "org/model" in page.read_text()
    assert [line.partition(":")[0] for line in made.missing] == ["it has not been evaluated"]
    shared = tmp_path / "page.html"
    assert report(run, output=shared).page == str(shared)


def test_the_scores_are_those_of_the_artifact(config: Config, backend: InMemoryBackend, ledger: Ledger) -> None:
    run = context(config, backend, ledger)
    job = train(run).job
    deploy(run)
    evaluate(run, base=False)
    made = report(run)
    assert made.missing == ()
    assert "Ana: number 1" in Path(made.page).read_text()
    other = ledger.find(TrainingJob, "chats", job)
    assert other
    ledger.intend(
        TrainingJob(run="chats", name="chats-other", backend="local", origin=other.origin, artifact="memory:/x")
    )
    missing = report(run).missing
    assert any("has not been evaluated" in line for line in missing), "those of another job's artifact are not its own"
    assert report(run, job=job).missing == ()


def test_a_job_that_only_merged_has_the_curves_of_its_steps(
    config: Config, make_config: Callable[..., Config], backend: InMemoryBackend, ledger: Ledger
) -> None:
    backend.events = [STEP, replace(STEP, step=6), replace(DONE, not_merged=MERGE_LEFT_OUT)]
    run = context(config, backend, ledger)
    trained = train(context(make_config(deploy={"serve": "adapter"}), backend, ledger)).job
    backend.events = [DONE]
    merged = train(run).job
    assert merged != trained
    assert [Path(report(run, job=job).page).read_text().count("<svg") for job in (trained, merged)] == [5, 5]


def test_two_jobs_stand_side_by_side(
    make_config: Callable[..., Config], config: Config, backend: InMemoryBackend, ledger: Ledger
) -> None:
    first = train(context(config, backend, ledger)).job
    run = context(make_config(lora={"r": 4}), backend, ledger)
    second = train(run).job
    made = report(run, other=first)
    page = Path(made.page).read_text()
    assert made.compared_with == first
    assert '<tr class="differs">' in page
    assert f">{first}</th>" in page, "jobs of one run are told apart by their own names"
    assert f">{second}</th>" in page
    with pytest.raises(LorasumError, match="compared with itself"):
        report(run, other="chats")
    with pytest.raises(LorasumError, match="run 'nobody' has no training job"):
        report(run, other="nobody")


def test_a_job_has_its_plan_and_settings_on_record(config: Config, backend: InMemoryBackend, ledger: Ledger) -> None:
    job = train(context(config, backend, ledger)).job
    row = ledger.find(TrainingJob, "chats", job)
    assert row
    assert row.hyperparameters["lora_r"] == "8"
    assert row.planned_seconds is None, "nobody had measured such a job"
