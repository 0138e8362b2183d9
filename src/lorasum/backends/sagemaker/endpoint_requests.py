"""The requests that make an endpoint: model, endpoint configuration, endpoint, autoscaling. Pure functions."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lorasum.backends.records import EndpointSpec
from lorasum.backends.sagemaker.job_requests import tags, vpc
from lorasum.backends.sagemaker.layout import Folder, Place
from lorasum.config.sagemaker import SageMakerConfig
from lorasum.shared.names import BASE_MODEL, EXPECT_GPU, HUB_CACHE

VARIANT = "AllTraffic"
TAG_START = "lorasum:start"
"""The tag of an endpoint with the mark of the start that made it."""
_MORE = "/opt/ml/additional-model-data-sources"
BASE_FOLDER = f"{_MORE}/base"
"""Where a container finds `Served.base`."""
WHEELS_FOLDER = f"{_MORE}/wheels"
"""Where a container finds `Served.wheels`."""
FLAGS_FILE = "vllm.yaml"
"""The file in `Served.flags`."""
MOST_SOURCES = 5
"""Folders in S3 that a container gets beside that of the model."""
_MODEL = "/opt/ml/model"
INVOCATIONS = "CUSTOM_FASTAPI_INVOCATION_HANDLER"
"""The variable that names what answers /invocations in vLLM's image (package model-hosting-container-standards)."""
_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Those that vLLM can be told to hold at most."""
_SHORTEST, _LONGEST = 60, 3600  # seconds that SageMaker takes for either timeout
_UNKNOWN = 1800  # seconds for a download or a start whose size is not known
_DOWNLOAD_RATE, _LOAD_RATE = 50e6, 100e6  # bytes a second: a slow instance
_WATCHED = 300  # seconds that the alarm is watched while the old instances are kept
_SLACK = 300  # seconds: pulling the image's last layers, installing the pins, starting Python
_ANSWER = 60  # seconds: the service's limit for one request
_VLLM_SYSTEM = "al2023-ami-sagemaker-inference-gpu-4-1"  # its driver runs the images' CUDA 13; the default's does not
_NO_TELEMETRY = {"DO_NOT_TRACK": "1"}  # vLLM would report the model's architecture and the GPU
# The image's server calls pip. PIP_COMPILE=0 is its --no-compile; PIP_NO_COMPILE=1 would have it compile.
_ADDED = {"HF_HOME": HUB_CACHE, EXPECT_GPU: "1", "PIP_COMPILE": "0", **_NO_TELEMETRY}
# LMCache's copies of keys and values do not tell one adapter's from another's.
_VLLM_ADDED = {"HF_ENABLE_LMCACHE": "0", **_NO_TELEMETRY}
"""Variables that are left out of the hash: an endpoint that runs without them is not replaced."""
_SCALABLE = {
    "ServiceNamespace": "sagemaker",
    "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
}


@dataclass(frozen=True, slots=True)
class Served:
    """What an endpoint serves.

    Attributes:
        uri: S3 folder of the uncompressed model or adapter, with code/inference.py in it; ends in a slash.
        bytes: size of everything below `uri` and `base`.
        environment: variables of the container, added to those that its image needs.
        base: S3 folder of the base model of an adapter; None if the container downloads it or there is none.
        wheels: S3 folder of the packages that the container installs; None if it downloads them.
        flags: S3 folder of a file with flags of vLLM; None if its variables hold all.
        from_hub: whether the container downloads a model from the hub, of unknown size.
        adapters: S3 folders of the adapters that requests can name beside that of `uri`, by name.
    """

    uri: str
    bytes: int
    environment: Mapping[str, str] = field(default_factory=dict)
    base: str | None = None
    wheels: str | None = None
    flags: str | None = None
    from_hub: bool = False
    adapters: Mapping[str, str] = field(default_factory=dict)

    @property
    def more(self) -> dict[str, str]:
        """The S3 folders that the container gets beside `uri`, by the name of the source."""
        brought = {"base": self.base, "wheels": self.wheels, "flags": self.flags}
        brought |= {channel(name): uri for name, uri in self.adapters.items()}
        return {name: uri for name, uri in brought.items() if uri}


def adapter_flags(own: str, others: Sequence[str]) -> str:
    """The file that tells vLLM of adapters by their names. Its image makes a flag with one value of a variable.

    Args:
        own: name of the adapter whose folder is the model's.
    """
    folders = {own: _MODEL} | {name: f"{_MORE}/{channel(name)}" for name in others}
    modules = [json.dumps({"name": name, "path": folder}) for name, folder in folders.items()]
    return json.dumps({"lora-modules": modules})  # which is YAML too


def adapter_environment(adapters: int, rank: int, on_disk: bool) -> dict[str, str]:
    """The variables with which vLLM serves adapters by name, beside the flags of a file.

    vLLM would sample as the base's generation_config.json says, so it is told to go by the request alone. Its own
    /invocations takes the adapter from a header that only inference components set, deletes `model` from the request
    and so answers as the base model: its completions, which keep `model`, take the place of that.

    Args:
        adapters: how many.
        rank: of the adapter with the largest.
        on_disk: whether the base model is in `BASE_FOLDER`.
    """
    return ({"SM_VLLM_MODEL": BASE_FOLDER} if on_disk else {}) | {
        "SM_VLLM_CONFIG": f"{_MORE}/flags/{FLAGS_FILE}",
        "SM_VLLM_ENABLE_LORA": "",
        "SM_VLLM_MAX_LORAS": str(adapters),
        "SM_VLLM_MAX_LORA_RANK": str(next((allowed for allowed in _RANKS if allowed >= rank), rank)),
        "SM_VLLM_GENERATION_CONFIG": "vllm",
        INVOCATIONS: "vllm.entrypoints.openai.completion.api_router:create_completion",
    }


def gpu_environment(spec: EndpointSpec) -> dict[str, str]:
    """The variables with which vLLM divides a model among GPUs, and takes the longest context that has room."""
    divided = {"SM_VLLM_TENSOR_PARALLEL_SIZE": str(spec.gpus)} if spec.gpus > 1 else {}
    return divided | ({"SM_VLLM_MAX_MODEL_LEN": "auto"} if spec.shortens_context else {})


def channel(adapter: str) -> str:
    """The name of the source that brings an adapter."""
    return f"adapter-{adapter}"


def part_name(endpoint: str, served: Served, place: Place, config: SageMakerConfig) -> str:
    """Name of an endpoint's model and configuration: the endpoint's name and a hash of all that is in them."""
    requests = {**model_request("", served, place, config), **endpoint_config_request("", served, place, config)}
    environment: dict[str, str] = requests["PrimaryContainer"]["Environment"]
    requests["PrimaryContainer"]["Environment"] = dict(environment.items() - (_ADDED | _VLLM_ADDED).items())
    decides = requests | {"Tags": config.tags}  # without the tag of lorasum's version: an upgrade replaces no endpoint
    return f"{endpoint}-{hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:8]}"


def model_request(name: str, served: Served, place: Place, config: SageMakerConfig) -> dict[str, Any]:
    """The arguments of create_model."""
    engine = {
        "huggingface": {
            "SAGEMAKER_PROGRAM": "inference.py",
            "SAGEMAKER_SUBMIT_DIRECTORY": f"{_MODEL}/code",
            "SAGEMAKER_MODEL_SERVER_TIMEOUT": str(_ANSWER),
            "SAGEMAKER_MODEL_SERVER_WORKERS": "1",  # one GPU holds the model once
            **_ADDED,
        },
        "vllm": {"SM_VLLM_MODEL": _MODEL, **_VLLM_ADDED},
    }[config.engine]
    container: dict[str, Any] = {
        "Image": place.image,
        "ModelDataSource": _source(served.uri),
        "Environment": {**config.environment, **engine, **served.environment},
    }
    if more := served.more:
        sources = [{"ChannelName": name, **_source(uri)} for name, uri in more.items()]
        container["AdditionalModelDataSources"] = sources
    if served.base and not served.adapters:
        container["Environment"][BASE_MODEL] = BASE_FOLDER
    if served.wheels:  # the image's server calls pip, which reads these
        container["Environment"] |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": WHEELS_FOLDER}
    return {
        "ModelName": name,
        "ExecutionRoleArn": place.role,
        "PrimaryContainer": container,
        "EnableNetworkIsolation": config.network_isolation,
        "Tags": tags(place.run, config.tags),
    } | vpc(config)


def endpoint_config_request(name: str, served: Served, place: Place, config: SageMakerConfig) -> dict[str, Any]:
    """The arguments of create_endpoint_config. The model has the same name; timeouts grow with its size."""
    variant: dict[str, Any] = {
        "VariantName": VARIANT,
        "ModelName": name,
        "InitialInstanceCount": 1,
        **_instances(config),
        "ModelDataDownloadTimeoutInSeconds": _seconds(served, served.bytes / _DOWNLOAD_RATE, config),
        "ContainerStartupHealthCheckTimeoutInSeconds": load_seconds(served, config),
    }
    if system := config.inference_ami_version or (_VLLM_SYSTEM if config.engine == "vllm" else None):
        variant["InferenceAmiVersion"] = system
    if config.endpoint_volume_gb:
        variant["VolumeSizeInGB"] = config.endpoint_volume_gb
    request: dict[str, Any] = {
        "EndpointConfigName": name,
        "ProductionVariants": [variant],
        "Tags": tags(place.run, config.tags),
    }
    if config.capture_percent:
        request["DataCaptureConfig"] = {
            "EnableCapture": True,
            "InitialSamplingPercentage": config.capture_percent,
            "DestinationS3Uri": place.layout.uri(Folder.CAPTURE).rstrip("/"),
            "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
            "CaptureContentTypeHeader": {"JsonContentTypes": ["application/json"]},
        } | ({"KmsKeyId": config.kms_key} if config.kms_key else {})
    return request


def _instances(config: SageMakerConfig) -> dict[str, Any]:
    """The instance type, or several of which SageMaker takes the first that is free."""
    if not config.endpoint_instance_alternatives:
        return {"InstanceType": config.endpoint_instance_type}
    types = enumerate(config.endpoint_instance_types, start=1)
    return {"InstancePools": [{"InstanceType": name, "Priority": priority} for priority, name in types]}


def load_seconds(served: Served, config: SageMakerConfig) -> int:
    """Seconds that a container may take to install its pins and to load the model, or to download it from the hub."""
    return _seconds(served, served.bytes / _LOAD_RATE, config)


def endpoint_request(endpoint: str, name: str, place: Place, config: SageMakerConfig, mark: str = "") -> dict[str, Any]:
    """The arguments of create_endpoint; `name` is the configuration's, `mark` the spec's."""
    marked = [{"Key": TAG_START, "Value": mark}] if mark else []
    return {"EndpointName": endpoint, "EndpointConfigName": name, "Tags": tags(place.run, config.tags) + marked}


def update_request(endpoint: str, name: str, config: SageMakerConfig) -> dict[str, Any]:
    """The arguments of update_endpoint. The number of instances stays as autoscaling has set it."""
    request: dict[str, Any] = {
        "EndpointName": endpoint,
        "EndpointConfigName": name,
        "RetainAllVariantProperties": True,
    }
    if config.rollback_alarm:
        request["DeploymentConfig"] = {
            "BlueGreenUpdatePolicy": {
                "TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": _WATCHED},
                "TerminationWaitInSeconds": _WATCHED,
            },
            "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": config.rollback_alarm}]},
        }
    return request


def scalable_target(endpoint: str) -> dict[str, str]:
    """The keys by which Application Auto Scaling knows an endpoint's number of instances."""
    return {**_SCALABLE, "ResourceId": f"endpoint/{endpoint}/variant/{VARIANT}"}


def scaling_requests(endpoint: str, config: SageMakerConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arguments of register_scalable_target and of put_scaling_policy."""
    target = scalable_target(endpoint)
    policy = {
        "TargetValue": float(config.requests_per_minute),
        "PredefinedMetricSpecification": {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"},
    }
    return target | {"MinCapacity": 1, "MaxCapacity": config.max_instances}, target | {
        "PolicyName": "lorasum",
        "PolicyType": "TargetTrackingScaling",
        "TargetTrackingScalingPolicyConfiguration": policy,
    }


def _source(uri: str) -> dict[str, Any]:
    return {"S3DataSource": {"S3Uri": uri, "S3DataType": "S3Prefix", "CompressionType": "None"}}


def _seconds(served: Served, expected: float, config: SageMakerConfig) -> int:
    """A timeout: `expected` and some slack. It is at least half an hour if a size is unknown or vLLM compiles."""
    shortest = _UNKNOWN if served.from_hub or config.engine == "vllm" else _SHORTEST
    return round(min(max(expected + _SLACK, shortest), _LONGEST))


def first_requests(endpoint: str, served: Served, place: Place, config: SageMakerConfig) -> dict[str, Any]:
    """The arguments of each operation that makes a first endpoint, in their order."""
    name = part_name(endpoint, served, place, config)
    requests = {
        "CreateModel": model_request(name, served, place, config),
        "CreateEndpointConfig": endpoint_config_request(name, served, place, config),
        "CreateEndpoint": endpoint_request(endpoint, name, place, config),
    }
    if config.max_instances > 1:
        target, policy = scaling_requests(endpoint, config)
        requests |= {"RegisterScalableTarget": target, "PutScalingPolicy": policy}
    return requests
