"""Endpoints that others depend on: what serves stays, what is billed goes first, and limits are not renewed."""

import json
import shutil
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import waiting
from account import Account
from stand_in import Fault, StandIn

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("stubs")]

ANOTHER = ("--set", "sagemaker.environment={WORDS: many}")
ENDS = ("--set", "sagemaker.scheduler_role=Ends")


@pytest.fixture
def elsewhere(there: Account, tmp_path: Path) -> Account:
    """The same user on another machine, which knows of the training only."""
    return Account(there.aws, Path(shutil.copytree(there.home, tmp_path / "home")), there.config, there._clients)


def shown(there: Account) -> dict[str, Any]:
    """What SageMaker says of the endpoint."""
    return there.aws.sagemaker.endpoints["tiny"].description


def recorded(there: Account) -> Any:
    """What status says of it."""
    [row] = [row for row in there.call("status")["resources"] if row["kind"] == "endpoint"]
    return row


def deletions(aws: StandIn) -> int:
    return aws.calls.count("sagemaker DeleteEndpoint")


def before_the(
    number: int, operation: str, aws: StandIn, act: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Act just before SageMaker carries out this call of an operation: the first is number 1."""
    call, heard = aws.sagemaker.call, list[str]()

    def carried_out(named: str, request: dict[str, Any]) -> dict[str, Any]:
        heard.append(named)
        if named == operation and heard.count(operation) == number:
            act()
        return call(named, request)

    monkeypatch.setattr(aws.sagemaker, "call", carried_out)


def test_run_leaves_an_endpoint_that_served_before(there: Account) -> None:
    there.call("deploy")
    assert there.call("run")["teardown"] is None
    assert shown(there)["EndpointStatus"] == "InService"
    there.aws.faults = [Fault("runtime ", "denied")]
    for keep in ([], ["--keep"]):
        failed = there.run("run", *keep)
        assert failed.code == 2, failed.stderr
        assert "endpoint tiny is not only this run's, and is left as it is" in failed.stderr
    assert (shown(there)["EndpointStatus"], deletions(there.aws)) == ("InService", 0)


def test_run_removes_what_a_killed_deploy_left_unanswered(there: Account) -> None:
    there.aws.faults = [Fault("runtime |DeleteEndpoint$", "denied")]
    assert there.run("deploy").code == 2
    there.aws.faults = []
    assert there.run("status").code == 3, "it runs, and has not answered"
    assert there.call("run")["teardown"]["removed"]
    assert there.aws.sagemaker.call("ListEndpoints", {}) == {"Endpoints": []}


def test_run_removes_what_a_run_before_it_could_not(there: Account) -> None:
    """As one that is killed leaves its endpoint."""
    there.aws.faults = [Fault("DeleteEndpoint$", "denied")]
    assert there.run("run").code == 2
    assert shown(there)["EndpointStatus"] == "InService"
    there.aws.faults = []
    assert there.call("run")["teardown"]["removed"]
    assert there.aws.sagemaker.call("ListEndpoints", {}) == {"Endpoints": []}


@pytest.mark.parametrize("flags", [(), ANOTHER], ids=["the same", "another"])
def test_the_second_of_two_first_deploys_leaves_the_first_ones(
    there: Account, elsewhere: Account, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...]
) -> None:
    """Both look, and find none; the one that comes second then fails."""

    def the_first() -> None:
        there.call("deploy")
        there.aws.faults = [Fault("runtime ", "denied")]

    before_the(1, "CreateEndpoint", there.aws, the_first, monkeypatch)
    said = elsewhere.run("deploy", *flags)
    assert said.code == 2, said.stderr
    assert "started by another client meanwhile" in said.stderr or not flags
    assert "keeps running, and is billed" in said.stderr
    there.aws.faults = []
    assert (shown(there)["EndpointStatus"], deletions(there.aws)) == ("InService", 0)
    assert there.call("predict", "--text", "Ana: lunch?")["summary"]
    assert there.call("deploy")["reused"]


def test_an_update_right_after_anothers_first_deploy_is_undone(
    there: Account, elsewhere: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first comes between the second one's look and its start, so that the second one updates."""

    def the_first() -> None:
        there.call("deploy")
        there.aws.faults = [Fault("runtime ", "denied")]

    before_the(3, "DescribeEndpoint", there.aws, the_first, monkeypatch)
    said = elsewhere.run("deploy", *ANOTHER)
    assert said.code == 2, said.stderr
    assert "putting endpoint tiny back to what it served before" in said.stderr
    assert deletions(there.aws) == 0
    there.aws.faults = []
    assert there.call("deploy")["reused"]


def test_an_endpoint_that_has_failed_is_told_of_until_it_is_gone(there: Account) -> None:
    """It was told of once, with code 0, and then neither status nor teardown --all asked about it."""
    there.call("deploy")
    for status, state in (("OutOfService", "failed"), ("OutOfService", "failed"), ("InService", "intended")):
        shown(there)["EndpointStatus"] = status
        looked = there.without_config("status", "--json")
        [row] = [row for row in json.loads(looked.stdout)["resources"] if row["kind"] == "endpoint"]
        assert (looked.code, row["state"], row["may_run"]) == (3, state, True)
    shown(there)["EndpointStatus"] = "OutOfService"
    assert there.run("status").code == 3
    torn = there.without_config("teardown", "--all", "--yes", "--json")
    assert json.loads(torn.stdout)["removed"], torn.stderr
    assert there.aws.sagemaker.call("ListEndpoints", {}) == {"Endpoints": []}
    assert recorded(there)["state"] == "gone"


def test_status_tells_of_what_runs_without_a_record_if_asked(there: Account) -> None:
    there.call("deploy")
    assert there.call("status", "--account")["alarms"] == []
    there.call("status")
    shutil.rmtree(there.home)
    other = ("--set", "name=other")
    assert there.call("status", *other)["alarms"] == []
    looked = there.run("status", "--account", *other, "--json")
    assert looked.code == 3
    assert "endpoint tiny" in looked.stderr
    [told] = json.loads(looked.stdout)["alarms"]
    assert (told["run"], told["kind"], told["name"]) == ("tiny", "endpoint", "tiny")
    assert "`lorasum teardown CONFIG --set name=tiny --set sweep=null` ends it" in told["reason"]
    assert there.call("teardown", "--yes", *other, "--set", "name=tiny")["removed"]
    assert there.call("status", "--account", *other)["alarms"] == []
    assert "needs a config" in there.without_config("status", "--account").stderr


def test_what_is_free_keeps_no_endpoint_from_being_deleted(there: Account) -> None:
    grows = ("--set", "sagemaker.max_instances=3", *ENDS)
    there.call("deploy", "--for", "4h", *grows)
    there.let_pass(hours=1)
    there.aws.faults = [Fault("DeleteModel$|scheduler DELETE|DeregisterScalable", "denied")]
    ended = there.run("teardown", "--yes", *grows)
    assert there.aws.sagemaker.call("ListEndpoints", {}) == {"Endpoints": []}
    assert ended.code == 2
    assert "still there: endpoint tiny: its model and configuration, which cost nothing" in ended.stderr
    assert ended.stderr.count("it stays, and costs nothing") == 2, "the model and the schedules"
    row = recorded(there)
    assert (row["state"], row["usd"]) == ("gone", pytest.approx(2.5, rel=0.1))
    there.aws.faults = []
    assert there.call("teardown", "--yes", *grows)["remaining"] == []
    assert recorded(there)["usd"] == row["usd"]
    assert (there.aws.sagemaker.models, there.aws.scheduler.schedules()) == ({}, {})


def test_a_deletion_that_needs_a_right_to_stop_growing_names_it(there: Account) -> None:
    """SageMaker turns autoscaling off when it deletes an endpoint, if the user may."""
    there.call("deploy", "--set", "sagemaker.max_instances=3")
    there.aws.sagemaker.may_deregister = False
    ended = there.run("teardown", "--yes")
    assert ended.code == 2
    assert "application-autoscaling:DeregisterScalableTarget" in ended.stderr
    assert recorded(there)["state"] == "live"


def test_an_end_that_cannot_be_moved_still_holds_and_is_told(there: Account) -> None:
    first = there.call("deploy", "--for", "2h", *ENDS)
    there.aws.faults = [Fault("scheduler PUT", "denied")]
    for changed in ((), ANOTHER):
        moved = there.run("deploy", "--for", "8h", *ENDS, *changed, "--json")
        assert "still ends by itself at" in moved.stderr
        assert "NOT end" not in moved.stderr
        said = json.loads(moved.stdout)
        assert (said["expires_at"], said["ends_itself"]) == (first["expires_at"], True)
        row = recorded(there)
        assert (row["expires_at"], row["ends_itself"]) == (first["expires_at"], True)
    there.aws.faults = []
    assert there.call("deploy", "--for", "8h", *ENDS, *ANOTHER)["expires_at"] > first["expires_at"]


def test_limits_count_from_when_the_endpoint_was_started(there: Account) -> None:
    """Deploying again, another model or with other settings of the training, renews none."""
    limits = ("--set", "limits.max_usd=5", *ENDS)
    there.call("deploy", *limits)
    shown(there)["CreationTime"] = began = time.time() - 3600
    for changed in (("--set", "sagemaker.spot=true"), ANOTHER):
        again = there.call("deploy", *limits, *changed)
        assert not again["reused"]
        assert datetime.fromisoformat(again["expires_at"]).timestamp() == pytest.approx(began + 7200, abs=1)
        assert again["max_usd"] == pytest.approx(5.00, abs=0.01), "one hour of two is paid for already"
    shown(there)["CreationTime"] = began - 3600
    assert "has reached its `limits`" in there.fail("deploy", *limits, "--set", "deploy.expires_after=1h")[0]
    there.call("teardown", "--yes", *limits)
    assert there.call("deploy", *limits)["max_usd"] == pytest.approx(5.00, abs=0.01)


def test_status_prices_all_instances_that_an_endpoint_has_now(there: Account) -> None:
    """It was the price of one."""
    there.call("deploy", "--set", "sagemaker.max_instances=4")
    one = recorded(there)
    shown(there)["ProductionVariants"][0]["CurrentInstanceCount"] = 3
    three = recorded(there)
    assert (one["instances"], three["instances"]) == (1, 3)
    assert three["usd_per_hour"] == pytest.approx(3 * one["usd_per_hour"])


def test_an_endpoint_that_is_adopted_has_cost_what_it_has_run(there: Account, elsewhere: Account) -> None:
    there.call("deploy")
    shown(there)["CreationTime"] = time.time() - timedelta(days=10).total_seconds()
    elsewhere.call("deploy")
    assert recorded(elsewhere)["usd"] == pytest.approx(600, rel=0.01)
    (there.home / "ledger.sqlite").unlink()
    there.call("status", "--rebuild")
    assert recorded(there)["usd"] == pytest.approx(600, rel=0.01)


def test_teardown_need_not_wait_for_an_evaluation_to_end(there: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    there.call("deploy")
    invoke, asked, goes_on = there.aws.sagemaker.invoke, list[str](), threading.Event()

    def slow(name: str, body: bytes, headers: dict[str, str]) -> bytes:
        asked.append(name)
        if asked.count("tiny--base") > 1:  # the first one is whether it answers
            goes_on.wait(60)
        return invoke(name, body, headers)

    monkeypatch.setattr(there.aws.sagemaker, "invoke", slow)
    evaluation = there.start("evaluate", "--base")
    try:
        waiting.until(lambda: asked.count("tiny--base") > 1)
        torn = there.call("teardown", "--yes")
    finally:
        goes_on.set()
    assert torn["remaining"] == []
    assert sorted(one["name"] for one in torn["removed"]) == ["tiny", "tiny--base"]
    assert evaluation.wait().code == 2
    assert there.aws.sagemaker.call("ListEndpoints", {}) == {"Endpoints": []}
    rows = [row for row in there.call("status")["resources"] if row["kind"] == "endpoint"]
    assert [row["state"] for row in rows] == ["gone", "gone"]
    assert all(row["usd"] for row in rows), "both were deleted at once, and the cost of both is known"
