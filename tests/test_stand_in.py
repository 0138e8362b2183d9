"""The stand-in itself: it runs jobs and endpoints, refuses what the service refuses, and fails when told to."""

import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import stand_in_container as container
from forked_containers import ContainerZygote, ForkedContainer
from stand_in import Fault, StandIn

pytestmark = pytest.mark.skipif(not container.possible(), reason="this system gives no mount namespaces")


@pytest.fixture(scope="module")
def aws() -> Iterator[StandIn]:
    with StandIn() as stand_in:
        yield stand_in


@pytest.fixture
def forked(aws: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """Containers import no libraries: the toolkit alone takes seconds."""
    monkeypatch.setattr(aws.aws, "start_container", ContainerZygote().start)


def client(aws: StandIn, service: str, attempts: int = 1) -> Any:
    import boto3
    from botocore.config import Config

    settings = Config(retries={"mode": "standard", "total_max_attempts": attempts})
    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
    return boto3.client(service, endpoint_url=aws.url, region_name="us-east-1", config=settings, **keys)


def put(aws: StandIn, key: str, text: str) -> None:
    aws.aws.client("s3").put_object(Bucket=aws.bucket, Key=key, Body=text.encode())


def job(aws: StandIn, name: str, script: str, **more: Any) -> dict[str, Any]:
    """Run `script` as a job and describe it when it has ended, or as soon as it prints, if it is to be stopped."""
    put(aws, f"{name}/code/start.py", script)
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{aws.bucket}/{name}/code/"}
    request = {
        "TrainingJobName": name,
        "RoleArn": aws.role_arn,
        "AlgorithmSpecification": {
            "TrainingImage": "image:1",
            "TrainingInputMode": "File",
            "ContainerEntrypoint": ["python3", "/opt/ml/input/data/code/start.py"],
        },
        "HyperParameters": {"epochs": "3"},
        "InputDataConfig": [{"ChannelName": "code", "DataSource": {"S3DataSource": source}}],
        "OutputDataConfig": {"S3OutputPath": f"s3://{aws.bucket}/out", "CompressionType": "NONE"},
        "ResourceConfig": {"InstanceType": "ml.g5.2xlarge", "InstanceCount": 1, "VolumeSizeInGB": 30},
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
    }
    sagemaker = client(aws, "sagemaker")
    sagemaker.create_training_job(**request | more)
    while (found := sagemaker.describe_training_job(TrainingJobName=name))["TrainingJobStatus"] in (
        "InProgress",
        "Stopping",
    ):
        if name.startswith("stopped") and said(aws, name) and found["TrainingJobStatus"] == "InProgress":
            sagemaker.stop_training_job(TrainingJobName=name)
        time.sleep(0.1)
    return dict(found)


def said(aws: StandIn, name: str) -> list[str]:
    logs = aws.aws.client("logs")
    group = "/aws/sagemaker/TrainingJobs"
    try:
        streams = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=f"{name}/")["logStreams"]
    except logs.exceptions.ResourceNotFoundException:
        return []
    pages = [logs.get_log_events(logGroupName=group, logStreamName=s["logStreamName"]) for s in streams]
    return [event["message"] for page in pages for event in page["events"]]


def test_a_job_is_run_and_its_output_uploaded(aws: StandIn) -> None:
    script = """
import json, os, pathlib
flags = json.load(open("/opt/ml/input/config/hyperparameters.json"))
print("epochs", flags["epochs"], os.environ["TRAINING_JOB_NAME"], "HOSTNAME" in os.environ)
pathlib.Path("/opt/ml/model/adapter").mkdir()
pathlib.Path("/opt/ml/model/adapter/weights").write_text("w")
"""
    ended = job(aws, "good", script)
    assert (ended["TrainingJobStatus"], ended["SecondaryStatus"]) == ("Completed", "Completed")
    moves = [move["Status"] for move in ended["SecondaryStatusTransitions"]]
    assert moves[:4] == ["Pending", "Downloading", "Training", "Uploading"]
    assert said(aws, "good") == ["epochs 3 good False"]
    assert ended["ModelArtifacts"]["S3ModelArtifacts"] == f"s3://{aws.bucket}/out/good/output/model/"
    stored = aws.aws.client("s3").get_object(Bucket=aws.bucket, Key="out/good/output/model/adapter/weights")
    assert stored["Body"].read() == b"w"


def test_a_job_may_end_before_its_log_has_come(aws: StandIn) -> None:
    aws.aws.logs_come.clear()
    assert job(aws, "lags", "print('late')")["TrainingJobStatus"] == "Completed"
    assert said(aws, "lags") == []
    aws.aws.logs_come.set()
    while said(aws, "lags") != ["late"]:
        time.sleep(0.1)


def test_a_failed_job_gives_its_reason(aws: StandIn) -> None:
    ended = job(aws, "bad", "open('/opt/ml/output/failure', 'w').write('no memory'); raise SystemExit(3)")
    assert ended["TrainingJobStatus"] == "Failed"
    assert ended["FailureReason"] == "AlgorithmError: no memory, exit code: 3"


def test_a_stopped_job_hears_sigterm_and_keeps_its_checkpoints(aws: StandIn) -> None:
    script = """
import pathlib, signal, sys, time
def stop(*_):
    pathlib.Path("/opt/ml/checkpoints/heard").write_text("yes")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print("ready", pathlib.Path("/opt/ml/checkpoints/heard").exists(), flush=True)
time.sleep(60)
"""
    kept = {"CheckpointConfig": {"S3Uri": f"s3://{aws.bucket}/kept/"}}
    for name, heard in (("stopped", False), ("stopped-again", True)):
        assert job(aws, name, script, **kept)["TrainingJobStatus"] == "Stopped"
        assert said(aws, name) == [f"ready {heard}"]


def test_checkpoints_are_synced_file_by_file_while_the_job_runs(aws: StandIn) -> None:
    script = """
import pathlib, time
folder = pathlib.Path("/opt/ml/checkpoints")
(folder / "a").write_text("first")
(folder / "b").write_text("first")
while len(list(folder.glob("*.sagemaker-uploaded"))) < 2: time.sleep(0.05)
(folder / "a").unlink()
time.sleep(1)
print(sorted(path.name for path in folder.iterdir()), flush=True)
"""
    kept = {"CheckpointConfig": {"S3Uri": f"s3://{aws.bucket}/in-s3/synced/"}}
    assert job(aws, "synced", script, **kept)["TrainingJobStatus"] == "Completed"
    assert said(aws, "synced") == ["['a.sagemaker-uploaded', 'b', 'b.sagemaker-uploaded']"]
    listed = aws.aws.client("s3").list_objects_v2(Bucket=aws.bucket, Prefix="in-s3/synced/")
    assert [item["Key"] for item in listed["Contents"]] == ["in-s3/synced/b"], "deletions travel, and markers do not"


def test_an_interrupted_job_may_have_half_of_a_checkpoint(aws: StandIn) -> None:
    script = """
import pathlib, time
folder = pathlib.Path("/opt/ml/checkpoints")
if list(folder.iterdir()):
    print(len(list(folder.iterdir())), flush=True)
else:
    for number in range(100):
        (folder / str(number)).write_text("part")
    print("written", flush=True)
    time.sleep(60)
"""
    kept = {"CheckpointConfig": {"S3Uri": f"s3://{aws.bucket}/in-s3/half/"}, "EnableManagedSpotTraining": True}
    kept["StoppingCondition"] = {"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 60}
    watching = threading.Thread(target=job, args=(aws, "half", script), kwargs=kept)
    watching.start()
    while "written" not in said(aws, "half") or not list(aws.sagemaker.jobs["half"].root.glob("ml/checkpoints/*ed")):
        time.sleep(0.05)
    aws.sagemaker.jobs["half"].interrupt()
    watching.join(200)
    first, second = said(aws, "half")
    assert first == "written"
    assert 0 < int(second) < 100


@pytest.mark.parametrize(
    ("isolated", "in_vpc", "egress"), [(True, False, True), (False, True, False), (False, True, True)]
)
def test_a_container_without_network_reaches_nothing(aws: StandIn, isolated: bool, in_vpc: bool, egress: bool) -> None:
    script = """
import os, urllib.request
try:
    print(urllib.request.urlopen(os.environ["AWS_ENDPOINT_URL"], timeout=100).status, flush=True)
except OSError as error:
    print("no network", flush=True)
"""
    name = f"net-{isolated}-{in_vpc}-{egress}"
    more: dict[str, Any] = {"EnableNetworkIsolation": isolated}
    more |= {"VpcConfig": {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}} if in_vpc else {}
    aws.sagemaker.vpcs_have_egress = egress
    assert job(aws, name, script, **more)["TrainingJobStatus"] == "Completed"
    aws.sagemaker.vpcs_have_egress = True
    assert said(aws, name) == (["200"] if in_vpc and egress else ["no network"])


def test_a_container_may_be_killed_when_it_has_just_ended(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    (tmp_path / "pid").write_text(str(ended.pid))  # and its exit status is not written yet
    reading, writing = os.pipe()
    os.close(writing)
    gone = ForkedContainer(tmp_path, reading)
    gone.kill()
    assert gone.poll() is None
    gone.stdout.close()


def test_a_job_over_its_time_is_stopped(aws: StandIn) -> None:
    ended = job(aws, "slow", "import time; time.sleep(60)", StoppingCondition={"MaxRuntimeInSeconds": 1})
    assert (ended["TrainingJobStatus"], ended["SecondaryStatus"]) == ("Stopped", "MaxRuntimeExceeded")


def test_what_the_service_refuses(aws: StandIn) -> None:
    sagemaker = client(aws, "sagemaker")
    job(aws, "once", "")
    with pytest.raises(sagemaker.exceptions.ResourceInUse):
        job(aws, "once", "")
    short = {"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 30}
    with pytest.raises(sagemaker.exceptions.ClientError, match="at least MaxRuntimeInSeconds"):
        job(aws, "spot", "", EnableManagedSpotTraining=True, StoppingCondition=short)
    resources = {"InstanceType": "ml.none.large", "InstanceCount": 1, "VolumeSizeInGB": 30}
    with pytest.raises(sagemaker.exceptions.ClientError, match="Member must satisfy enum value set"):
        job(aws, "typo", "", ResourceConfig=resources)
    with pytest.raises(sagemaker.exceptions.ClientError, match="does not match"):
        job(aws, "role", "", RoleArn="Trainer-which-is-no-arn-at-all")
    aws.sagemaker.quotas["ml.g5.2xlarge for training job usage"] = 0
    with pytest.raises(sagemaker.exceptions.ResourceLimitExceeded):
        job(aws, "many", "")
    aws.sagemaker.quotas.clear()


INFERENCE = """
def model_fn(model_dir): return open(model_dir + "/weights").read()
def input_fn(data, content_type): return data
def predict_fn(data, model):
    if "bad" in data: raise ValueError("bad input")
    return f"{model}: {data}"
def output_fn(prediction, accept): return prediction
"""


def model(aws: StandIn, name: str, inference: str, image: str = "plain:1") -> None:
    """A model and its endpoint configuration, both of that name. Plain images import no toolkit (see serve.py)."""
    put(aws, f"{name}/code/inference.py", inference)
    put(aws, f"{name}/weights", "w")
    source = {"S3Uri": f"s3://{aws.bucket}/{name}/", "S3DataType": "S3Prefix", "CompressionType": "None"}
    container_ = {"Image": image, "ModelDataSource": {"S3DataSource": source}}
    sagemaker = client(aws, "sagemaker")
    sagemaker.create_model(ModelName=name, ExecutionRoleArn=aws.role_arn, PrimaryContainer=container_)
    of = {"VariantName": "AllTraffic", "ModelName": name, "InitialInstanceCount": 1, "InstanceType": "ml.g5.xlarge"}
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[of])


def in_service(aws: StandIn, endpoint: str) -> dict[str, Any]:
    sagemaker = client(aws, "sagemaker")
    while (there := sagemaker.describe_endpoint(EndpointName=endpoint))["EndpointStatus"] in ("Creating", "Updating"):
        time.sleep(0.1)
    assert there["EndpointStatus"] == "InService"
    return dict(there)


def ask(aws: StandIn, endpoint: str, body: bytes) -> bytes:
    runtime = client(aws, "sagemaker-runtime")
    answer = runtime.invoke_endpoint(EndpointName=endpoint, ContentType="application/json", Body=body)
    return bytes(answer["Body"].read())


def refused(aws: StandIn, endpoint: str, body: bytes) -> tuple[int, str]:
    """Status and message of the container's error."""
    from botocore.exceptions import ClientError

    with pytest.raises(ClientError) as error:
        ask(aws, endpoint, body)
    assert error.value.response["Error"]["Code"] == "ModelError"
    return error.value.response["OriginalStatusCode"], error.value.response["OriginalMessage"]


@pytest.mark.usefixtures("forked")
def test_an_endpoint_serves_through_the_toolkits_handler(aws: StandIn) -> None:
    model(aws, "m", INFERENCE, "image:1")
    sagemaker = client(aws, "sagemaker")
    sagemaker.create_endpoint(EndpointName="e", EndpointConfigName="m")
    with pytest.raises(sagemaker.exceptions.ClientError, match="Cannot update in-progress endpoint"):
        sagemaker.delete_endpoint(EndpointName="e")
    in_service(aws, "e")
    assert ask(aws, "e", b'"hi"') == b'w: "hi"'
    status, said = refused(aws, "e", b'"bad"')
    assert (status, json.loads(said)["message"][:9]) == (400, "bad input")
    with pytest.raises(sagemaker.exceptions.ClientError, match="an endpoint uses it"):
        sagemaker.delete_endpoint_config(EndpointConfigName="m")
    sagemaker.delete_endpoint(EndpointName="e")


@pytest.mark.usefixtures("forked")
def test_a_model_that_cannot_be_loaded_is_in_service_and_answers_400(aws: StandIn) -> None:
    model(aws, "broken", "def model_fn(model_dir): raise RuntimeError('no such layer')", "image:1")
    client(aws, "sagemaker").create_endpoint(EndpointName="broken", EndpointConfigName="broken")
    in_service(aws, "broken")
    for _ in range(2):
        status, said = refused(aws, "broken", b'"hi"')
        assert (status, "no such layer" in said) == (400, True)


def test_an_endpoint_is_in_service_before_its_model_is_loaded(aws: StandIn) -> None:
    waits = "\n    import os, time\n    while not os.path.exists(model_dir + '/go'): time.sleep(0.05)\n    return open"
    model(aws, "slow", INFERENCE.replace(" return open", waits, 1))
    client(aws, "sagemaker").create_endpoint(EndpointName="slow", EndpointConfigName="slow")
    in_service(aws, "slow")
    aws.sagemaker.answer_seconds = 0.2
    status, said = refused(aws, "slow", b'"hi"')
    assert (status, "timed out" in said) == (0, True)
    aws.sagemaker.answer_seconds = 60
    (aws.sagemaker.endpoints["slow"].server.root / "ml" / "model" / "go").touch()  # type: ignore[union-attr]
    assert ask(aws, "slow", b'"hi"') == b'w: "hi"'


def test_an_update_resets_the_number_of_instances_unless_told_otherwise(aws: StandIn) -> None:
    for name in ("one", "two"):
        model(aws, name, INFERENCE)
    sagemaker = client(aws, "sagemaker")
    sagemaker.create_endpoint(EndpointName="grown", EndpointConfigName="one")
    in_service(aws, "grown")
    for keep, size in ((True, 3), (False, 1)):
        aws.sagemaker.endpoints["grown"].description["ProductionVariants"][0]["CurrentInstanceCount"] = 3
        sagemaker.update_endpoint(EndpointName="grown", EndpointConfigName="two", RetainAllVariantProperties=keep)
        assert in_service(aws, "grown")["ProductionVariants"][0]["CurrentInstanceCount"] == size


@pytest.mark.parametrize(("kind", "created"), [("throttle", False), ("error", False), ("reset", False), ("lost", True)])
def test_faults(aws: StandIn, kind: str, created: bool) -> None:
    from botocore.exceptions import BotoCoreError, ClientError

    aws.faults.append(Fault("s3 PUT", kind, times=1))
    with pytest.raises((BotoCoreError, ClientError)):
        client(aws, "s3").put_object(Bucket=aws.bucket, Key=f"fault-{kind}", Body=b"1")
    aws.faults.clear()
    there = aws.aws.client("s3").list_objects_v2(Bucket=aws.bucket, Prefix=f"fault-{kind}")["KeyCount"]
    assert bool(there) == created
