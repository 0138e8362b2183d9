"""The requests that make an endpoint, to the letter, and by the service's own rules."""

import json
from dataclasses import replace
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from lorasum import __version__
from lorasum.backends.completions import from_completion, to_completion
from lorasum.backends.records import EndpointSpec
from lorasum.backends.sagemaker.endpoint_requests import (
    Served,
    adapter_environment,
    adapter_flags,
    endpoint_config_request,
    endpoint_request,
    gpu_environment,
    model_request,
    part_name,
    scaling_requests,
    update_request,
)
from lorasum.backends.sagemaker.layout import Place, S3Layout
from lorasum.config.sagemaker import SageMakerConfig
from lorasum.shared.names import HUB_CACHE

ROLE = "arn:aws:iam::123456789012:role/Trainer"
PLACE = Place(S3Layout("box", "lorasum", "chats"), ROLE, "763104351884.dkr.ecr.eu-west-1.amazonaws.com/inference:1")
MERGED = Served("s3://box/lorasum/chats/jobs/chats-1/output/model/", 14_000_000_000)
ADAPTER = Served(f"{MERGED.uri}adapter/", 14_000_000_000, base="s3://box/lorasum/chats/models/ba5e/")
TAGS = [{"Key": "lorasum:run", "Value": "chats"}, {"Key": "lorasum:version", "Value": __version__}]


def check(service: str, operation: str, made: dict[str, Any]) -> None:
    from botocore.session import Session
    from botocore.validate import ParamValidator

    shape = Session().get_service_model(service).operation_model(operation).input_shape
    assert ParamValidator().validate(made, shape).generate_report() == ""


def config(**values: Any) -> SageMakerConfig:
    return SageMakerConfig.model_validate(values)


def model(served: Served = MERGED, **values: Any) -> dict[str, Any]:
    made = model_request("chats-01234567", served, PLACE, config(**values))
    check("sagemaker", "CreateModel", made)
    return made


def configuration(served: Served = MERGED, **values: Any) -> dict[str, Any]:
    made = endpoint_config_request("chats-01234567", served, PLACE, config(**values))
    check("sagemaker", "CreateEndpointConfig", made)
    return made


def source(uri: str) -> dict[str, Any]:
    return {"S3DataSource": {"S3Uri": uri, "S3DataType": "S3Prefix", "CompressionType": "None"}}


def test_all_three_requests() -> None:
    assert model() == {
        "ModelName": "chats-01234567",
        "ExecutionRoleArn": ROLE,
        "PrimaryContainer": {
            "Image": PLACE.image,
            "ModelDataSource": source(MERGED.uri),
            "Environment": {
                "HF_HOME": "/tmp/huggingface",
                "LORASUM_EXPECT_GPU": "1",
                "DO_NOT_TRACK": "1",
                "PIP_COMPILE": "0",
                "SAGEMAKER_PROGRAM": "inference.py",
                "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code",
                "SAGEMAKER_MODEL_SERVER_TIMEOUT": "60",
                "SAGEMAKER_MODEL_SERVER_WORKERS": "1",
            },
        },
        "EnableNetworkIsolation": False,
        "Tags": TAGS,
    }
    assert configuration() == {
        "EndpointConfigName": "chats-01234567",
        "ProductionVariants": [
            {
                "VariantName": "AllTraffic",
                "ModelName": "chats-01234567",
                "InitialInstanceCount": 1,
                "InstanceType": "ml.g5.4xlarge",
                "ModelDataDownloadTimeoutInSeconds": 580,
                "ContainerStartupHealthCheckTimeoutInSeconds": 440,
            }
        ],
        "Tags": TAGS,
    }
    made = endpoint_request("chats", "chats-01234567", PLACE, config())
    check("sagemaker", "CreateEndpoint", made)
    assert made == {"EndpointName": "chats", "EndpointConfigName": "chats-01234567", "Tags": TAGS}


def test_what_has_no_known_size_has_half_an_hour_to_come_and_start() -> None:
    def seconds(served: Served, **values: Any) -> tuple[int, int]:
        [variant] = configuration(served, **values)["ProductionVariants"]
        return variant["ModelDataDownloadTimeoutInSeconds"], variant["ContainerStartupHealthCheckTimeoutInSeconds"]

    assert seconds(Served(ADAPTER.uri, 9_000_000, from_hub=True)) == (1800, 1800)
    assert seconds(MERGED, engine="vllm") == (1800, 1800)
    assert seconds(Served(MERGED.uri, 1_000_000_000_000)) == (3600, 3600), "more than the service takes"


def test_an_alarm_watches_an_update_and_undoes_it() -> None:
    assert "DeploymentConfig" not in update_request("chats", "chats-01234567", config())
    made = update_request("chats", "chats-01234567", config(rollback_alarm="slow"))
    check("sagemaker", "UpdateEndpoint", made)
    deployment = made["DeploymentConfig"]
    assert deployment["AutoRollbackConfiguration"] == {"Alarms": [{"AlarmName": "slow"}]}
    watched = deployment["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]["WaitIntervalInSeconds"]
    assert deployment["BlueGreenUpdatePolicy"]["TerminationWaitInSeconds"] >= watched > 0, "while the old ones are kept"


def test_an_adapter_brings_its_base_model() -> None:
    container = model(ADAPTER)["PrimaryContainer"]
    assert container["ModelDataSource"] == source(ADAPTER.uri)
    assert container["AdditionalModelDataSources"] == [{"ChannelName": "base", **source(str(ADAPTER.base))}]
    assert container["Environment"]["LORASUM_BASE_MODEL"] == "/opt/ml/additional-model-data-sources/base"


def test_vllm_gets_its_own_environment_and_system() -> None:
    made = model(engine="vllm")["PrimaryContainer"]
    assert made["Environment"] == {"SM_VLLM_MODEL": "/opt/ml/model", "HF_ENABLE_LMCACHE": "0", "DO_NOT_TRACK": "1"}
    [variant] = configuration(engine="vllm")["ProductionVariants"]
    assert variant["InferenceAmiVersion"] == "al2023-ami-sagemaker-inference-gpu-4-1"


def test_vllm_is_told_of_all_adapters_by_a_file_of_flags() -> None:
    """A variable of the image has one value, and the flag wants one for each adapter."""
    environment = adapter_environment(2, rank=12, on_disk=True)
    other = "s3://box/lorasum/other-run/jobs/other-run-1/output/model/adapter/"
    flags = "s3://box/lorasum/chats/code/0123/"
    served = Served(ADAPTER.uri, 1, environment, base=ADAPTER.base, flags=flags, adapters={"other-run": other})
    made = model(served, engine="vllm")["PrimaryContainer"]
    assert made["AdditionalModelDataSources"] == [
        {"ChannelName": "base", **source(str(ADAPTER.base))},
        {"ChannelName": "flags", **source(flags)},
        {"ChannelName": "adapter-other-run", **source(other)},
    ]
    more = "/opt/ml/additional-model-data-sources"
    assert list(map(json.loads, yaml.safe_load(adapter_flags("chats", ["other-run"]))["lora-modules"])) == [
        {"name": "chats", "path": "/opt/ml/model"},
        {"name": "other-run", "path": f"{more}/adapter-other-run"},
    ]
    assert made["Environment"] == {
        "HF_ENABLE_LMCACHE": "0",
        "DO_NOT_TRACK": "1",
        "SM_VLLM_CONFIG": f"{more}/flags/vllm.yaml",
        "SM_VLLM_MODEL": f"{more}/base",
        "SM_VLLM_ENABLE_LORA": "",
        "SM_VLLM_MAX_LORAS": "2",
        "SM_VLLM_MAX_LORA_RANK": "16",
        "SM_VLLM_GENERATION_CONFIG": "vllm",
        "CUSTOM_FASTAPI_INVOCATION_HANDLER": "vllm.entrypoints.openai.completion.api_router:create_completion",
    }
    named = {"inputs": ["a"], "parameters": {"max_new_tokens": 8, "adapter": "other-run"}}
    assert to_completion(named) == {"prompt": ["a"], "max_tokens": 8, "model": "other-run"}


def test_vllm_is_told_among_how_many_gpus_and_for_which_context() -> None:
    spec = EndpointSpec("chats", "chats", MERGED.uri)
    assert gpu_environment(spec) == {}, "the names of what runs stay"
    assert gpu_environment(replace(spec, gpus=4, shortens_context=True)) == {
        "SM_VLLM_TENSOR_PARALLEL_SIZE": "4",
        "SM_VLLM_MAX_MODEL_LEN": "auto",
    }


def test_capture_scaling_and_waiting_are_off_unless_asked_for() -> None:
    assert configuration(capture_percent=20, kms_key="key")["DataCaptureConfig"] == {
        "EnableCapture": True,
        "InitialSamplingPercentage": 20,
        "DestinationS3Uri": "s3://box/lorasum/chats/capture",
        "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
        "CaptureContentTypeHeader": {"JsonContentTypes": ["application/json"]},
        "KmsKeyId": "key",
    }
    target, policy = scaling_requests("chats", config(max_instances=3, requests_per_minute=40))
    check("application-autoscaling", "RegisterScalableTarget", target)
    check("application-autoscaling", "PutScalingPolicy", policy)
    resource = {
        "ServiceNamespace": "sagemaker",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
        "ResourceId": "endpoint/chats/variant/AllTraffic",
    }
    assert target == resource | {"MinCapacity": 1, "MaxCapacity": 3}
    assert policy == resource | {
        "PolicyName": "lorasum",
        "PolicyType": "TargetTrackingScaling",
        "TargetTrackingScalingPolicyConfiguration": {
            "TargetValue": 40.0,
            "PredefinedMetricSpecification": {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"},
        },
    }


def test_a_part_is_named_by_all_that_is_in_it() -> None:
    def name(served: Served = MERGED, **values: Any) -> str:
        return part_name("chats", served, PLACE, config(**values))

    different = [name(), name(ADAPTER), name(engine="vllm"), name(capture_percent=1), name(tags={"team": "chat"})]
    different += [name(endpoint_instance_type="ml.g5.xlarge"), name(network_isolation=True)]
    assert len(set(different)) == len(different)
    assert name(training_instance_type="ml.g5.xlarge", max_instances=2) == name()  # neither is in them


def test_vllm_is_asked_and_understood_in_openais_words() -> None:
    ours = {"inputs": ["a", "b"], "parameters": {"max_new_tokens": 8, "temperature": 0.5}}
    assert to_completion(ours) == {"prompt": ["a", "b"], "max_tokens": 8, "temperature": 0.5}
    theirs = {"choices": [{"index": 1, "text": " two"}, {"index": 0, "text": " one"}]}
    assert from_completion(theirs, to_completion(ours)) == [{"generated_text": " one"}, {"generated_text": " two"}]


def test_environment_disk_and_system_are_the_configs() -> None:
    made = model(environment={"HF_ENDPOINT": "https://hub.example.com", "HF_HOME": "/elsewhere"})
    environment = made["PrimaryContainer"]["Environment"]
    assert environment["HF_ENDPOINT"] == "https://hub.example.com"
    assert environment["HF_HOME"] == HUB_CACHE, "large files belong on the volume, whatever the config says"
    system = "al2-ami-sagemaker-inference-gpu-3-1"
    [variant] = configuration(endpoint_volume_gb=200, inference_ami_version=system)["ProductionVariants"]
    assert (variant["VolumeSizeInGB"], variant["InferenceAmiVersion"]) == (200, system)
    with pytest.raises(ValidationError, match="LORASUM_BASE_MODEL is set by lorasum"):
        config(environment={"LORASUM_BASE_MODEL": "other/model"})
