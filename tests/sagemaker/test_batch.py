"""A batch job on SageMaker: rows summarised without an endpoint, by a job that is adopted, resumed and torn down."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import stand_in_container as container
from account import Account, Made, wait_for

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
    killed = there.start(*command)
    wait_for(lambda: [name for name in there.jobs if "-rows-" in name])
    killed.kill()
    [running] = [row for row in there.call("status")["resources"] if row["kind"] == "batch_job"]
    assert (running["state"], running["usd_per_hour"]) == ("live", 1.25)
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
