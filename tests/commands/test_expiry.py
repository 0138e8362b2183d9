"""Endpoints that end: the time is on record, is arranged before anything is started, and is told when it is over."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from memory_backend import Clock, InMemoryBackend, RecordingReporter, context

from lorasum.backends.records import EndpointSpec
from lorasum.commands.deploy import deploy, plan_deploy, to_be_spent
from lorasum.commands.evaluate import evaluate
from lorasum.commands.status import status
from lorasum.commands.teardown import teardown
from lorasum.commands.train import train
from lorasum.config.schema import Config
from lorasum.context import RunContext
from lorasum.errors import BackendError
from lorasum.ledger.ledger import Ledger
from lorasum.ledger.resources import Endpoint
from lorasum.results.overview import ResourceStatus
from lorasum.results.serving import DeployResult

Deploy = Callable[..., DeployResult]


@pytest.fixture
def deployed_for(
    make_config: Callable[..., Config], prepared: object, backend: InMemoryBackend, ledger: Ledger,
    told: RecordingReporter,
) -> Deploy:  # fmt: skip
    """Deploy for this long, or without an end."""
    backend.price = 2.0

    def act(expires_after: str | None = None, **sections: Any) -> DeployResult:
        end = {"expires_after": expires_after} if expires_after else {}
        config = make_config(deploy=end, **sections)
        train(context(config, backend, ledger))
        return deploy(context(config, backend, ledger, told))

    return act


def endpoint(backend: InMemoryBackend, ledger: Ledger) -> ResourceStatus:
    """What status says of the run's endpoint after it has asked the backend."""
    return next(row for row in status([backend], ledger).resources if row.kind == "endpoint")


def recorded(ledger: Ledger) -> Endpoint:
    row = ledger.find(Endpoint, "chats", "chats")
    assert row is not None
    return row


def test_the_end_is_arranged_and_on_record_before_the_endpoint_starts(
    deployed_for: Deploy, backend: InMemoryBackend, ledger: Ledger, clock: Clock, told: RecordingReporter
) -> None:
    seen: list[tuple[datetime | None, datetime | None]] = []
    backend.before["start_endpoint"] = lambda: seen.append((backend.ends.get("chats"), recorded(ledger).expires_at))
    began = clock.time
    result = deployed_for("4h")
    [(arranged, row)] = seen
    assert arranged == row == result.expires_at == backend.ends["chats"]
    assert timedelta(hours=4) <= row - began < timedelta(hours=4, seconds=1)  # type: ignore[operator]
    assert result.ends_itself
    assert result.max_usd == pytest.approx(8.00)
    assert any("$2.00 an hour, until " in step and step.endswith("at most $8.00") for step in told.steps)


def test_an_endpoint_that_is_ready_after_its_time_is_deleted(
    deployed_for: Deploy, backend: InMemoryBackend, ledger: Ledger, clock: Clock
) -> None:
    """What was to end it may have been refused while it was being created: it would have run for ever."""
    backend.before["endpoint_started"] = lambda: clock.let_pass(2)
    with pytest.raises(BackendError, match="had not answered when its time was over"):
        deployed_for("1h")
    assert backend.endpoints == {}
    assert recorded(ledger).state == "gone"


def test_an_update_that_ends_after_the_endpoints_time_deletes_it(
    deployed_for: Deploy, backend: InMemoryBackend, clock: Clock
) -> None:
    deployed_for("1h")
    backend.before["endpoint_started"] = lambda: clock.let_pass(2)
    with pytest.raises(BackendError, match="had not answered when its time was over"):
        deployed_for(lora={"r": 2})
    assert backend.endpoints == {}


def test_deploying_again_moves_the_end_and_starts_nothing(
    deployed_for: Deploy, backend: InMemoryBackend, ledger: Ledger, clock: Clock
) -> None:
    first = deployed_for("4h")
    since = recorded(ledger).updated_at
    clock.let_pass(3)
    second = deployed_for("4h")
    assert second.reused
    assert second.expires_at is not None
    assert first.expires_at is not None
    assert second.expires_at - first.expires_at >= timedelta(hours=3)
    assert backend.ends["chats"] == recorded(ledger).expires_at == second.expires_at
    assert (recorded(ledger).updated_at, backend.calls.count("start_endpoint")) == (since, 1)
    assert second.max_usd == pytest.approx(14.00), "three hours are paid for already"

    clock.let_pass(1)
    kept = deployed_for()
    assert kept.expires_at == second.expires_at, "what was set is not forgotten by a deploy that says nothing of it"
    never = deployed_for("never")
    assert (never.expires_at, never.max_usd, backend.ends["chats"]) == (None, None, None)
    assert (recorded(ledger).expires_at, recorded(ledger).ends_itself) == (None, False)
    assert backend.calls.count("start_endpoint") == 1


def test_an_end_that_cannot_be_arranged_is_warned_of_and_not_promised(
    deployed_for: Deploy, backend: InMemoryBackend, ledger: Ledger, clock: Clock, told: RecordingReporter
) -> None:
    def refuse() -> None:
        raise BackendError("no role is set", "set the role")

    backend.before["expire_endpoint"] = refuse
    result = deployed_for("4h")
    assert (result.ends_itself, result.max_usd, recorded(ledger).ends_itself) == (False, None, False)
    assert any(step.endswith("$2.00 an hour, with no end of its own") for step in told.steps)
    assert [w for w in told.warnings if "will NOT end by itself" in w and w.endswith("no role is set. set the role")]
    assert endpoint(backend, ledger).alarm == ""
    clock.let_pass(4.1)
    assert "its time was over at" in endpoint(backend, ledger).alarm
    assert "still runs" in endpoint(backend, ledger).alarm


@pytest.mark.parametrize("look", [to_be_spent, plan_deploy])
def test_that_nothing_ends_an_endpoint_is_told_before_it_is_paid_for(
    deployed_for: Deploy, make_config: Callable[..., Config], backend: InMemoryBackend, ledger: Ledger,
    told: RecordingReporter, look: Callable[[RunContext], object],
) -> None:  # fmt: skip
    """It said `until 18:40, at most $8.00`, and after the answer that nothing ends it."""

    def refuse() -> None:
        raise BackendError("no role is set", "set the role")

    deployed_for("4h")
    teardown(context(make_config(), backend, ledger))
    run = context(make_config(deploy={"expires_after": "4h"}), backend, ledger, told)
    said = look(run)
    assert "at most $8.00" in (said if isinstance(said, str) else told.steps[-1])
    backend.before["expire_endpoint"] = refuse
    said = look(run)
    line = said if isinstance(said, str) else told.steps[-1]
    assert ("$2.00 an hour, with no end of its own" in line, "at most" in line) == (True, False)
    [warning] = told.warnings
    assert warning.startswith("endpoint chats will NOT end by itself at ")
    assert warning.endswith("no role is set. set the role")


def test_an_end_that_cannot_be_taken_away_stays_on_record(
    deployed_for: Deploy, backend: InMemoryBackend, ledger: Ledger
) -> None:
    def refuse() -> None:
        raise BackendError("the scheduler does not answer")

    arranged = deployed_for("4h").expires_at
    backend.before["expire_endpoint"] = refuse
    with pytest.raises(BackendError, match="the scheduler does not answer"):
        deployed_for("never")
    assert recorded(ledger).expires_at == backend.ends["chats"] == arranged


def test_an_endpoint_that_ended_at_its_time_has_reason_and_cost(
    deployed_for: Deploy, backend: InMemoryBackend, ledger: Ledger, clock: Clock
) -> None:
    deployed_for("4h")
    clock.let_pass(6)
    backend.endpoints.clear()
    shown = endpoint(backend, ledger)
    assert (shown.state, shown.alarm) == ("gone", "")
    assert shown.reason.startswith("its time was over at ")
    assert shown.usd == pytest.approx(8.0, abs=0.01), "it is not paid for since its time"


def test_an_endpoint_gone_before_its_time_has_no_reason(
    deployed_for: Deploy, backend: InMemoryBackend, ledger: Ledger, clock: Clock
) -> None:
    deployed_for("4h")
    clock.let_pass(1)
    backend.endpoints.clear()
    shown = endpoint(backend, ledger)
    assert (shown.state, shown.reason, shown.usd) == ("gone", "", None)


def test_what_may_cost_money_unseen_is_an_alarm(
    deployed_for: Deploy, backend: InMemoryBackend, ledger: Ledger, clock: Clock
) -> None:
    deployed_for("4h")
    assert status([backend], ledger).alarms == ()
    clock.let_pass(4 + 1 / 60)
    assert status([backend], ledger).alarms == (), "a schedule may come a minute late"
    clock.let_pass(0.1)
    [unasked] = status([], ledger).alarms
    assert str(unasked).startswith("endpoint chats (url:chats): its time was over at ")
    assert unasked.reason.endswith("and it may still run: nobody asked")
    ledger.save(replace(recorded(ledger), expires_at=None, ends_itself=False))
    [unasked] = status([], ledger).alarms
    assert unasked.reason == "nobody could be asked whether it still runs, and is billed"
    ledger.save(replace(recorded(ledger), usd_per_hour=0.0))
    assert status([], ledger).alarms == (), "it costs nothing"


def test_what_may_cost_money_is_an_alarm_while_it_runs(
    deployed_for: Deploy, backend: InMemoryBackend, ledger: Ledger, clock: Clock
) -> None:
    deployed_for("4h")
    clock.let_pass(4.1)
    [asked] = status([backend], ledger).alarms
    assert asked.reason.endswith("and it still runs")

    ledger.save(replace(recorded(ledger), state="intended", expires_at=None))
    [intended] = status([backend], ledger).alarms
    assert "ended before it had answered" in intended.reason
    with context(Config.model_construct(name="chats"), backend, ledger).hold():
        assert status([backend], ledger).alarms == (), "a deploy is at it"


def test_teardown_after_the_end_leaves_no_alarm(
    deployed_for: Deploy, make_config: Callable[..., Config], backend: InMemoryBackend, ledger: Ledger, clock: Clock
) -> None:
    deployed_for("90m")
    clock.let_pass(2)
    teardown(context(make_config(), backend, ledger))
    assert status([backend], ledger).alarms == ()


def test_an_update_that_fails_keeps_the_end_that_was_arranged_last(
    deployed_for: Deploy, backend: InMemoryBackend, ledger: Ledger, clock: Clock
) -> None:
    backend.keeps_the_way_back = True
    deployed_for("4h")
    clock.let_pass(1)

    def refuse() -> None:
        raise BackendError("it does not answer")

    backend.before["invoke"] = refuse
    with pytest.raises(BackendError, match="does not answer"):
        deployed_for("4h", lora={"r": 2})
    row = recorded(ledger)
    assert (row.state, row.expires_at, row.ends_itself) == ("live", backend.ends["chats"], True)


def test_the_base_models_endpoint_has_the_same_time(
    deployed_for: Deploy, make_config: Callable[..., Config], backend: InMemoryBackend, ledger: Ledger, clock: Clock
) -> None:
    deployed_for("4h")
    started: list[EndpointSpec] = []
    config = make_config(deploy={"expires_after": "4h"})
    backend.before["start_endpoint"] = lambda: started.append(backend.ends["chats--base"])  # type: ignore[arg-type]
    evaluate(context(config, backend, ledger), base=True)
    [end] = started
    assert end is not None


def test_an_older_row_has_no_end_and_a_damaged_time_is_shown(
    deployed_for: Deploy, backend: InMemoryBackend, ledger: Ledger
) -> None:
    import json
    import sqlite3

    deployed_for("4h")

    def rewrite(change: Callable[[dict[str, Any]], object]) -> None:
        with sqlite3.connect(ledger.path) as db:
            [(text,)] = db.execute("SELECT detail FROM resources WHERE kind='endpoint'").fetchall()
            change(detail := json.loads(text))
            db.execute("UPDATE resources SET detail=? WHERE kind='endpoint'", (json.dumps(detail),))

    rewrite(lambda detail: (detail.pop("expires_at"), detail.pop("ends_itself")))
    assert (recorded(ledger).expires_at, recorded(ledger).ends_itself) == (None, False)
    rewrite(lambda detail: detail.update(expires_at="soon"))
    assert endpoint_state(ledger) == "unreadable"
    rewrite(lambda detail: detail.update(expires_at="2026-11-25T18:40:00"))
    assert endpoint_state(ledger) == "unreadable"


def endpoint_state(ledger: Ledger) -> str:
    return next(row.state for row in ledger.resources() if row.name == "chats")
