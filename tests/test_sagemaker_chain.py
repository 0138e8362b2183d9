"""The whole chain on SageMaker, as a user runs it: lorasum as a process, AWS over HTTP, jobs and endpoints executed."""

import filecmp
import json
import os
import pty
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import stand_in_container as container
import stand_in_endpoints
import stand_in_jobs
from account import CONFIG, Account, Made
from forks import Zygote
from stand_in import Fault, StandIn
from stand_in_aws import Aws
from world import StubServer, stub_containers, stub_job

import inference

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not container.possible(), reason="this system gives no mount namespaces"),
]

WARM_POOLS = [f"ml.g5.{size}xlarge for training warm pool usage" for size in (2, 4)]


@pytest.fixture(scope="module")
def make(
    tmp_path_factory: pytest.TempPathFactory, tiny_chats: Path, tiny_model_dir: Path, clients: Zygote
) -> Callable[..., Account]:
    """Make an account whose training has so many steps, with an empty home that is always in the same place."""
    folder = tmp_path_factory.mktemp("user")

    def make(aws: StandIn, steps: int = 10, home: str = "home", made: Made | None = None) -> Account:
        config = folder / "tiny.yaml"
        named = {"model": tiny_model_dir, "chats": tiny_chats, "bucket": aws.bucket, "role": aws.role_arn}
        config.write_text(CONFIG.format(steps=steps, **named))
        shutil.rmtree(folder / home, ignore_errors=True)
        there = Account(aws, folder / home, config, clients)
        if made:
            there.have(made)
        return there

    return make


@pytest.fixture(scope="module")
def prepared(make: Callable[..., Account], tmp_path_factory: pytest.TempPathFactory) -> Made:
    """What a user has after `prepare`: made once, for the tests that begin there."""
    with StandIn() as aws:
        there = make(aws)
        there.call("prepare")
        return there.made(tmp_path_factory.mktemp("prepared") / "home")


@pytest.fixture(scope="module")
def trained(make: Callable[..., Account], prepared: Made, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """What a user has after `train`."""
    with StandIn() as aws:
        there = make(aws, made=prepared)
        there.call("train")
        return there.made(tmp_path_factory.mktemp("trained") / "home")


@pytest.fixture
def account(make: Callable[..., Account]) -> Iterator[Callable[..., Account]]:
    """Make an account, as `make` does, and close it after the test."""
    with StandIn() as aws:
        yield partial(make, aws)


@pytest.fixture
def stubs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Containers do nothing, at once: for tests of what the service and lorasum do with them.

    A job whose targets no model has fails. An endpoint fails whose artifact's code does.
    """
    stub_containers(monkeypatch.setattr)

    def run(job: stand_in_jobs.Job, root: Path, began: float) -> int:
        if "nothing_like_it" not in json.dumps(job.request["HyperParameters"]):
            return stub_job(job, root, began)
        (root / "ml" / "output" / "failure").write_text("no module is named nothing_like_it")
        return 1

    class Server(StubServer):
        def __init__(self, endpoint: str, model: Any, aws: Aws, network: bool) -> None:
            uri = model["PrimaryContainer"]["ModelDataSource"]["S3DataSource"]["S3Uri"]
            with tempfile.TemporaryDirectory() as folder:
                aws.download(f"{uri}code/", Path(folder))
                self.code = (Path(folder) / "inference.py").read_text()

        def invoke(self, body: bytes, headers: dict[str, str], seconds: float) -> bytes:
            if self.code.startswith("raise"):
                raise stand_in_endpoints.model_error(400, self.code)
            return super().invoke(body, headers, seconds)

    monkeypatch.setattr(stand_in_jobs.Job, "_execute", run)
    monkeypatch.setattr(stand_in_endpoints, "Server", Server)


def wait_for(condition: Callable[[], object], seconds: float = 200) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def test_from_chats_to_a_summary_and_back_to_nothing(account: Callable[..., Account], tmp_path: Path) -> None:
    there = account()
    dataset = Path(there.call("prepare")["dataset"])
    assert f"lorasum/tiny/data/{dataset.name}/manifest.json" in there.objects()

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
    assert summary == local_summary(there, trained["artifact"], tmp_path / "artifact")
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


def local_summary(there: Account, artifact: str, folder: Path) -> str:
    """What the same artifact, downloaded, answers to the same dialogue without any endpoint."""
    there.aws.aws.download(artifact, folder)
    assert filecmp.cmp(folder / "code" / "inference.py", inference.__file__, shallow=False)
    body = json.dumps({"dialogue": "Ana: lunch?\nBen: yes, at noon", "parameters": {"max_new_tokens": 8}})
    model = inference.model_fn(str(folder))
    return str(inference.predict_fn(inference.input_fn(body, "application/json"), model)[0]["generated_text"])


def test_two_trains_at_once_share_one_job_that_outlives_them(account: Callable[..., Account], prepared: Made) -> None:
    there = account(steps=400, made=prepared)
    both = [there.start("train", "--no-wait", "--json") for _ in range(2)]
    codes = sorted(process.wait(200) for process in both)
    assert codes[0] == 0
    assert list(there.jobs.values()) == ["InProgress"]

    following = there.start("train")
    said = following.stderr
    assert said
    wait_for(lambda: "following job" in said.readline())
    wait_for(lambda: "step" in said.readline())
    following.send_signal(2)
    _, errors = following.communicate(timeout=200)
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


def test_a_job_whose_gpu_does_not_work_says_so(account: Callable[..., Account], prepared: Made) -> None:
    there = account(made=prepared)
    there.aws.aws.broken_gpus = True
    ended = there.run("train")
    assert ended.code == 2
    assert "failed: the instance has a GPU, and PyTorch" in ended.stderr
    assert "hint: start the job again, which gets another instance" in ended.stderr
    assert "exit code" not in ended.stderr


BAD = ("--set", "lora.targets=[nothing_like_it]")


def test_a_failed_job_says_why_and_shows_its_log_and_its_cost(account: Callable[..., Account], prepared: Made) -> None:
    there = account(made=prepared)
    ended = there.run("train", *BAD)
    assert ended.code == 2
    assert "error: training job tiny-" in ended.stderr
    assert "nothing_like_it" in ended.stderr
    assert "log: " in ended.stderr
    assert (there.job()["state"], there.job()["usd"]) == ("failed", there.billed())
    assert "$0.0" in there.run("status").stdout  # less than a cent, but on a busy machine


@pytest.mark.usefixtures("stubs")
def test_the_cost_of_a_job_without_a_known_price_is_unknown(account: Callable[..., Account], prepared: Made) -> None:
    there = account(made=prepared)
    there.aws.faults = [Fault("pricing", "denied")]
    there.fail("train", *BAD, "--set", "sagemaker.training_instance_type=ml.p5.48xlarge")
    assert (there.job()["state"], there.job()["usd"]) == ("failed", None)
    assert "unknown" in there.run("status").stdout


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
    account: Callable[..., Account],
    prepared: Made,
    settings: dict[str, str],
    fault: Fault | None,
    error: str,
    hint: str,
) -> None:
    there = account(made=prepared)
    there.environ |= {name: value for name, value in settings.items() if name.isupper()}
    there.aws.faults = [fault] if fault else []
    there.environ["AWS_MAX_ATTEMPTS"] = "1"
    extra = ["--set", "sagemaker.role=Trainer"] if fault and fault.pattern == "iam " else []
    extra += [word for name, value in settings.items() if name.islower() for word in ("--set", f"{name}={value}")]
    said = there.fail("train", *extra)
    assert error in said[0]
    assert hint in said[1]
    assert there.jobs == {}


@pytest.mark.usefixtures("stubs")
def test_throttling_of_every_second_call_and_a_lost_answer_start_one_job(
    account: Callable[..., Account], prepared: Made
) -> None:
    there = account(made=prepared)
    there.aws.faults = [Fault("", "throttle", probability=0.5), Fault("CreateTrainingJob", "lost", times=1)]
    there.call("train")
    assert list(there.jobs.values()) == ["Completed"]


@pytest.mark.usefixtures("stubs")
def test_an_update_is_in_place_and_a_failed_one_changes_nothing(
    account: Callable[..., Account], prepared: Made
) -> None:
    there = account(made=prepared)
    sagemaker = there.aws.sagemaker
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


def test_an_artifact_answers_the_same_however_it_is_served(account: Callable[..., Account], trained: Made) -> None:
    """Merged, as an adapter beside its base model, and by vLLM."""
    there = account(made=trained)
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

    vllm = ("--set", "sagemaker.engine=vllm")
    there.call("deploy", *vllm)
    [model] = there.aws.sagemaker.models.values()
    assert "huggingface-vllm:0.29.0" in model["PrimaryContainer"]["Image"]
    assert there.call(*asked, *vllm)["summary"] == merged

    torn = there.call("teardown", "--yes", "--artifacts")
    assert torn["remaining"] == []
    assert there.aws.aws.scaled("tiny") == []
    assert not [key for key in there.objects() if "/capture/" in key]


@pytest.mark.usefixtures("stubs")
def test_a_quota_of_zero_is_reported_before_anything_is_sent(account: Callable[..., Account], prepared: Made) -> None:
    there = account(made=prepared)
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


@pytest.mark.usefixtures("stubs")
def test_status_shows_a_warm_instance_and_teardown_releases_it(account: Callable[..., Account], prepared: Made) -> None:
    there = account(made=prepared)
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
    table = there.run("status").stdout
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
    table = there.run("status").stdout
    assert "warm" not in table
    assert "so far" not in table
    assert there.call("teardown", "--yes")["removed"] == []


@pytest.mark.usefixtures("stubs")
def test_a_warm_instance_serves_the_next_job_or_expires(account: Callable[..., Account], prepared: Made) -> None:
    there = account(made=prepared)
    jobs = there.aws.sagemaker.jobs
    warm = ("--set", "sagemaker.keep_alive_minutes=30")
    there.aws.sagemaker.quotas |= dict.fromkeys(WARM_POOLS, 1)

    def told() -> list[tuple[str, bool]]:
        rows = there.call("status")["resources"]
        return [(row["state"], row["detail"]["warm"]) for row in rows if row["kind"] == "training_job"]

    there.call("train", *warm)
    there.fail("train", *BAD, *warm)
    [first, failed] = jobs.values()
    assert first.description["WarmPoolStatus"]["Status"] == "Reused"
    assert told() == [("done", False), ("failed", True)]
    failed.description["TrainingEndTime"] -= 3600
    assert told() == [("done", False), ("failed", False)]
    billed = failed.description["BillableTimeInSeconds"] + 1800
    assert there.call("status")["resources"][-1]["usd"] == pytest.approx(billed / 3600 * 1.25)

    there.fail("train", *BAD, *warm)
    there.fail("train", *BAD, "--set", "sagemaker.training_instance_type=ml.g5.4xlarge")
    assert [job.warm for job in jobs.values()] == [False, False, True, False]
    assert told() == [("done", False), ("failed", True)]
    assert there.call("teardown", "--yes")["remaining"] == []
    assert told() == [("done", False), ("failed", False)]
    assert not any(job.warm for job in jobs.values())


def test_a_job_that_loses_its_spot_instance_goes_on_in_another(account: Callable[..., Account], prepared: Made) -> None:
    there = account(steps=150, made=prepared)
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
    assert re.search(r"billed, <?\$0\.0", errors)


@pytest.mark.usefixtures("stubs")
def test_killed_right_after_it_created_something_it_finds_it_again(
    account: Callable[..., Account], prepared: Made
) -> None:
    there = account(steps=60, made=prepared)
    for verb, call in (("train", "CreateTrainingJob"), ("deploy", "CreateEndpoint")):
        killed = there.start(verb)
        wait_for(partial(there.aws.calls.count, f"sagemaker {call}"))
        killed.kill()
        killed.communicate(timeout=200)
        there.call(verb)
        assert there.aws.calls.count(f"sagemaker {call}") == 1
    killed = there.start("deploy", "--set", "deploy.serve=adapter")
    wait_for(lambda: "sagemaker UpdateEndpoint" in there.aws.calls)
    killed.kill()
    killed.communicate(timeout=200)
    terminal, user = pty.openpty()
    asking = there.start("teardown", stdin=user)
    os.write(terminal, b"n\n")
    output, errors = asking.communicate(timeout=200)
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
