"""A batch job on this machine, with a tiny model: its answers are those of the endpoint, whatever was killed."""

import json
import os
import signal
import time
from collections import Counter

import psutil
import pytest
from local_world import REAL, LocalWorld, local_world

from lorasum.backends.local.processes import find

pytestmark = [pytest.mark.slow, pytest.mark.drill, pytest.mark.timeout(3600)]

ROWS = 600


world = local_world(REAL)


def test_a_killed_batch_job_goes_on_in_two_and_answers_as_before(world: LocalWorld, tried: Counter[str]) -> None:
    given = [{"id": i, "dialogue": f"Ana: {i} {'yes ' * (i % 30)}"} for i in range(ROWS)]
    source = world.folder / "many.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in given))
    command = ["predict", "--input", str(source), "--output", str(world.output)]
    batch = [*command, "--batch"]
    by_endpoint = world.call(*command, "--set", "predict.batch_size=64")
    assert by_endpoint.code == 0, by_endpoint.stderr
    expected = world.output.read_text()
    world.output.unlink()

    client = world.start(*batch)
    os.kill(_job(world).pid, signal.SIGKILL)  # the job, and then its client
    assert client.wait().code == 2
    client = world.start(*batch, "--set", "local.processes=2")
    job = _job(world)
    os.kill(client.pid, signal.SIGKILL)
    client.wait()
    psutil.wait_procs([job], timeout=200)
    ended = world.call(*batch)
    assert ended.code == 0, ended.stderr
    assert world.output.read_text() == expected
    assert [row["id"] for row in map(json.loads, expected.splitlines())] == list(range(ROWS))
    [shown] = [row for row in _status(world) if row["kind"] == "batch_job"]
    assert shown["state"] == "done"
    assert world.left_over() == []
    tried["SIGKILL of a batch job and of its client"] += 2


def _status(world: LocalWorld) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(world.call("status", "--json").stdout)["resources"]
    return found


def _job(world: LocalWorld) -> psutil.Process:
    """The batch job's process, once it has answered something."""
    for _ in range(2000):
        running = find("--checkpoint_dir", lambda value: "tiny-rows-" in value and value.startswith(str(world.home)))
        answered = [path for path in world.home.rglob("tiny-rows-*/ml/checkpoints/*.jsonl") if path.stat().st_size]
        if running and answered:
            return running[0][0]
        time.sleep(0.1)
    raise AssertionError("no batch job runs")
