"""A sweep of real trainings of a tiny model on this machine, whose client is killed twice."""

import json
import os
import shlex
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from local_world import REAL, LocalWorld, local_world

from lorasum.ledger.ledger import Ledger

pytestmark = [pytest.mark.slow, pytest.mark.drill, pytest.mark.timeout(3600)]

SWEEP = [
    "--set", "sweep.keys={training.learning_rate: {low: 1.0e-5, high: 1.0e-1, log: true}}", "--set", "sweep.trials=4",
    "--set", "sweep.at_once=2", "--set", "training.epochs=3",
]  # fmt: skip


world = local_world(REAL)


def test_a_killed_sweep_goes_on_and_leaves_nothing_running(world: LocalWorld, tried: Counter[str]) -> None:
    for jobs in (1, 3):
        client = world.start("sweep", *SWEEP)
        while len(_jobs(world)) < jobs and not (client.folder / "code").exists():
            time.sleep(0.1)
        os.kill(client.pid, signal.SIGKILL)
        assert client.wait().code == -9
    ended = world.call("sweep", *SWEEP, "--json")
    assert ended.code == 0, ended.stderr
    result = json.loads(ended.stdout)
    states = Counter(one["state"] for one in result["trials"])
    assert states["done"] >= 1
    assert states["done"] + states["stopped"] == 4
    best = [one["value"] for one in result["trials"] if one["state"] == "done"]
    assert best == sorted(best), "the best first, by the test loss"
    assert len(_jobs(world)) == 4, "each trial was one job"
    assert "<svg" in Path(result["page"]).read_text()
    rows = Ledger(world.home / "ledger.sqlite").resources()
    assert [str(row) for row in rows if row.kind == "training_job" and row.is_open] == []
    again = world.call("sweep", *SWEEP, "--json")
    assert json.loads(again.stdout)["trials"] == result["trials"]
    tried["SIGKILL of a sweep of real trainings"] += 2
    for command in result["next"]:  # it is served, and then merged without a step
        _, verb, _, *arguments = shlex.split(command)
        done = world.call(verb, *SWEEP, *arguments, "--json")
        assert done.code == 0, done.stderr
    assert (json.loads(done.stdout)["not_merged"], json.loads(done.stdout)["tokens_per_second"]) == ("", 0)
    assert len(_jobs(world)) == 5
    assert world.call("teardown", *SWEEP, "--set", f"name={result['best']}", "--set", "sweep=null", "--yes").code == 0


def _jobs(world: LocalWorld) -> list[Path]:
    return list(world.home.glob("runs/tiny-t*/jobs/*"))
