"""The requests that make an endpoint: model, endpoint configuration, endpoint. Pure functions."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from lorasum.backends.sagemaker_requests import Place, tags, vpc
from lorasum.config import SageMakerConfig

_CODE = "/opt/ml/model/code"
_SHORTEST, _LONGEST = 60, 3600  # seconds that SageMaker takes for either timeout
_DOWNLOAD_RATE, _LOAD_RATE = 50e6, 100e6  # bytes a second, on the slow side of what instances do
_SLACK = 300  # seconds: pulling the image's last layers, installing the pins, starting Python
_ANSWER = 60  # seconds: the service gives a container no more


def part_name(endpoint: str, uri: str, environment: Mapping[str, str], place: Place, config: SageMakerConfig) -> str:
    """Name of an endpoint's model and configuration: another one whenever anything in them is another."""
    inside = [uri, dict(environment), place.image, place.role, vpc(config), config.network_isolation, config.tags]
    decides = [*inside, config.endpoint_instance_type]
    return f"{endpoint}-{hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:8]}"


def model_request(
    name: str, uri: str, environment: Mapping[str, str], place: Place, config: SageMakerConfig
) -> dict[str, Any]:
    """What create_model is called with.

    Args:
        uri: S3 folder of the uncompressed model, its slash at the end, with code/inference.py in it.
        environment: of the container, beside what the Hugging Face container needs to find the code.
    """
    source = {"S3Uri": uri, "S3DataType": "S3Prefix", "CompressionType": "None"}
    container = {
        "SAGEMAKER_PROGRAM": "inference.py",
        "SAGEMAKER_SUBMIT_DIRECTORY": _CODE,
        "SAGEMAKER_MODEL_SERVER_TIMEOUT": str(_ANSWER),
        "SAGEMAKER_MODEL_SERVER_WORKERS": "1",  # one GPU holds the model once
    }
    return {
        "ModelName": name,
        "ExecutionRoleArn": place.role,
        "PrimaryContainer": {
            "Image": place.image,
            "ModelDataSource": {"S3DataSource": source},
            "Environment": {**container, **environment},
        },
        "EnableNetworkIsolation": config.network_isolation,
        "Tags": tags(place.run, config.tags),
    } | vpc(config)


def endpoint_config_request(name: str, model_bytes: int, place: Place, config: SageMakerConfig) -> dict[str, Any]:
    """What create_endpoint_config is called with; the model has the same name. Timeouts follow the model's size."""
    return {
        "EndpointConfigName": name,
        "ProductionVariants": [
            {
                "VariantName": "AllTraffic",
                "ModelName": name,
                "InitialInstanceCount": 1,
                "InstanceType": config.endpoint_instance_type,
                "ModelDataDownloadTimeoutInSeconds": _seconds(model_bytes / _DOWNLOAD_RATE),
                "ContainerStartupHealthCheckTimeoutInSeconds": _seconds(model_bytes / _LOAD_RATE),
            }
        ],
        "Tags": tags(place.run, config.tags),
    }


def endpoint_request(endpoint: str, name: str, place: Place, config: SageMakerConfig) -> dict[str, Any]:
    """What create_endpoint is called with; `name` is the configuration's."""
    return {"EndpointName": endpoint, "EndpointConfigName": name, "Tags": tags(place.run, config.tags)}


def _seconds(expected: float) -> int:
    return round(min(max(expected + _SLACK, _SHORTEST), _LONGEST))
