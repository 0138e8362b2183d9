"""A batch job on SageMaker: rows summarised without an endpoint, by a job that is adopted, resumed and torn down."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import stand_in_container as container
import waiting
from account import Account, Made
from held_scripts import held_scripts, is_held

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not container.possible(), reason="this system gives no mount namespaces"),
]


def test_a_batch_job_answers_all_rows_and_leaves_nothing_that_costs(
    account: Callable[..., Account], trained: Made, tmp_path: Path
) -> None:
    there = account(made=trained)
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps({"id": f"r{i}", "dialogue": f"Ana: {i}?"}) + "\n" for i in range(70)))
    command = ["predict", "--batch", "--input", str(source), "--output", str(output)]
    there.environ["LORASUM_STUB_SCRIPTS"] = str(held_scripts(tmp_path / "scripts"))
    killed = there.start(*command)
    waiting.until(lambda: [name for name in there.jobs if "-rows-" in name])
    killed.kill()
    [job] = [one for name, one in there.aws.sagemaker.jobs.items() if "-rows-" in name]
    waiting.until(lambda: job.process and is_held(job.process.pid))
    [running] = [row for row in there.call("status")["resources"] if row["kind"] == "batch_job"]
    assert (running["state"], running["usd_per_hour"]) == ("live", 1.25)
    job.process.send_signal(signal.SIGCONT)  # type: ignore[union-attr]
    result = there.call(*command)
    assert (result["rows"], result["failures"]) == (70, [])
    written = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["id"] for row in written] == [f"r{i}" for i in range(70)]
    assert all(isinstance(row["summary"], str) for row in written)
    assert [there.jobs[name] for name in there.jobs if "-rows-" in name] == ["Completed"], (
        "the killed client's, adopted"
    )
    assert there.aws.calls.count("sagemaker CreateEndpoint") == 0
    torn = there.call("teardown", "--yes", "--data", "--artifacts")
    assert torn["remaining"] == []
    assert there.objects() == []


def test_two_instances_divide_the_rows_of_a_batch_job(
    account: Callable[..., Account], trained: Made, tmp_path: Path
) -> None:
    there = account(made=trained)
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps({"id": i, "dialogue": f"Ana: {i}?"}) + "\n" for i in range(150)))
    command = ["predict", "--batch", "--input", str(source), "--output", str(output)]
    result = there.call(*command, "--set", "sagemaker.batch_instance_count=2")
    assert (result["rows"], result["failures"]) == (150, [])
    assert [json.loads(line)["id"] for line in output.read_text().splitlines()] == list(range(150))
    [job] = [one for name, one in there.aws.sagemaker.jobs.items() if "-rows-" in name]
    assert job.description["ResourceConfig"]["InstanceCount"] == 2
    answered = {host: [name for name in wrote if "model/answers" in name] for host, wrote in job.wrote.items()}
    first, second = (f"model/answers/{shard:05}.jsonl" for shard in (0, 1))
    assert answered["algo-2"] == [second]
    assert sorted(answered["algo-1"]) == [first, "model/answers/00002.jsonl"]
    [row] = [row for row in there.call("status")["resources"] if row["kind"] == "batch_job"]
    assert (row["state"], row["usd_per_hour"], row["usd"]) == ("done", 2.5, pytest.approx(_billed(job)))


def _billed(job: Any) -> float:
    shown = job.description
    return float(shown["BillableTimeInSeconds"] * shown["ResourceConfig"]["InstanceCount"] / 3600 * 1.25)
