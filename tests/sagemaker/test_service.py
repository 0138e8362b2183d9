"""What the service does and lorasum makes of it, as a user sees it: the containers do nothing, at once."""

import json
import os
import pty
import re
import shutil
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import stand_in_container as container
import waiting
from account import BAD, Account, Made
from forks import Ended
from local_world import REAL, STUBS
from loopback_server import LoopbackServer
from model_hub import Hub
from stand_in import Fault, StandIn

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not container.possible(), reason="this system gives no mount namespaces"),
]

WARM_POOLS = [f"ml.g5.{size}xlarge for training warm pool usage" for size in (2, 4)]


@pytest.mark.usefixtures("stubs")
def test_the_cost_of_a_job_without_a_known_price_is_unknown(account: Callable[..., Account], prepared: Made) -> None:
    there = account(made=prepared)
    there.aws.faults = [Fault("pricing", "denied")]
    there.fail("train", *BAD, "--set", "sagemaker.training_instance_type=ml.g6e.xlarge")
    assert (there.job()["state"], there.job()["usd"]) == ("failed", None)
    assert "unknown" in there.run("status").stdout


@pytest.mark.usefixtures("stubs")
def test_a_run_in_china_has_its_partition_in_every_name(make: Callable[..., Account]) -> None:
    with StandIn("cn-north-1") as aws:
        there = make(aws)
        there.call("run", "--keep")
        [job] = aws.sagemaker.jobs.values()
        assert job.request["AlgorithmSpecification"]["TrainingImage"].partition("/")[0].endswith(".amazonaws.com.cn")
        assert job.request["RoleArn"].startswith("arn:aws-cn:")
        rows = {row["kind"]: row for row in there.call("status")["resources"]}
        assert rows["endpoint"]["location"].startswith("arn:aws-cn:sagemaker:cn-north-1:")
        assert rows["endpoint"]["usd_per_hour"] is rows["training_job"]["usd"] is None, "AWS lists no price there"
        assert [call for call in aws.calls if call.startswith("pricing")] == []
        there.call("teardown", "--yes", "--data", "--artifacts")
        assert (aws.sagemaker.endpoints, aws.sagemaker.models, aws.sagemaker.configs) == ({}, {}, {})
        assert there.objects() == []


@pytest.mark.usefixtures("stubs")
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
    passes = fault is not None and fault.kind in ("error", "reset")
    said = there.fail("train", *extra, code=5 if passes else 2)
    assert error in said[0]
    assert hint in said[1]
    assert there.jobs == {}


@pytest.mark.usefixtures("stubs")
def test_throttling_of_every_call_and_a_lost_answer_start_one_job(
    account: Callable[..., Account], prepared: Made
) -> None:
    there = account(made=prepared)
    there.aws.faults = [Fault("", "throttle", each_once=True), Fault("CreateTrainingJob", "lost", times=1)]
    there.call("train")
    assert list(there.jobs.values()) == ["Completed"]


@pytest.mark.usefixtures("stubs")
@pytest.mark.parametrize(
    ("verb", "calls", "skip", "what"),
    [
        ("train", "DescribeTrainingJob", 3, "training job tiny-"),
        ("deploy", "DescribeEndpoint$|DeleteEndpoint$", 3, "endpoint tiny "),
    ],
)
def test_a_login_that_expires_names_what_may_run(
    account: Callable[..., Account], prepared: Made, stub_trained: Made, verb: str, calls: str, skip: int, what: str
) -> None:
    """It was said to have failed, for 0 USD, or nothing was said of it; and it ran."""
    there = account(made=stub_trained if verb == "deploy" else prepared)
    there.aws.faults = [Fault(calls, "expired", skip=skip)]
    ended = there.run(verb)
    assert ended.code == 2
    [warning] = [line for line in ended.stderr.splitlines() if "may be running" in line]
    assert warning.startswith(f"warning: {what}")
    assert f"billed, until `lorasum teardown {there.config}` removes it" in warning
    assert "log in again" in ended.stderr.splitlines()[-1]
    there.aws.faults = []
    there.call(verb)
    assert len(there.jobs) == 1
    assert there.aws.calls.count("sagemaker CreateEndpoint") == (verb == "deploy")


@pytest.mark.usefixtures("stubs")
def test_a_watch_goes_on_through_an_outage(account: Callable[..., Account], stub_trained: Made) -> None:
    there = account(made=stub_trained)
    there.call("deploy")
    there.environ["AWS_MAX_ATTEMPTS"] = "1"
    there.aws.calls.clear()
    watching = there.start("status", "--watch", "1")
    waiting.until(lambda: "sagemaker DescribeEndpoint" in there.aws.calls)
    there.aws.faults = [Fault("DescribeEndpoint$", "reset", times=2)]
    waiting.until(lambda: "it answers again" in watching.said() or (watching.folder / "code").exists())
    os.kill(watching.pid, signal.SIGINT)
    ended = watching.wait()
    assert ended.code == -signal.SIGINT
    assert ended.stderr.count("it is asked again until it answers or Ctrl-C") == 1


@pytest.mark.usefixtures("stubs")
def test_an_update_is_in_place_and_a_failed_one_changes_nothing(
    account: Callable[..., Account], stub_trained: Made
) -> None:
    there = account(made=stub_trained)
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
    assert (endpoint["state"], endpoint["artifact"]) == ("live", third)
    assert endpoint["usd"] == pytest.approx(3 * 2.5, abs=0.5)  # three hours, and the minutes of this test
    assert there.call("predict", "--text", "Ana: hi")["summary"] is not None
    assert len(sagemaker.models) == len(sagemaker.configs) == 1


@pytest.mark.usefixtures("stubs")
def test_no_quota_or_a_low_ceiling_is_told_before_a_job_is_sent(
    account: Callable[..., Account], prepared: Made
) -> None:
    there = account(made=prepared)
    before = there.objects()
    quotas = there.aws.sagemaker.quotas
    quotas |= {"ml.g5.2xlarge for training job usage": 0, "ml.g5.2xlarge for spot training job usage": 1}
    error, hint = there.fail("train")
    assert "your quota of 'ml.g5.2xlarge for training job usage' in us-east-1 is 0" in error
    assert "request-service-quota-increase" in hint
    assert "--quota-code L-00000000" in hint
    assert (there.jobs, there.objects()) == ({}, before)
    error, hint = there.fail("train", "--set", "limits.max_usd=0.01")
    assert "limits.max_usd is $0.01, and pays for" in error
    assert "choose a cheaper instance" in hint
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
    assert (row["state"], row["kept_warm"], row["usd_per_hour"]) == ("done", True, 1.25)
    billed = job.description["BillableTimeInSeconds"]
    assert row["usd"] == pytest.approx((billed + 600) / 3600 * 1.25, abs=60 / 3600 * 1.25)
    table = there.run("status").stdout
    assert "done, kept warm" in table
    assert "so far" in table
    assert there.call("train", *warm)["reused"]
    assert there.call("deploy")["artifact"] == trained["artifact"]

    torn = there.call("teardown", "--yes")
    assert len(torn["removed"]) == 2
    assert ("training_job", job.description["TrainingJobName"]) in [
        (one["kind"], one["name"]) for one in torn["removed"]
    ]
    assert torn["remaining"] == []
    assert job.description["WarmPoolStatus"]["Status"] == "Terminated"
    kept = job.description["WarmPoolStatus"]["ResourceRetainedBillableTimeInSeconds"]
    row = there.job()
    assert (row["state"], row["kept_warm"]) == ("done", False), "its artifact is still there"
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
        return [(row["state"], row["kept_warm"]) for row in rows if row["kind"] == "training_job"]

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


_DOWNLOADS = """
import subprocess, sys
what = "from shared.base_download import download_base; download_base('me/model', None)"
subprocess.run([sys.executable, "-c", what], cwd=sys.path[0], check=True)
"""


def test_the_next_job_of_a_warm_instance_downloads_nothing(
    account: Callable[..., Account], prepared: Made, tmp_path: Path, tiny_model_dir: Path
) -> None:
    there = account(made=prepared)
    there.aws.sagemaker.quotas |= dict.fromkeys(WARM_POOLS, 1)
    scripts = tmp_path / "scripts"
    shutil.copytree(REAL, scripts, ignore=shutil.ignore_patterns("__pycache__"))
    own = (scripts / "shared" / "names.py").read_text().replace('"/tmp/huggingface"', '"/opt/ml/huggingface"')
    (scripts / "shared" / "names.py").write_text(own)  # a container's /tmp is its own, and is this machine's here
    (scripts / "train.py").write_text(_DOWNLOADS + (STUBS / "train.py").read_text())
    there.environ["LORASUM_STUB_SCRIPTS"] = str(scripts)
    shutil.copytree(tiny_model_dir, tmp_path / "models" / "me" / "model")
    with LoopbackServer(type("Served", (Hub,), {"root": tmp_path})) as hub:
        given = ("sagemaker.keep_alive_minutes=30", f"sagemaker.environment={{HF_ENDPOINT: {hub.url}}}")
        for size, downloads in ((2, 1), (2, 1), (4, 2)):
            instance = f"sagemaker.training_instance_type=ml.g5.{size}xlarge"
            settings = (*given, instance, f"lora.r={2 + len(there.jobs)}")
            there.call("train", *(word for setting in settings for word in ("--set", setting)))
            asked = (tmp_path / "asked").read_text()
            assert len(re.findall("GET .*/model.safetensors ", asked)) == downloads


@pytest.mark.usefixtures("stubs")
def test_a_running_job_costs_what_it_is_billed_for(account: Callable[..., Account], prepared: Made) -> None:
    there = account(made=prepared)
    there.call("train", "--no-wait")
    [job] = there.aws.sagemaker.jobs.values()
    job.join()
    there.let_pass(5, "training_job")
    waiting = {"TrainingJobStatus": "InProgress", "SecondaryStatus": "Pending"}
    for told_later in ("TrainingStartTime", "TrainingEndTime", "TrainingTimeInSeconds", "BillableTimeInSeconds"):
        del job.description[told_later]
    job.description |= waiting
    assert (there.job()["state"], there.job()["usd"]) == ("live", 0.0), "it has no instance yet"
    job.description |= {"SecondaryStatus": "Training", "TrainingStartTime": time.time() - 7200}
    assert there.job()["usd"] == pytest.approx(2.5, abs=0.2)


@pytest.mark.usefixtures("stubs")
@pytest.mark.parametrize("kind", ["denied", "error"])
def test_no_log_keeps_a_failed_job_from_its_teardown(
    account: Callable[..., Account], stub_trained: Made, kind: str
) -> None:
    there = account(made=stub_trained)
    there.environ["AWS_MAX_ATTEMPTS"] = "1"
    there.call("deploy")
    there.call("train", "--no-wait", *BAD)
    list(there.aws.sagemaker.jobs.values())[-1].join()
    there.aws.faults = [Fault("^logs ", kind)]
    assert there.call("teardown", "--yes")["remaining"] == []
    assert there.aws.sagemaker.endpoints == {}


@pytest.mark.usefixtures("stubs")
def test_whoever_may_not_read_logs_hears_why_a_job_failed(account: Callable[..., Account], prepared: Made) -> None:
    there = account(made=prepared)
    there.aws.faults = [Fault("^logs ", "denied")]
    ended = there.run("train", *BAD)
    assert ended.code == 2
    assert "FlexAttention trains on a GPU only" in ended.stderr
    [warning] = [line for line in ended.stderr.splitlines() if line.startswith("warning: ")]
    assert "lorasum goes on without the log. To read it, allow logs:DescribeLogStreams" in warning
    assert there.run("train").code == 0


@pytest.mark.usefixtures("stubs")
def test_without_a_config_what_runs_is_asked_about_and_removed(
    account: Callable[..., Account], stub_trained: Made
) -> None:
    there = account(made=stub_trained)
    sagemaker = there.aws.sagemaker
    there.call("deploy")
    for lost in ({"AWS_ACCESS_KEY_ID": ""}, {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}):
        before = dict(there.environ)
        there.environ.update(lost)
        unknown = there.run("status", "--json")
        assert (unknown.code, _endpoint(unknown)["state"], _endpoint(unknown)["asked"]) == (3, "live", False)
        assert "run 'tiny' is shown as recorded" in unknown.stderr
        assert "nobody could be asked whether it still runs, and is billed" in unknown.stderr
        there.fail("status", "--account", code=5 if "AWS_ENDPOINT_URL" in lost else 2)
        there.environ.clear()
        there.environ.update(before)
    there.config.unlink()
    there.environ["AWS_DEFAULT_REGION"] = "eu-west-1"
    key, there.environ["AWS_ACCESS_KEY_ID"] = there.environ["AWS_ACCESS_KEY_ID"], ""
    unknown = there.without_config("status", "--json")
    assert (unknown.code, _endpoint(unknown)["state"], _endpoint(unknown)["asked"]) == (3, "live", False)
    assert "us-east-1 is not asked about what is on record there" in unknown.stderr
    assert (
        "still there: endpoint tiny (arn:" in there.without_config("teardown", "--all", "--yes").stderr.splitlines()[-2]
    )

    there.environ["AWS_ACCESS_KEY_ID"] = key
    assert _endpoint(there.without_config("status", "--json"))["asked"]
    torn = there.without_config("teardown", "--all", "--yes", "--json")
    assert torn.code == 0, torn.stderr
    assert [(one["kind"], one["name"]) for one in json.loads(torn.stdout)["removed"]] == [("endpoint", "tiny")]
    assert (sagemaker.endpoints, sagemaker.models, sagemaker.configs) == ({}, {}, {})
    assert _endpoint(there.without_config("status", "--all", "--json"))["state"] == "gone"


def _endpoint(ended: Ended) -> Any:
    [row] = [row for row in json.loads(ended.stdout)["resources"] if row["kind"] == "endpoint"]
    return row


@pytest.mark.usefixtures("stubs")
def test_deploy_asks_before_money_is_spent_unless_told_yes(account: Callable[..., Account], stub_trained: Made) -> None:
    there = account(made=stub_trained)
    terminal, user = pty.openpty()
    os.write(terminal, b"n\nn\n")
    refused = there.run("deploy", "--for", "4h", terminal=os.ttyname(user))
    assert (refused.code, refused.stdout) == (1, ""), refused.stderr
    assert "warning: endpoint tiny will NOT end by itself" in refused.stderr, "no role is set that could delete it"
    assert "start endpoint tiny, $2.50 an hour, with no end of its own\n" in refused.stderr
    assert there.aws.sagemaker.endpoints == {}
    told = there.run("deploy", "--yes", terminal=os.ttyname(user))
    assert told.code == 0, told.stderr
    refused = there.run("evaluate", "--base", terminal=os.ttyname(user))
    assert (refused.code, refused.stdout) == (1, ""), refused.stderr
    assert "start endpoint tiny--base for the base model, $2.50 an hour, until it has summarised" in refused.stderr
    assert there.run("deploy", terminal=os.ttyname(user)).code == 0, "it serves already, and nothing is asked"
    assert there.aws.calls.count("sagemaker CreateEndpoint") == 1


@pytest.mark.usefixtures("stubs")
def test_killed_right_after_it_created_something_it_finds_it_again(
    account: Callable[..., Account], prepared: Made
) -> None:
    there = account(steps=60, made=prepared)
    for verb, call in (("train", "CreateTrainingJob"), ("deploy", "CreateEndpoint")):
        killed = there.start(verb)
        waiting.until(partial(there.aws.calls.count, f"sagemaker {call}"))
        killed.kill()
        there.call(verb)
        assert there.aws.calls.count(f"sagemaker {call}") == 1
    killed = there.start("deploy", "--set", "deploy.serve=adapter")
    waiting.until(lambda: "sagemaker UpdateEndpoint" in there.aws.calls)
    killed.kill()
    terminal, user = pty.openpty()
    os.write(terminal, b"n\n")
    refused = there.run("teardown", terminal=os.ttyname(user))
    assert (refused.code, refused.stdout) == (1, ""), refused.stderr
    assert "delete endpoint tiny" in refused.stderr
    assert there.aws.sagemaker.call("ListEndpoints", {}) != {"Endpoints": []}
    assert there.call("teardown", "--yes")["remaining"] == []
    assert there.aws.sagemaker.call("ListEndpoints", {}) == {"Endpoints": []}


@pytest.mark.usefixtures("stubs")
def test_run_asks_once_before_money_is_spent_unless_told_yes(account: Callable[..., Account], prepared: Made) -> None:
    there = account(made=prepared)
    terminal, user = pty.openpty()
    os.write(terminal, b"n\n")
    refused = there.run("run", "--keep", terminal=os.ttyname(user))
    assert (refused.code, refused.stdout) == (1, ""), refused.stderr
    assert "start job tiny-" in refused.stderr, "what the training costs"
    assert "start the endpoint, $2.50 an hour, it stays after the run" in refused.stderr
    assert (there.jobs, there.aws.sagemaker.endpoints) == ({}, {})
    told = there.run("run", "--keep", "--yes", terminal=os.ttyname(user))
    assert told.code == 0, told.stderr  # nobody answered
    assert list(there.jobs.values()) == ["Completed"]
    assert there.aws.sagemaker.endpoints != {}


def test_a_training_too_large_for_its_card_is_refused_before_a_start(
    account: Callable[..., Account], prepared: Made, tiny_model_dir: Path, tmp_path: Path
) -> None:
    there = account(made=prepared)
    del there.environ["LORASUM_STUB_NEEDS"]
    there.environ["LORASUM_PLANS_FOR_REAL"] = "1"  # by memory_plan.py as a process: the only test that does
    large = shutil.copytree(tiny_model_dir, tmp_path / "large")
    config = json.loads((large / "config.json").read_text())
    (large / "config.json").write_text(json.dumps(config | {"hidden_size": 16384, "n_head": 128, "n_layer": 7}))
    there.config.write_text(there.config.read_text().replace(str(tiny_model_dir), str(large)))
    there.call("prepare")
    before = there.objects()
    whole = ("--set", "training.engine.base=whole")  # else what does not fit would lie in the main memory
    error, hint = there.fail("train", *whole)
    assert "this training needs" in error
    assert "21.00 GiB are free" in error
    assert hint.endswith("or train on an ml.g6e.xlarge, into which it fits")
    assert (there.jobs, there.objects()) == ({}, before)
    planned = there.run("plan", *whole, "--json")
    made = json.loads(planned.stdout)
    assert planned.code == 2
    assert next(one["instance_type"] for one in made["instances"] if one["fits"]) == "ml.g6e.xlarge"
    assert made["memory"] is None


def _break(there: Account, artifact: str) -> None:
    """Put a program in the place of the artifact's own, of the same size, for sizes are looked at before."""
    bucket, _, prefix = artifact.removeprefix("s3://").partition("/")
    s3, there_it_is = there.aws.aws.client("s3"), {"Bucket": bucket, "Key": f"{prefix}code/inference.py"}
    size = s3.head_object(**there_it_is)["ContentLength"]
    s3.put_object(**there_it_is, Body=b"raise RuntimeError('this model is broken') #".ljust(size, b"-"))
