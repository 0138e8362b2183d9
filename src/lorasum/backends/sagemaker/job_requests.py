"""The CreateTrainingJob request. Its functions are pure, so that `train --dry-run` can show the request."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from lorasum import __version__
from lorasum.backends.records import SCRIPTS, TrainSpec
from lorasum.backends.sagemaker.layout import Folder, Place
from lorasum.config.instances import facts_of
from lorasum.config.sagemaker import SageMakerConfig
from lorasum.shared.names import (
    ADAPTER_ONLY,
    BASE_AS_TRAINED,
    BASE_SECONDS,
    CHANNEL_CODE,
    EXPECT_GPU,
    HUB_TOKEN_ARN,
    MAX_SECONDS,
    NO_NETWORK,
    PROGRAM,
    REPORT_TO,
    STEPS_DONE,
    TENSORBOARD_FOLDER,
    TRACKER_KEYS_ARN,
)

if TYPE_CHECKING:
    from sagemaker.core.resources import TrainingJob

TAG_RUN, TAG_VERSION = "lorasum:run", "lorasum:version"
_IMAGES, _TYPES = "images", "instance types"
_DATA = "/opt/ml/input/data"
_CHECKPOINTS = "/opt/ml/checkpoints"
_TENSORBOARD = f"/opt/ml/output/{TENSORBOARD_FOLDER}"
_NUMBER = "([0-9.eE+-]+)"
_METRICS = {
    "train:loss": f'"loss": {_NUMBER}',
    "train:tokens_per_second": f'"event": "step".*"tokens_per_second": {_NUMBER}',
    "eval:loss": f'"event": "eval".*"eval_loss": {_NUMBER}',
    "eval:score": f'"event": "eval".*"score": {_NUMBER}',
}
"""Metric name → regex over the JSON lines of events.event_line."""


def training_request(
    spec: TrainSpec, name: str, place: Place, config: SageMakerConfig, channels: Mapping[str, str]
) -> dict[str, Any]:
    """The arguments of boto3's create_training_job.

    Args:
        name: name of the attempt: `spec.job_name`, or that with a number. All attempts share their checkpoints.
        channels: S3 folder of each input channel, by the channel's name.
    """
    longest = round(config.max_runtime_hours * 3600)
    seconds = longest if spec.max_seconds is None else min(longest, spec.max_seconds)
    artifacts = place.layout.uri(Folder.JOBS).rstrip("/")
    checkpoints = place.layout.uri(Folder.CHECKPOINTS, spec.checkpoints or spec.job_name)
    request: dict[str, Any] = {
        "TrainingJobName": name,
        "RoleArn": place.role,
        "AlgorithmSpecification": {
            "TrainingImage": place.image,
            "TrainingInputMode": "File",
            "ContainerEntrypoint": ["python3", f"{_DATA}/{CHANNEL_CODE}/start.py"],
            "MetricDefinitions": [{"Name": metric, "Regex": regex} for metric, regex in _METRICS.items()],
            "EnableSageMakerMetricsTimeSeries": False,
        },
        "HyperParameters": {**spec.hyperparameters, "checkpoint_dir": _CHECKPOINTS},
        "InputDataConfig": [_channel(channel, uri) for channel, uri in channels.items()],
        # Compressing 14 GB would hold the GPU for half an hour.
        "OutputDataConfig": {"S3OutputPath": artifacts, "CompressionType": "NONE"},
        "CheckpointConfig": {"S3Uri": checkpoints, "LocalPath": _CHECKPOINTS},
        "ResourceConfig": _resources(config, spec.kind),
        "StoppingCondition": {"MaxRuntimeInSeconds": seconds, **_longest_wait(config)},
        "EnableManagedSpotTraining": config.spot,
        "EnableNetworkIsolation": config.network_isolation,
        "Environment": _variables(config, spec, seconds),
        "Tags": tags(spec.run, config.tags),
    }
    if "tensorboard" in spec.report_to:
        request["TensorBoardOutputConfig"] = {"LocalPath": _TENSORBOARD, "S3OutputPath": artifacts}
    if config.kms_key:
        request["OutputDataConfig"]["KmsKeyId"] = config.kms_key
    return request | vpc(config)


def made_with(config: SageMakerConfig, image: str, scripts: str) -> dict[str, str]:
    """What a job is made with that its name does not say. `scripts` is the digest that names their folder in S3."""
    types = _named(config.training_instance_types, config.instance_count)
    return {SCRIPTS: scripts, _IMAGES: image, _TYPES: types}


def job_was_made_with(job: "TrainingJob") -> dict[str, str]:
    """The same, of a job as SageMaker shows it."""
    resources = job.resource_config
    types = [each.instance_type for each in resources.instance_preferences or [resources]]
    uris = {each.channel_name: each.data_source.s3_data_source.s3_uri for each in job.input_data_config}
    scripts = uris[CHANNEL_CODE].rstrip("/").rpartition("/")[2]
    named = _named(types, resources.instance_count)
    return {SCRIPTS: scripts, _IMAGES: job.algorithm_specification.training_image, _TYPES: named}


def steps_of(job: "TrainingJob") -> str:
    """The name of the job whose checkpoints it has: the folder that they are in."""
    return str(job.checkpoint_config.s3_uri).rstrip("/").rpartition("/")[2]


def _named(types: Sequence[str], count: object) -> str:
    """The instance types of a job, and how many it has if that is more than one."""
    return (f"{count} of " if isinstance(count, int) and count > 1 else "") + ", ".join(types)


def release_request(name: str) -> dict[str, Any]:
    """The arguments of update_training_job that let a job's warm instance go."""
    return {"TrainingJobName": name, "ResourceConfig": {"KeepAlivePeriodInSeconds": 0}}


def _resources(config: SageMakerConfig, kind: Literal["training_job", "batch_job"]) -> dict[str, Any]:
    """The instances, of the config's type or of the first type of its list that is free. A batch job's are not kept."""
    disks = [disk for name in config.training_instance_types if (disk := facts_of(name).disk_gb)]
    volume = min([config.volume_size_gb, *disks])  # SageMaker gives no more than a type's own disk
    resources: dict[str, Any] = {"InstanceCount": config.instances(kind), "VolumeSizeInGB": volume}
    if config.keep_alive_minutes and kind == "training_job":
        resources["KeepAlivePeriodInSeconds"] = 60 * config.keep_alive_minutes
    if not config.training_instance_alternatives:
        return {"InstanceType": config.training_instance_type, **resources}
    return {"InstancePreferences": [{"InstanceType": name} for name in config.training_instance_types], **resources}


def _longest_wait(config: SageMakerConfig) -> dict[str, int]:
    """For how long a job on spot instances may take, its waits for an instance included."""
    hours = config.max_wait_hours or 2 * config.max_runtime_hours
    return {"MaxWaitTimeInSeconds": round(hours * 3600)} if config.spot else {}


def _variables(config: SageMakerConfig, spec: TrainSpec, seconds: int) -> dict[str, str]:
    """The container's environment. These are not hyperparameters, because those change the job's name."""
    variables = {**config.environment, EXPECT_GPU: "1"}  # the config accepts only instance types with a GPU
    if spec.base_seconds:
        variables |= {BASE_SECONDS: str(spec.base_seconds), MAX_SECONDS: str(seconds)}
        if spec.base_as_trained:
            variables[BASE_AS_TRAINED] = "1"
    if spec.adapter_only:
        variables[ADAPTER_ONLY] = "1"
    if spec.checkpoints:
        variables[STEPS_DONE] = "1"
    if spec.artifact:
        variables[PROGRAM] = spec.program
    if config.network_isolation:
        variables[NO_NETWORK] = "1"
    if config.hub_token_secret:
        variables[HUB_TOKEN_ARN] = config.hub_token_secret
    if spec.report_to:
        variables[REPORT_TO] = ",".join(spec.report_to)
    if spec.report_to and config.tracker_secret:
        variables[TRACKER_KEYS_ARN] = config.tracker_secret
    return variables


def vpc(config: SageMakerConfig) -> dict[str, Any]:
    """`VpcConfig` if the config has subnets, and else nothing."""
    if not config.subnets:
        return {}
    return {"VpcConfig": {"Subnets": list(config.subnets), "SecurityGroupIds": list(config.security_groups)}}


def tags(run: str, extra: Mapping[str, str]) -> list[dict[str, str]]:
    """The tags of everything that a run creates. `teardown` finds resources by them."""
    return [{"Key": key, "Value": value} for key, value in {**extra, TAG_RUN: run, TAG_VERSION: __version__}.items()]


def _channel(name: str, uri: str) -> dict[str, Any]:
    source = {"S3DataType": "S3Prefix", "S3Uri": uri, "S3DataDistributionType": "FullyReplicated"}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}, "InputMode": "File"}
