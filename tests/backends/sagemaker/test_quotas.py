"""Quotas: what an account may use, less what it uses."""

from typing import Any

import pytest
from memory_backend import RecordingReporter
from stand_in import Fault, StandIn
from world import stub_containers

from lorasum.backends.sagemaker.quotas import check_quota, tell_of_less_growth, tell_of_no_warm_pool
from lorasum.backends.sagemaker.session import Session
from lorasum.config.sagemaker import SageMakerConfig
from lorasum.errors import BackendError
from lorasum.reporting import Silent

G5 = "ml.g5.2xlarge"
SOURCE = {"S3Uri": "s3://models/m/", "S3DataType": "S3Prefix", "CompressionType": "None"}


def start_job(account: StandIn, name: str, instance: str = G5, **more: Any) -> None:
    """A job that stays in progress, as long as nobody looks at what becomes of it."""
    account.sagemaker.call(
        "CreateTrainingJob",
        {
            "TrainingJobName": name,
            "RoleArn": account.role_arn,
            "AlgorithmSpecification": {
                "TrainingImage": "image:1",
                "TrainingInputMode": "File",
                "ContainerEntrypoint": ["sleep", "60"],
            },
            "OutputDataConfig": {"S3OutputPath": f"s3://{account.bucket}/out", "CompressionType": "NONE"},
            "ResourceConfig": {"InstanceType": instance, "InstanceCount": 1, "VolumeSizeInGB": 30},
            "StoppingCondition": {"MaxRuntimeInSeconds": 60},
            **more,
        },
    )


def test_a_quota_that_has_its_default_counts(account: StandIn) -> None:
    account.sagemaker.default_quotas["ml.p5.48xlarge for training job usage"] = 0
    with pytest.raises(BackendError, match="is 0, and 1 is needed") as error:
        check_quota(Session(SageMakerConfig()), "ml.p5.48xlarge", "training job")
    assert "--desired-value 1" in error.value.hint


def test_what_is_in_use_counts(account: StandIn) -> None:
    session = Session(SageMakerConfig())
    account.sagemaker.quotas[f"{G5} for training job usage"] = 1
    start_job(account, "other-type", "ml.g5.4xlarge")
    start_job(account, "spot", EnableManagedSpotTraining=True,
              StoppingCondition={"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 60})  # fmt: skip
    check_quota(session, G5, "training job")
    start_job(account, "same")
    with pytest.raises(BackendError, match="is 1, 1 of them in use, and 1 is needed") as error:
        check_quota(session, G5, "training job")
    assert "--desired-value 2" in error.value.hint
    assert "wait" in error.value.hint


@pytest.mark.parametrize("fault", ["servicequotas", "ListTrainingJobs", "DescribeTrainingJob"])
def test_where_we_may_not_ask_the_service_decides(account: StandIn, fault: str) -> None:
    account.sagemaker.quotas[f"{G5} for training job usage"] = 1
    start_job(account, "same")
    account.faults = [Fault(fault, "denied")]
    check_quota(Session(SageMakerConfig()), G5, "training job")


def test_endpoints_of_others_that_lack_something_are_no_fault(
    account: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SageMaker shows no variants of an endpoint that is created or has failed. It was an unexpected KeyError."""
    stub_containers(monkeypatch.setattr)
    account.sagemaker.quotas[f"{G5} for endpoint usage"] = 2
    container = {"Image": "image:1", "ModelDataSource": {"S3DataSource": SOURCE}}
    account.sagemaker.call(
        "CreateModel", {"ModelName": "m", "ExecutionRoleArn": account.role_arn, "PrimaryContainer": container}
    )
    for name in ("without-configuration", "created"):
        variant = {"VariantName": "all", "ModelName": "m", "InstanceType": G5, "InitialInstanceCount": 2}
        account.sagemaker.call("CreateEndpointConfig", {"EndpointConfigName": name, "ProductionVariants": [variant]})
        account.sagemaker.call("CreateEndpoint", {"EndpointName": name, "EndpointConfigName": name})
        account.sagemaker.endpoints[name].description.pop("ProductionVariants", None)
    del account.sagemaker.configs["without-configuration"]
    with pytest.raises(BackendError, match="is 2, 2 of them in use, and 1 is needed"):
        check_quota(Session(SageMakerConfig()), G5, "endpoint")


def test_an_endpoint_that_cannot_grow_as_far_as_it_may_is_told_of(account: StandIn) -> None:
    account.sagemaker.quotas[f"{G5} for endpoint usage"] = 2
    told = RecordingReporter()
    tell_of_less_growth(Session(SageMakerConfig(), told), [G5], 2)
    assert told.warnings == []
    tell_of_less_growth(Session(SageMakerConfig(), told), [G5], 4)
    [warning] = told.warnings
    assert "is 2, and 4 is needed for it to grow to sagemaker.max_instances" in warning
    assert "--desired-value 4" in warning


def test_a_warm_pool_that_nobody_has_is_told_of(account: StandIn) -> None:
    class Warnings(Silent):
        said = ""

        def warn(self, message: str) -> None:
            self.said = message

    told = Warnings()
    session = Session(SageMakerConfig(), told)
    tell_of_no_warm_pool(session, G5)
    assert "no instance will be kept" in told.said
    account.sagemaker.quotas[f"{G5} for training warm pool usage"] = 1
    told.said = ""
    tell_of_no_warm_pool(session, G5)
    assert told.said == ""
