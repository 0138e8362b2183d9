"""The account: clients killed, stopped or answered badly at each call of each verb, and two of each at once."""

import json
import os
import signal
from collections import Counter
from operator import attrgetter

import pytest
from stand_in import Fault
from world import BEFORE, FULL, VERBS, World, chosen

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

LATER = pytest.mark.drill  # not in `make test`
RACES = int(os.environ.get("LORASUM_RACES", "5"))
FAULTS = ["throttle", "error", "reset", "lost"]
SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]


def some(*verbs: str) -> list[object]:
    """All verbs; those that are not named are left to `make drill`."""
    return [verb if verb in verbs else pytest.param(verb, marks=LATER) for verb in VERBS]


@pytest.mark.parametrize("when", [pytest.param("before", marks=LATER), "after"])
@pytest.mark.parametrize("where", ["aws", pytest.param("ledger", marks=LATER)])
@pytest.mark.parametrize("verb", some("train", "deploy", "teardown"))
def test_a_killed_verb_is_repeated_and_bills_once(
    world: World, tried: Counter[str], verb: str, where: str, when: str
) -> None:
    for index in chosen(world.calls(verb, where)):
        world.restore(BEFORE[verb])
        killed = world.call(verb, where=where, index=index, when=when)
        assert killed.code in (-9, 0), killed.stderr  # threads may make fewer calls than when it was counted
        again = world.call(verb)
        assert again.code == 0, f"{verb}, killed {when} {where} {index}: {again.stderr}"
        world.check_after(verb)
        world.check_nothing_after_teardown()
        tried[f"SIGKILL at {'AWS calls' if where == 'aws' else 'ledger writes'} of {verb}"] += 1


@pytest.mark.drill
@pytest.mark.parametrize("verb", ["train", "deploy", "evaluate"])
def test_teardown_right_after_a_kill_leaves_nothing(world: World, tried: Counter[str], verb: str) -> None:
    for index in chosen(world.calls(verb, "aws")):
        world.restore(BEFORE[verb])
        world.call(verb, where="aws", index=index, when="after")
        world.check_nothing_after_teardown()
        tried[f"SIGKILL at AWS calls of {verb}, then teardown"] += 1


@pytest.mark.parametrize("kind", [*(pytest.param(kind, marks=LATER) for kind in FAULTS[:-1]), FAULTS[-1]])
@pytest.mark.parametrize("verb", some("train", "deploy"))
def test_one_bad_answer_bills_nothing_twice(world: World, tried: Counter[str], verb: str, kind: str) -> None:
    world.restore(BEFORE[verb])
    before = len(world.aws.calls)
    assert world.call(verb).code == 0
    count = len(world.aws.calls) - before
    for index in chosen(count):
        world.restore(BEFORE[verb])
        world.aws.faults = [Fault("", kind, times=1, skip=index)]
        ended = world.call(verb)
        assert ended.clean(), f"{verb}, {kind} at {index}: {ended.code} {ended.stderr}"
        world.aws.faults = []
        tried[f"AWS fault ({kind}) at calls of {verb}"] += 1
        tried[f"AWS faults survived by {verb} without a second command"] += ended.code == 0
        if ended.code:
            again = world.call(verb)
            assert again.code == 0, f"{verb}, {kind} at {index}: {again.stderr}"
        world.check_after(verb)
        world.check_nothing_after_teardown()


@pytest.mark.parametrize(
    "number", [SIGNALS[0], *(pytest.param(number, marks=LATER) for number in SIGNALS[1:])], ids=attrgetter("name")
)
@pytest.mark.parametrize("verb", [*some("deploy"), pytest.param("run", marks=LATER)])
def test_a_signal_at_any_call_leaves_no_endpoint_of_the_verb(
    world: World, tried: Counter[str], verb: str, number: signal.Signals
) -> None:
    for index in chosen(world.calls(verb, "aws")):
        world.restore(BEFORE[verb])
        ended = world.call(verb, where="aws", index=index, number=int(number))
        what = f"{verb}, {number.name} at {index}: {ended.code} {ended.stderr}"
        assert ended.interrupted(), what
        left = set(world.endpoints)
        told = "had answered: it is in service, and billed" in ended.stderr
        assert verb != "deploy --for" or not left or world.aws.scheduler.schedules(), "it would run for ever"
        served = BEFORE[verb] == "deploy" or told or (verb.startswith("deploy") and ended.code == 0)
        goes = verb == "run" or (verb == "teardown" and not left)
        assert left == ({"tiny"} if served and not goes else set()), f"{what}, left: {left}"
        if world.billed():
            world.check_nothing_after_teardown()
        tried[f"{number.name} at AWS calls of {verb}"] += 1


@pytest.mark.drill
@pytest.mark.parametrize("number", SIGNALS[:2], ids=attrgetter("name"))
@pytest.mark.parametrize("verb", [*some(), "run"])
def test_two_signals_at_any_call_leave_what_teardown_removes(
    world: World, tried: Counter[str], verb: str, number: signal.Signals
) -> None:
    for index in chosen(world.calls(verb, "aws")):
        world.restore(BEFORE[verb])
        ended = world.call(verb, where="aws", index=index, number=int(number), again=True)
        what = f"{verb}, {number.name} at {index}: {ended.code} {ended.stderr}"
        assert ended.interrupted(), what
        at_once = "ended at once" in ended.stderr
        assert not (at_once and world.billed()) or "`lorasum teardown " in ended.stderr, what
        world.check_nothing_after_teardown()
        tried[f"two {number.name} at AWS calls of {verb}"] += at_once


@pytest.mark.parametrize(
    ("first", "second"),
    [*(pytest.param(verb, verb, marks=LATER) for verb in VERBS), ("deploy", "teardown")],
)
def test_two_at_once_bill_one_thing(world: World, tried: Counter[str], first: str, second: str) -> None:
    for _ in range(RACES if FULL else 1):
        world.restore(BEFORE[first])
        both = [world.start(first), world.start(second)]
        ended = [client.wait() for client in both]
        assert all(one.clean() for one in ended), [one.stderr for one in ended]
        if first == second:
            assert [one.code for one in ended].count(0) >= 1, [one.stderr for one in ended]
            world.check_after(first)
        assert len(world.billed()) <= 1
        world.check_nothing_after_teardown()
        tried[f"races: {first} and {second}"] += 1


def test_a_lost_ledger_is_rebuilt_from_what_the_account_shows(world: World) -> None:
    world.restore("deploy")
    (world.home / "ledger.sqlite").unlink()
    ended = world.call("rebuild")
    assert ended.code == 0, ended.stderr
    rows = {row["kind"]: row for row in json.loads(ended.stdout)["resources"]}
    assert {kind: row["state"] for kind, row in rows.items()} == {
        "dataset": "done",
        "training_job": "done",
        "endpoint": "live",
    }
    assert rows["endpoint"]["usd_per_hour"] > 0
    assert rows["endpoint"]["usd"] > 0, "since SageMaker started it"
    assert rows["training_job"]["artifact"] == rows["endpoint"]["artifact"]
    again = world.call("evaluate")
    assert again.code == 0, again.stderr
    world.check_nothing_after_teardown()


@pytest.mark.parametrize("verb", some("train"))
def test_a_full_disk_is_one_line_and_the_verb_goes_on_later(world: World, tried: Counter[str], verb: str) -> None:
    limits = [1, 100, 1000, 4096, 8192, 12_288, 20_480, 32_768, 65_536, 131_072]
    for limit in limits if FULL else limits[3:4]:
        world.restore(BEFORE[verb])
        ended = world.call(verb, limit=limit)
        assert ended.clean(), f"{verb} with files of {limit} bytes: {ended.code} {ended.stderr}"
        again = world.call(verb)
        assert again.code == 0, f"{verb} after files of {limit} bytes: {again.stderr}"
        world.check_after(verb)
        world.check_nothing_after_teardown()
        tried[f"disk full in {verb}"] += 1
