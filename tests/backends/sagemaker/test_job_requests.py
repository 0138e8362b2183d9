"""The CreateTrainingJob request, to the letter, and by the service's own rules."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lorasum import __version__
from lorasum.backends.records import TrainSpec
from lorasum.backends.sagemaker.job_requests import training_request
from lorasum.backends.sagemaker.layout import Place, S3Layout
from lorasum.config.sagemaker import SageMakerConfig
from lorasum.models.source import ModelRef
from lorasum.shared.events import EvalEvent, event_line

ROLE = "arn:aws:iam::123456789012:role/Trainer"
PLACE = Place(S3Layout("box", "lorasum", "chats"), ROLE, "763104351884.dkr.ecr.eu-west-1.amazonaws.com/training:1")
SPEC = TrainSpec("chats", "chats-0123abcd", ModelRef("org/m"), Path("/d/f00"), {"model_id": "org/m", "epochs": "3"})
DATA, CODE = "s3://box/lorasum/chats/data/f00/", "s3://box/lorasum/chats/code/c0de/"


def request(model: str | None = None, **config: Any) -> dict[str, Any]:
    channels = {"training": DATA, "code": CODE} | ({"model": model} if model else {})
    made = training_request(SPEC, SPEC.job_name, PLACE, SageMakerConfig.model_validate(config), channels)
    _check(made)
    return made


def _check(made: dict[str, Any]) -> None:
    from botocore.session import Session
    from botocore.validate import ParamValidator

    shape = Session().get_service_model("sagemaker").operation_model("CreateTrainingJob").input_shape
    assert ParamValidator().validate(made, shape).generate_report() == ""


def channel(name: str, uri: str) -> dict[str, Any]:
    source = {"S3DataType": "S3Prefix", "S3Uri": uri, "S3DataDistributionType": "FullyReplicated"}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}, "InputMode": "File"}


def test_the_whole_request() -> None:
    made = request()
    assert [metric["Name"] for metric in made["AlgorithmSpecification"].pop("MetricDefinitions")] == [
        "train:loss",
        "train:tokens_per_second",
        "eval:loss",
        "eval:score",
    ]
    assert made == {
        "TrainingJobName": "chats-0123abcd",
        "RoleArn": ROLE,
        "AlgorithmSpecification": {
            "TrainingImage": PLACE.image,
            "TrainingInputMode": "File",
            "ContainerEntrypoint": ["python3", "/opt/ml/input/data/code/start.py"],
            "EnableSageMakerMetricsTimeSeries": False,
        },
        "HyperParameters": {"model_id": "org/m", "epochs": "3", "checkpoint_dir": "/opt/ml/checkpoints"},
        "InputDataConfig": [channel("training", DATA), channel("code", CODE)],
        "OutputDataConfig": {"S3OutputPath": "s3://box/lorasum/chats/jobs", "CompressionType": "NONE"},
        "CheckpointConfig": {
            "S3Uri": "s3://box/lorasum/chats/checkpoints/chats-0123abcd/",
            "LocalPath": "/opt/ml/checkpoints",
        },
        "ResourceConfig": {"InstanceType": "ml.g5.2xlarge", "InstanceCount": 1, "VolumeSizeInGB": 300},
        "StoppingCondition": {"MaxRuntimeInSeconds": 86400},
        "EnableManagedSpotTraining": False,
        "EnableNetworkIsolation": False,
        "Environment": {"LORASUM_EXPECT_GPU": "1"},
        "Tags": [{"Key": "lorasum:run", "Value": "chats"}, {"Key": "lorasum:version", "Value": __version__}],
    }


@pytest.mark.parametrize(
    ("types", "volume"),
    [
        (["ml.g4dn.xlarge"], 125),
        (["ml.g5.2xlarge", "ml.g5.xlarge"], 250),
        (["ml.p3.2xlarge"], 300),
        (["ml.x9.xlarge"], 300),
    ],
)
def test_a_volume_is_no_larger_than_the_instances_own_disk(types: list[str], volume: int) -> None:
    """SageMaker refuses a larger one, with an empty message."""
    first, *others = types
    config = SageMakerConfig.model_construct(training_instance_type=first, training_instance_alternatives=others)
    made = training_request(SPEC, SPEC.job_name, PLACE, config, {"training": DATA, "code": CODE})
    assert made["ResourceConfig"]["VolumeSizeInGB"] == volume


def test_the_base_models_summaries_end_before_the_jobs_time_does() -> None:
    spec = replace(SPEC, base_seconds=600, max_seconds=3600)
    made = training_request(spec, SPEC.job_name, PLACE, SageMakerConfig(), {"training": DATA, "code": CODE})
    _check(made)
    assert made["Environment"] == {
        "LORASUM_EXPECT_GPU": "1",
        "LORASUM_BASE_SECONDS": "600",
        "LORASUM_MAX_SECONDS": "3600",
    }


def test_a_job_that_goes_on_from_anothers_steps_is_told_so() -> None:
    spec = replace(SPEC, checkpoints="chats-4567cdef")
    made = training_request(spec, SPEC.job_name, PLACE, SageMakerConfig(), {"training": DATA, "code": CODE})
    assert made["CheckpointConfig"]["S3Uri"] == "s3://box/lorasum/chats/checkpoints/chats-4567cdef/"
    assert made["Environment"] == {"LORASUM_EXPECT_GPU": "1", "LORASUM_STEPS_DONE": "1"}


def test_a_job_that_is_to_merge_nothing_is_told_so() -> None:
    made = training_request(replace(SPEC, adapter_only=True), SPEC.job_name, PLACE, SageMakerConfig(), {"code": CODE})
    assert made["Environment"] == {"LORASUM_EXPECT_GPU": "1", "LORASUM_ADAPTER_ONLY": "1"}


def test_trackers_are_told_by_variables_and_a_folder_in_s3() -> None:
    secret = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:keys-AbCdEf"
    spec, config = replace(SPEC, report_to=("tensorboard", "wandb")), SageMakerConfig(tracker_secret=secret)
    made = training_request(spec, SPEC.job_name, PLACE, config, {"code": CODE})
    _check(made)
    assert made["TensorBoardOutputConfig"] == {
        "LocalPath": "/opt/ml/output/tensorboard",
        "S3OutputPath": "s3://box/lorasum/chats/jobs",
    }
    assert made["Environment"] == {
        "LORASUM_EXPECT_GPU": "1",
        "LORASUM_REPORT_TO": "tensorboard,wandb",
        "LORASUM_TRACKER_KEYS_ARN": secret,
    }
    assert "LORASUM_TRACKER_KEYS_ARN" not in request(tracker_secret=secret)["Environment"], "nobody needs them"


@pytest.mark.parametrize(("limit", "seconds"), [(None, 7200), (3600, 3600), (9000, 7200)])
def test_a_job_has_the_shorter_of_two_limits(limit: int | None, seconds: int) -> None:
    config = SageMakerConfig(max_runtime_hours=2, spot=True)
    made = training_request(replace(SPEC, max_seconds=limit), SPEC.job_name, PLACE, config, {"code": CODE})
    _check(made)
    assert made["StoppingCondition"] == {"MaxRuntimeInSeconds": seconds, "MaxWaitTimeInSeconds": 14400}


def test_settings_of_the_config_become_parts_of_the_request() -> None:
    uri = "s3://box/lorasum/chats/models/m0de1/"
    secret = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:hub-AbCdEf"
    made = request(
        uri, spot=True, max_runtime_hours=2, kms_key="key", subnets=["subnet-1"], security_groups=["sg-1"],
        hub_token_secret=secret, tags={"team": "chat"},
    )  # fmt: skip
    assert made["InputDataConfig"][2] == channel("model", uri)
    assert made["StoppingCondition"] == {"MaxRuntimeInSeconds": 7200, "MaxWaitTimeInSeconds": 14400}
    assert made["EnableManagedSpotTraining"]
    assert made["OutputDataConfig"]["KmsKeyId"] == "key"
    assert made["VpcConfig"] == {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}
    assert made["Environment"] == {"LORASUM_EXPECT_GPU": "1", "LORASUM_HUB_TOKEN_ARN": secret}
    assert {"Key": "team", "Value": "chat"} in made["Tags"]
    assert request(environment={"PIP_INDEX_URL": "https://pip"})["Environment"]["PIP_INDEX_URL"] == "https://pip"
    assert request(keep_alive_minutes=10)["ResourceConfig"]["KeepAlivePeriodInSeconds"] == 600
    batch = replace(SPEC, artifact="s3://box/m/")
    kept = training_request(batch, "chats-rows-1", PLACE, SageMakerConfig(keep_alive_minutes=10), {})["ResourceConfig"]
    assert "KeepAlivePeriodInSeconds" not in kept, "no other batch follows at once"
    assert request(instance_count=2)["ResourceConfig"]["InstanceCount"] == 2


def test_an_isolated_container_is_told_that_it_has_no_network() -> None:
    isolated = request(network_isolation=True)
    assert isolated["Environment"] == {"LORASUM_EXPECT_GPU": "1", "LORASUM_NO_NETWORK": "1"}


@pytest.mark.parametrize(
    ("metric", "line", "value"),
    [
        ("train:loss", '{"event": "step", "step": 3, "loss": 1.25e-1, "tokens_per_second": 812.5}', "1.25e-1"),
        ("train:tokens_per_second", '{"event": "step", "loss": 1.25, "tokens_per_second": 812.5}', "812.5"),
        ("eval:loss", '{"event": "eval", "step": 9, "eval_loss": 2.5}', "2.5"),
        ("train:loss", '{"event": "eval", "step": 9, "eval_loss": 2.5}', None),
        ("eval:score", event_line(EvalEvent(9, 2.5, 31.25, "rougeL", 4.0)), "31.25"),
        ("eval:score", event_line(EvalEvent(9, 2.5)), None),
    ],
)
def test_metric_definitions_read_the_scripts_own_lines(metric: str, line: str, value: str | None) -> None:
    import re

    [regex] = [d["Regex"] for d in request()["AlgorithmSpecification"]["MetricDefinitions"] if d["Name"] == metric]
    found = re.search(regex, line)
    assert (found.group(1) if found else None) == value
