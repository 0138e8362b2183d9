"""The whole chain on SageMaker, as a user runs it: lorasum as a process, AWS over HTTP, jobs and endpoints executed."""

import json
import os
import pty
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import stand_in_container as container
from stand_in import Fault, StandIn

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not container.possible(), reason="this system gives no mount namespaces"),
]

CONFIG = """
name: tiny
backend: sagemaker
model: {{id: {model}}}
data: {{train: {chats}/train.jsonl, test: {chats}/test.jsonl, max_length: 128}}
lora: {{r: 4}}
training: {{max_steps: {steps}, learning_rate: 1e-2, checkpoint_minutes: 0.01}}
predict: {{max_new_tokens: 8, batch_size: 2}}
sagemaker: {{bucket: {bucket}, role: {role}}}
"""

WARM_POOLS = [f"ml.g5.{size}xlarge for training warm pool usage" for size in (2, 4)]


class Account:
    """A user's home and config, and the account they work in."""

    def __init__(self, aws: StandIn, home: Path, config: Path) -> None:
        self.aws, self.home, self.config = aws, home, config
        self.environ = {**os.environ, **aws.environ(), "LORASUM_HOME": str(home), "OMP_NUM_THREADS": "1"}

    def start(self, *arguments: str, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "lorasum", *arguments, "--config", str(self.config)]
        return subprocess.Popen(
            command, env=self.environ, stdin=stdin, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def call(self, *arguments: str) -> Any:
        """The --json result of a command that succeeds."""
        ended = self.start(*arguments, "--json")
        output, errors = ended.communicate(timeout=200)
        assert ended.returncode == 0, errors
        return json.loads(output)

    def fail(self, *arguments: str) -> tuple[str, str]:
        """Error and hint of a command that fails as it should: exit code 2, and nothing on stdout."""
        ended = self.start(*arguments, "--quiet")
        output, errors = ended.communicate(timeout=200)
        assert (ended.returncode, output) == (2, ""), errors
        *_, error, hint = errors.splitlines()
        assert error.startswith("error: "), errors
        assert hint.startswith("hint: "), errors
        return error, hint

    @property
    def jobs(self) -> dict[str, str]:
        return {name: job.description["TrainingJobStatus"] for name, job in self.aws.sagemaker.jobs.items()}

    def job(self) -> Any:
        """What status says of the only training job."""
        [row] = [r for r in self.call("status")["resources"] if r["kind"] == "training_job"]
        return row

    def billed(self) -> Any:
        """What all tries of it were billed, at the price list's price."""
        jobs = [job.description for job in self.aws.sagemaker.jobs.values()]
        return pytest.approx(sum(job["BillableTimeInSeconds"] for job in jobs) / 3600 * 1.25)

    def let_pass(self, hours: float) -> None:
        """Make what is recorded of endpoints older."""
        with sqlite3.connect(self.home / "ledger.sqlite") as db:
            [(created,)] = db.execute("SELECT created_at FROM resources WHERE kind='endpoint'").fetchall()
            earlier = datetime.fromisoformat(created) - timedelta(hours=hours)
            db.execute("UPDATE resources SET created_at=? WHERE kind='endpoint'", (earlier.isoformat(),))

    def objects(self) -> list[str]:
        listed = self.aws.aws.client("s3").list_objects_v2(Bucket=self.aws.bucket)
        return [item["Key"] for item in listed.get("Contents", [])]


@pytest.fixture
def account(tmp_path: Path, tiny_chats: Path, tiny_model_dir: Path) -> Iterator[Callable[..., Account]]:
    """Make an account whose training has so many steps."""
    with StandIn() as aws:

        def make(steps: int = 10, home: str = "home") -> Account:
            config = tmp_path / "tiny.yaml"
            text = CONFIG.format(
                model=tiny_model_dir, chats=tiny_chats, steps=steps, bucket=aws.bucket, role=aws.role_arn
            )
            config.write_text(text)
            return Account(aws, tmp_path / home, config)

        yield make


def wait_for(condition: Callable[[], object], seconds: float = 100) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def test_from_chats_to_a_summary_and_back_to_nothing(account: Callable[..., Account], tmp_path: Path) -> None:
    there = account()
    prepared = there.call("prepare")
    assert f"lorasum/tiny/data/{Path(prepared['dataset']).name}/manifest.json" in there.objects()

    planned = there.call("train", "--dry-run")
    assert there.jobs == {}
    ran = there.call("run", "--keep")
    trained, deployed, evaluated = ran["train"], ran["deploy"], ran["evaluate"]
    assert ran["prepare"]["reused"]
    assert (trained["reused"], there.jobs) == (False, {planned["job"]: "Completed"})
    assert trained["train_loss"] > 0
    sent = {key: value for key, value in planned["request"].items() if key != "Tags"}
    described = there.aws.sagemaker.jobs[planned["job"]].description
    assert sent == {key: described[key] for key in sent}
    assert deployed["artifact"] == trained["artifact"]
    assert (evaluated["examples"], set(evaluated["scores"])) == (4, {"first 3 sentences", "base model", "fine-tuned"})

    assert there.call("train")["reused"]
    assert there.call("deploy")["reused"]
    assert there.aws.calls.count("sagemaker CreateEndpoint") == 1
    asked_otherwise = ("--set", "predict.max_new_tokens=5")
    assert "base model" not in there.call("evaluate", *asked_otherwise)["scores"]
    assert "base model" in there.call("evaluate", *asked_otherwise, "--base")["scores"]
    assert there.aws.calls.count("sagemaker CreateEndpoint") == 2
    summary = there.call("predict", "--text", "Ana: lunch?\nBen: yes, at noon")["summary"]
    assert summary == local_summary(there, trained["artifact"], tmp_path)
    [endpoint] = [r for r in there.call("status")["resources"] if r["name"] == "tiny" and r["kind"] == "endpoint"]
    assert (endpoint["state"], endpoint["usd_per_hour"]) == ("live", 2.5)  # the price list's
    assert (there.job()["state"], there.job()["usd"]) == ("done", there.billed())

    there.aws.aws.client("s3").put_object(Bucket=there.aws.bucket, Key="lorasum/tiny-2/data/x", Body=b"another run's")
    torn = there.call("teardown", "--yes", "--data", "--artifacts")
    assert torn["remaining"] == []
    assert (there.job()["state"], there.job()["usd"]) == ("gone", there.billed())
    [gone] = [r for r in there.call("status")["resources"] if r["name"] == "tiny" and r["kind"] == "endpoint"]
    assert (gone["state"], gone["usd"] > endpoint["usd"] > 0) == ("gone", True)
    sagemaker = there.aws.sagemaker
    assert (sagemaker.models, sagemaker.configs, sagemaker.call("ListEndpoints", {})) == ({}, {}, {"Endpoints": []})
    assert there.objects() == ["lorasum/tiny-2/data/x"]
    again = there.call("teardown", "--yes", "--data", "--artifacts")
    assert (again["removed"], again["remaining"]) == ([], [])


def local_summary(there: Account, artifact: str, tmp_path: Path) -> str:
    """What the same artifact, downloaded, answers to the same dialogue without any endpoint."""
    folder = tmp_path / "artifact"
    there.aws.aws.download(artifact, folder)
    script = (
        "import sys, inference as i; m = i.model_fn(sys.argv[1])\n"
        'body = \'{"dialogue": "Ana: lunch?\\\\nBen: yes, at noon", "parameters": {"max_new_tokens": 8}}\'\n'
        "print(i.predict_fn(i.input_fn(body, 'application/json'), m)[0]['generated_text'])"
    )
    environ = {**os.environ, "PYTHONPATH": str(folder / "code")}
    done = subprocess.run([sys.executable, "-c", script, folder], env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.removesuffix("\n")


def test_two_trains_at_once_share_one_job_that_outlives_them(
    account: Callable[..., Account],
) -> None:
    there = account(steps=400)
    there.call("prepare")
    both = [there.start("train", "--no-wait", "--json") for _ in range(2)]
    codes = sorted(process.wait(100) for process in both)
    assert codes[0] == 0
    assert list(there.jobs.values()) == ["InProgress"]

    following = there.start("train")
    said = following.stderr
    assert said
    wait_for(lambda: "following job" in said.readline())
    wait_for(lambda: "step" in said.readline())
    following.send_signal(2)
    _, errors = following.communicate(timeout=60)
    assert (following.returncode, "goes on" in errors, "follows it again" in errors) == (130, True, True)
    assert list(there.jobs.values()) == ["InProgress"]

    elsewhere = account(steps=400, home="other")
    torn = elsewhere.call("teardown", "--yes")
    assert len(torn["removed"]) == 1
    assert list(there.jobs.values()) == ["Stopped"]
    assert (there.job()["state"], there.job()["usd"]) == ("failed", there.billed())

    again = there.start("train", "--set", "training.logging_steps=1")
    _, errors = again.communicate(timeout=200)
    assert again.returncode == 0, errors
    assert "resumed" in errors
    assert list(there.jobs.values()) == ["Stopped", "Completed"]
    [first, second] = there.jobs
    assert second == f"{first}-2"
    assert (there.job()["state"], there.job()["usd"]) == ("done", there.billed())


def test_a_job_whose_gpu_does_not_work_says_so(account: Callable[..., Account]) -> None:
    there = account()
    there.call("prepare")
    there.aws.aws.broken_gpus = True
    ended = there.start("train")
    _, errors = ended.communicate(timeout=200)
    assert ended.returncode == 2
    assert "failed: the instance has a GPU, and PyTorch" in errors
    assert "hint: start the job again, which gets another instance" in errors
    assert "exit code" not in errors


@pytest.mark.parametrize("priced", [True, False])
def test_a_failed_job_says_why_and_shows_its_log_and_its_cost(account: Callable[..., Account], priced: bool) -> None:
    there = account()
    there.call("prepare")
    there.aws.faults = [] if priced else [Fault("pricing", "denied")]
    instance = "ml.g5.2xlarge" if priced else "ml.p5.48xlarge"
    ended = there.start(
        "train", "--set", "lora.targets=[nothing_like_it]", "--set", f"sagemaker.training_instance_type={instance}"
    )
    _, errors = ended.communicate(timeout=200)
    assert ended.returncode == 2
    assert "error: training job tiny-" in errors
    assert "nothing_like_it" in errors
    assert "log: " in errors
    assert (there.job()["state"], there.job()["usd"]) == ("failed", there.billed() if priced else None)
    table, _ = there.start("status").communicate(timeout=60)
    assert ("<$0.01" if priced else "unknown") in table


@pytest.mark.parametrize(
    ("settings", "fault", "error", "hint"),
    [
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, None, "credentials", "aws configure"),
        ({"AWS_DEFAULT_REGION": ""}, None, "no AWS region", "sagemaker.region"),
        ({}, Fault("iam ", "denied"), "not authorized", "docs/iam.md"),
        ({}, Fault("CreateTrainingJob", "denied"), "not authorized", "sagemaker:CreateTrainingJob"),
        ({}, Fault("CreateTrainingJob", "error"), "injected", "again"),
        ({}, Fault("s3 HEAD", "reset"), "cannot look at the bucket", "network"),
        ({"AWS_DEFAULT_REGION": "mars-north-1"}, None, "mars-north-1", "sagemaker."),
        ({"AWS_DEFAULT_REGION": "eu-west-1"}, None, "the bucket chats-bucket is in us-east-1", "set sagemaker.region"),
        ({"sagemaker.bucket": "nobody-has-this"}, None, "there is no bucket nobody-has-this", "create_bucket"),
        ({"sagemaker.role": "Nobody"}, None, "there is no role Nobody", "docs/iam.md"),
    ],
)
def test_what_goes_wrong_is_one_line_and_starts_nothing(
    account: Callable[..., Account], settings: dict[str, str], fault: Fault | None, error: str, hint: str
) -> None:
    there = account()
    there.call("prepare")
    there.environ |= {name: value for name, value in settings.items() if name.isupper()}
    there.aws.faults = [fault] if fault else []
    there.environ["AWS_MAX_ATTEMPTS"] = "1"
    extra = ["--set", "sagemaker.role=Trainer"] if fault and fault.pattern == "iam " else []
    extra += [word for name, value in settings.items() if name.islower() for word in ("--set", f"{name}={value}")]
    said = there.fail("train", *extra)
    assert error in said[0]
    assert hint in said[1]
    assert there.jobs == {}


def test_throttling_of_every_second_call_and_a_lost_answer_start_one_job(account: Callable[..., Account]) -> None:
    there = account()
    there.call("prepare")
    there.aws.faults = [Fault("", "throttle", probability=0.5), Fault("CreateTrainingJob", "lost", times=1)]
    there.call("train")
    assert list(there.jobs.values()) == ["Completed"]


def test_an_update_is_in_place_and_a_failed_one_changes_nothing(
    account: Callable[..., Account],
) -> None:
    there = account()
    sagemaker = there.aws.sagemaker
    there.call("prepare")
    first = there.call("train")["artifact"]
    _break(there, first)
    error, _ = there.fail("deploy")
    assert "this model is broken" in error
    assert (sagemaker.models, sagemaker.configs) == ({}, {})
    assert sagemaker.call("ListEndpoints", {}) == {"Endpoints": []}

    second = there.call("train", "--set", "lora.r=2")["artifact"]
    there.aws.faults = [Fault("CreateEndpoint$", "lost", times=1), Fault("CreateModel$", "lost", times=1)]
    assert there.call("deploy", "--set", "lora.r=2")["artifact"] == second
    there.let_pass(1)
    third = there.call("train", "--set", "lora.r=3")["artifact"]
    assert there.call("deploy", "--set", "lora.r=3")["artifact"] == third
    assert there.aws.calls.count("sagemaker UpdateEndpoint") == 1
    assert len(sagemaker.models) == len(sagemaker.configs) == 1

    there.let_pass(1)
    there.call("train")  # the first again: it is the newest now
    error, _ = there.fail("deploy")
    assert "this model is broken" in error
    assert there.aws.calls.count("sagemaker UpdateEndpoint") == 3  # there and back again
    assert there.aws.calls.count("sagemaker DeleteEndpoint") == 1  # the first one, which never served
    there.let_pass(1)
    [endpoint] = [r for r in there.call("status")["resources"] if r["kind"] == "endpoint"]
    assert (endpoint["state"], endpoint["detail"]["artifact"]) == ("live", third)
    assert endpoint["usd"] == pytest.approx(3 * 2.5, abs=0.5)  # three hours, and the minutes of this test
    assert there.call("predict", "--text", "Ana: hi")["summary"] is not None
    assert len(sagemaker.models) == len(sagemaker.configs) == 1


def test_a_served_adapter_answers_as_the_merged_model_does(
    account: Callable[..., Account],
) -> None:
    there = account()
    there.call("prepare")
    artifact = there.call("train")["artifact"]
    asked = ("predict", "--text", "Ana: lunch?\nBen: yes, at noon")
    assert there.call("deploy")["artifact"] == artifact
    merged = there.call(*asked)["summary"]

    adapter = ("--set", "deploy.serve=adapter", "--set", "sagemaker.capture_percent=100")
    bigger = ("--set", "sagemaker.max_instances=3")
    assert not there.call("deploy", *adapter, *bigger)["reused"]
    assert there.call("deploy", *adapter, *bigger)["reused"]
    assert there.aws.calls.count("sagemaker UpdateEndpoint") == 1
    [model] = there.aws.sagemaker.models.values()
    assert model["PrimaryContainer"]["ModelDataSource"]["S3DataSource"]["S3Uri"] == f"{artifact}adapter/"
    [target] = there.aws.aws.scaled("tiny")
    assert target["MaxCapacity"] == 3
    assert there.call(*asked)["summary"] == merged
    assert [key for key in there.objects() if key.startswith("lorasum/tiny/capture/tiny/")]

    torn = there.call("teardown", "--yes", "--artifacts")
    assert torn["remaining"] == []
    assert there.aws.aws.scaled("tiny") == []
    assert not [key for key in there.objects() if "/capture/" in key]


def test_vllm_serves_the_same_artifact_with_the_same_answer(account: Callable[..., Account]) -> None:
    there = account()
    there.call("prepare")
    there.call("train")
    asked = ("predict", "--text", "Ana: lunch?\nBen: yes, at noon")
    there.call("deploy")
    summary = there.call(*asked)["summary"]
    vllm = ("--set", "sagemaker.engine=vllm")
    there.call("deploy", *vllm)
    [model] = there.aws.sagemaker.models.values()
    assert "huggingface-vllm:0.29.0" in model["PrimaryContainer"]["Image"]
    assert there.call(*asked, *vllm)["summary"] == summary


def test_a_quota_of_zero_is_reported_before_anything_is_sent(account: Callable[..., Account]) -> None:
    there = account()
    there.call("prepare")
    before = there.objects()
    quotas = there.aws.sagemaker.quotas
    quotas |= {"ml.g5.2xlarge for training job usage": 0, "ml.g5.2xlarge for spot training job usage": 1}
    error, hint = there.fail("train")
    assert "your quota of 'ml.g5.2xlarge for training job usage' in us-east-1 is 0" in error
    assert "request-service-quota-increase" in hint
    assert "--quota-code L-00000000" in hint
    assert (there.jobs, there.objects()) == ({}, before)
    there.aws.faults = [Fault("servicequotas", "denied")]  # then it is the service that says so
    error, hint = there.fail("train")
    assert "service limit" in error
    assert "quota" in hint
    there.aws.faults = []
    there.call("train", "--set", "sagemaker.spot=true")
    quotas["ml.g5.4xlarge for endpoint usage"] = 0
    error, _ = there.fail("deploy", "--set", "sagemaker.spot=true")
    assert "'ml.g5.4xlarge for endpoint usage'" in error
    assert there.aws.sagemaker.models == {}


def test_status_shows_a_warm_instance_and_teardown_releases_it(
    account: Callable[..., Account],
) -> None:
    there = account()
    there.call("prepare")
    warm = ("--set", "sagemaker.keep_alive_minutes=30")
    there.aws.sagemaker.quotas |= dict.fromkeys(WARM_POOLS, 1)
    trained = there.call("train", *warm)
    [job] = there.aws.sagemaker.jobs.values()
    assert job.description["WarmPoolStatus"] == {"Status": "Available"}
    job.description["TrainingEndTime"] -= 600
    row = there.job()
    assert (row["state"], row["detail"]["warm"], row["usd_per_hour"]) == ("done", True, 1.25)
    billed = job.description["BillableTimeInSeconds"]
    assert row["usd"] == pytest.approx((billed + 600) / 3600 * 1.25, abs=60 / 3600 * 1.25)
    table, _ = there.start("status").communicate(timeout=60)
    assert "done, kept warm" in table
    assert "so far" in table
    assert there.call("train", *warm)["reused"]
    assert there.call("deploy")["artifact"] == trained["artifact"]

    torn = there.call("teardown", "--yes")
    assert len(torn["removed"]) == 2
    assert f"training job {job.description['TrainingJobName']}" in [one.partition(" (")[0] for one in torn["removed"]]
    assert torn["remaining"] == []
    assert job.description["WarmPoolStatus"]["Status"] == "Terminated"
    kept = job.description["WarmPoolStatus"]["ResourceRetainedBillableTimeInSeconds"]
    row = there.job()
    assert (row["state"], row["detail"]["warm"]) == ("done", False), "its artifact is still there"
    assert row["usd"] == pytest.approx((billed + kept) / 3600 * 1.25)
    table, _ = there.start("status").communicate(timeout=60)
    assert "warm" not in table
    assert "so far" not in table
    assert there.call("teardown", "--yes")["removed"] == []


def test_a_warm_instance_serves_the_next_job_or_expires(
    account: Callable[..., Account],
) -> None:
    there = account()
    jobs = there.aws.sagemaker.jobs
    there.call("prepare")
    warm = ("--set", "sagemaker.keep_alive_minutes=30")
    there.aws.sagemaker.quotas |= dict.fromkeys(WARM_POOLS, 1)
    bad = ("--set", "lora.targets=[nothing_like_it]")

    def told() -> list[tuple[str, bool]]:
        rows = there.call("status")["resources"]
        return [(row["state"], row["detail"]["warm"]) for row in rows if row["kind"] == "training_job"]

    there.call("train", *warm)
    there.fail("train", *bad, *warm)
    [first, failed] = jobs.values()
    assert first.description["WarmPoolStatus"]["Status"] == "Reused"
    assert told() == [("done", False), ("failed", True)]
    failed.description["TrainingEndTime"] -= 3600
    assert told() == [("done", False), ("failed", False)]
    billed = failed.description["BillableTimeInSeconds"] + 1800
    assert there.call("status")["resources"][-1]["usd"] == pytest.approx(billed / 3600 * 1.25)

    there.fail("train", *bad, *warm)
    there.fail("train", *bad, "--set", "sagemaker.training_instance_type=ml.g5.4xlarge")
    assert [job.warm for job in jobs.values()] == [False, False, True, False]
    assert told() == [("done", False), ("failed", True)]
    assert there.call("teardown", "--yes")["remaining"] == []
    assert told() == [("done", False), ("failed", False)]
    assert not any(job.warm for job in jobs.values())


def test_a_job_that_loses_its_spot_instance_goes_on_in_another(account: Callable[..., Account]) -> None:
    there = account(steps=150)
    there.call("prepare")
    training = there.start("train", "-v", "--set", "sagemaker.spot=true")
    wait_for(lambda: there.jobs)
    [job] = there.aws.sagemaker.jobs.values()
    wait_for(lambda: list(job.root.glob("ml/checkpoints/*/manifest.json.sagemaker-uploaded")))
    job.interrupt()
    _, errors = training.communicate(timeout=200)
    assert training.returncode == 0, errors
    assert "from step" in errors
    statuses = [move["Status"] for move in job.description["SecondaryStatusTransitions"]]
    assert statuses.count("Training") == 2
    assert "Interrupted" in statuses
    assert list(there.jobs.values()) == ["Completed"]
    assert job.description["BillableTimeInSeconds"] < job.description["TrainingTimeInSeconds"]
    assert there.job()["usd"] == there.billed()
    assert "billed, <$0.01" in errors


def test_killed_right_after_it_created_something_it_finds_it_again(account: Callable[..., Account]) -> None:
    there = account(steps=60)
    there.call("prepare")
    for verb, call in (("train", "CreateTrainingJob"), ("deploy", "CreateEndpoint")):
        killed = there.start(verb)
        wait_for(partial(there.aws.calls.count, f"sagemaker {call}"))
        killed.kill()
        killed.communicate(timeout=60)
        there.call(verb)
        assert there.aws.calls.count(f"sagemaker {call}") == 1
    killed = there.start("deploy", "--set", "deploy.serve=adapter")
    wait_for(lambda: "sagemaker UpdateEndpoint" in there.aws.calls)
    killed.kill()
    killed.communicate(timeout=60)
    terminal, user = pty.openpty()
    asking = there.start("teardown", stdin=user)
    os.write(terminal, b"n\n")
    output, errors = asking.communicate(timeout=60)
    assert (asking.returncode, output) == (1, ""), errors
    assert "delete endpoint tiny" in errors
    assert there.aws.sagemaker.call("ListEndpoints", {}) != {"Endpoints": []}
    assert there.call("teardown", "--yes")["remaining"] == []
    assert there.aws.sagemaker.call("ListEndpoints", {}) == {"Endpoints": []}


def _break(there: Account, artifact: str) -> None:
    """Put a program in the place of the artifact's own, of the same size, for sizes are looked at before."""
    bucket, _, prefix = artifact.removeprefix("s3://").partition("/")
    s3, there_it_is = there.aws.aws.client("s3"), {"Bucket": bucket, "Key": f"{prefix}code/inference.py"}
    size = s3.head_object(**there_it_is)["ContentLength"]
    s3.put_object(**there_it_is, Body=b"raise RuntimeError('this model is broken') #".ljust(size, b"-"))
