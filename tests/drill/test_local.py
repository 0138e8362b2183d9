"""This machine: clients killed at each file that they write and each process that they start, in every verb."""

import json
from collections import Counter
from pathlib import Path

import pytest
from local_world import BEFORE, LocalWorld, local_world
from world import chosen

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

LATER = pytest.mark.drill  # not in `make test`


world = local_world()


def test_json_is_all_that_a_verb_prints_and_chains_to_the_next(world: LocalWorld) -> None:
    world.restore("nothing")
    verbs = ["prepare", "prepare", "train", "train", "deploy", "deploy", "predict", "evaluate", "teardown", "teardown"]
    ended = [world.call(verb, "--json") for verb in verbs]
    assert [one.code for one in ended] == [0] * len(verbs), ended
    prepared, again, trained, adopted, deployed, kept, answered, evaluated, torn, nothing = [
        json.loads(one.stdout) for one in ended
    ]
    assert [one["reused"] for one in (prepared, again, trained, adopted, deployed, kept)] == [False, True] * 3
    assert deployed["artifact"] == trained["artifact"]
    assert (Path(trained["artifact"]) / "lorasum.json").is_file()
    assert answered["rows"] == len(world.output.read_text().splitlines())
    assert evaluated["examples"] > 0
    assert (len(torn["removed"]), nothing["removed"], nothing["remaining"]) == (1, [], [])


@pytest.mark.parametrize("verb", [verb if verb == "evaluate" else pytest.param(verb, marks=LATER) for verb in BEFORE])
def test_a_killed_verb_is_repeated_and_leaves_no_trace(world: LocalWorld, tried: Counter[str], verb: str) -> None:
    world.restore(BEFORE[verb])
    counted = world.call(verb, where="files")
    assert counted.code == 0, counted.stderr
    world.check_after(verb)
    for index in chosen(counted.calls):
        world.restore(BEFORE[verb])
        killed = world.call(verb, where="files", index=index)
        assert killed.code in (-9, 0), killed.stderr  # waiting may take fewer steps than when it was counted
        again = world.call(verb)
        assert again.code == 0, f"{verb}, killed at {index}: {again.stderr}"
        world.check_after(verb)
        if verb in ("train", "deploy", "run"):
            ended = world.call("teardown")
            assert (ended.code, world.live(), world.recorded()) == (0, [], []), ended.stderr
        tried[f"SIGKILL at files and processes of {verb}, on this machine"] += 1


@pytest.mark.parametrize("verb", [*(pytest.param(verb, marks=LATER) for verb in BEFORE), "report"])
def test_a_disk_that_is_full_from_any_moment_on_is_one_line(world: LocalWorld, tried: Counter[str], verb: str) -> None:
    before = BEFORE.get(verb, "train")
    world.restore(before)
    counted = world.call(verb, where="files")
    assert counted.code == 0, counted.stderr
    for index in chosen(counted.calls):
        world.restore(before)
        ended = world.call(verb, where="files", index=index, limit=1)
        assert ended.clean(), f"{verb}, full from {index} on: {ended.code} {ended.stderr}"
        if before != "deploy":
            world.end_all()  # a process that was started on the full disk has no other one
        again = world.call(verb)
        assert again.code == 0, f"{verb}, full from {index} on: {again.stderr}"
        world.check_after(verb)
        if verb in ("train", "deploy", "run"):
            ended = world.call("teardown")
            assert (ended.code, world.live(), world.recorded()) == (0, [], []), ended.stderr
        tried[f"disk full from one of the files of {verb} on"] += 1
