"""clean frees the disk of what is old or named, and never of what runs."""

import os
from dataclasses import replace
from datetime import timedelta

import pytest
from memory_backend import Clock, InMemoryBackend, RecordingReporter, context

from lorasum.commands.clean import clean, plan_clean
from lorasum.commands.deploy import deploy
from lorasum.commands.status import status
from lorasum.commands.teardown import teardown
from lorasum.commands.train import train
from lorasum.config.schema import Config
from lorasum.errors import LorasumError
from lorasum.ledger.ledger import Ledger
from lorasum.ledger.resources import Adapter, Dataset, Endpoint, Origin
from lorasum.lifecycle.teardowns import note_teardown
from lorasum.lock import hold
from lorasum.reporting import Silent
from lorasum.system import paths
from lorasum.ui import render


def names(ledger: Ledger, backend: InMemoryBackend, days: float) -> list[str]:
    return [one.name for one in plan_clean(ledger, backend, age=timedelta(days=days))]


def test_what_runs_is_never_cleaned(config: Config, backend: InMemoryBackend, ledger: Ledger, clock: Clock) -> None:
    run = context(config, backend, ledger)
    train(run)
    deploy(run)
    clock.let_pass(24 * 40)
    assert names(ledger, backend, 30) == []
    with pytest.raises(LorasumError, match="is still in use"):
        plan_clean(ledger, backend, ["chats"])
    teardown(run)
    assert names(ledger, backend, 30) == [], "it was changed just now"
    clock.let_pass(24 * 31)
    assert names(ledger, backend, 30) == ["chats"]


def test_a_run_whose_adapter_is_served_is_never_cleaned(
    config: Config, backend: InMemoryBackend, ledger: Ledger, clock: Clock
) -> None:
    train(context(config, backend, ledger))
    origin = Origin(template="")
    adapter = Adapter(run="chats", job="chats-1", artifact="/artifact", rank=8, origin=origin)
    serving = Endpoint(
        run="other", name="other", backend="local", artifact="/other", origin=origin, adapters=(adapter,)
    )
    ledger.save(replace(ledger.intend(serving), state="live"))
    clock.let_pass(24 * 40)
    assert names(ledger, backend, 30) == []
    with pytest.raises(LorasumError, match="another endpoint serves its adapter"):
        plan_clean(ledger, backend, ["chats"])


def test_a_run_elsewhere_is_live_by_its_record(config: Config, ledger: Ledger) -> None:
    cloud = InMemoryBackend("sagemaker")
    train(context(config, cloud, ledger))
    deploy(context(config, cloud, ledger))
    with pytest.raises(LorasumError, match="is still in use"):
        plan_clean(ledger, InMemoryBackend(), ["chats"])


def test_a_cleaned_run_leaves_nothing_on_disk_and_is_on_record_as_gone(
    config: Config, backend: InMemoryBackend, ledger: Ledger
) -> None:
    folder = paths.run_dir("chats")
    (folder / "jobs" / "old").mkdir(parents=True)
    (folder / "jobs" / "old" / "weights").write_bytes(os.urandom(200_000))
    result = clean(ledger, backend, Silent(), plan_clean(ledger, backend, ["chats"]))
    assert result.bytes > 200_000
    assert [(one.kind, one.name) for one in result.folders] == [("run", "chats")]
    assert not folder.exists()
    assert [row.state for row in ledger.rows(Dataset, "chats")] == ["gone"]
    with pytest.raises(LorasumError, match="there is no run 'chats'"):
        plan_clean(ledger, backend, ["chats"])


def test_what_a_cleaned_run_has_in_s3_is_told_and_stays_on_record(
    config: Config, ledger: Ledger, told: RecordingReporter, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its dataset was called gone, while S3 had it and billed it."""
    machine, cloud = InMemoryBackend(), InMemoryBackend("sagemaker")
    for row in ledger.rows(Dataset, "chats"):
        ledger.note(replace(row, backend="sagemaker"))
    run = context(config, cloud, ledger)
    job = train(run).job
    clean(ledger, machine, told, plan_clean(ledger, machine, ["chats"]))
    assert "files of run 'chats' stay in S3 and are billed by the month" in told.steps[-1]
    [dataset] = ledger.rows(Dataset, "chats")
    assert dataset.state == "done"
    assert ledger.latest_dataset("chats") is None
    render.show(status([machine], ledger))
    assert f"{dataset.name} done: no longer on this disk, and still in S3" in capsys.readouterr().out
    teardown(run, data=True, artifacts=True)
    assert {row.state for row in ledger.resources("chats")} == {"gone"}, job
    paths.run_dir("chats").mkdir(parents=True, exist_ok=True)
    clean(ledger, machine, told, plan_clean(ledger, machine, ["chats"]))
    assert len([step for step in told.steps if "S3" in step]) == 1


def test_a_run_that_somebody_works_on_is_left(config: Config, backend: InMemoryBackend, ledger: Ledger) -> None:
    planned = plan_clean(ledger, backend, ["chats"])
    told = RecordingReporter()
    with hold("chats", backend, ledger, Silent()):
        assert clean(ledger, backend, told, planned).folders == ()
    assert "it is left" in told.warnings[0]
    assert paths.run_dir("chats").is_dir()


def test_models_go_only_when_asked_and_nothing_runs(config: Config, backend: InMemoryBackend, ledger: Ledger) -> None:
    (paths.model_cache() / "tiny").mkdir(parents=True)
    planned, told = plan_clean(ledger, backend, models=True), RecordingReporter()
    assert [one.name for one in planned] == ["tiny"]
    train(context(config, backend, ledger))
    deploy(context(config, backend, ledger))
    assert clean(ledger, backend, told, planned).folders == (), "it began while somebody was asked"
    assert "model tiny may be in use" in told.warnings[0]
    assert (paths.model_cache() / "tiny").is_dir()
    with pytest.raises(LorasumError, match="models are kept while run 'chats' has something running"):
        plan_clean(ledger, backend, models=True)
    with pytest.raises(LorasumError, match="nothing to clean is named"):
        plan_clean(ledger, backend)


def test_a_teardown_makes_no_run_newer(ledger: Ledger, backend: InMemoryBackend, clock: Clock) -> None:
    folder = paths.run_dir("desk")
    folder.mkdir(parents=True)
    old = clock().timestamp() - 40 * 24 * 3600
    (folder / "model").touch()
    for path in (folder / "model", folder):
        os.utime(path, (old, old))
    assert names(ledger, backend, 30) == ["desk"]
    note_teardown("desk")
    assert names(ledger, backend, 30) == ["desk"]
