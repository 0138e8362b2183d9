"""The config's section of Amazon SageMaker: where, as whom, on which instances, with which images."""

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from lorasum.config.instances import gpus_of, instance_problem, region_problem
from lorasum.config.section import PositiveInt, Section

_OURS = ("LORASUM_", "SAGEMAKER_", "SM_")
"""Beginnings of variables that only lorasum or SageMaker may set."""


_ADDRESSES = {"mlflow": "MLFLOW_TRACKING_URI", "trackio": "TRACKIO_SPACE_ID"}
"""Where a tracker of this name sends figures to. Without it they would stay in the container, and go with it."""


def _without(problem: Callable[[str], str]) -> AfterValidator:
    """Refuses a value with what is wrong with it, which is empty where nothing is."""

    def checked(value: str) -> str:
        if found := problem(value):
            raise ValueError(found)
        return value

    return AfterValidator(checked)


InstanceType = Annotated[str, _without(instance_problem)]
Region = Annotated[str, _without(lambda name: name and region_problem(name))]
SecretArn = Annotated[
    str, _without(lambda arn: "" if arn[:4] in ("", "arn:") else "must be an ARN, not the token itself")
]


class SageMakerConfig(Section):
    """The Amazon SageMaker backend."""

    region: Region | None = None
    """AWS region; default: the environment's or the profile's."""
    profile: str | None = None
    """Profile of the AWS configuration files; default: the environment's."""
    role: str | None = None
    """ARN or name of the execution role SageMaker assumes; default: the one lorasum runs under, if any."""
    scheduler_role: str | None = None
    """ARN or name of a role that EventBridge Scheduler assumes to delete an endpoint whose time is over."""
    bucket: str | None = None
    """S3 bucket of datasets and artifacts; default: the account's SageMaker bucket, `sagemaker-<region>-<account>`."""
    bucket_owner: Annotated[str, Field(pattern=r"^\d{12}$")] | None = None
    """Account that owns the bucket; default: your own. S3 is told it with every call, and refuses another's bucket."""
    prefix: Annotated[str, Field(pattern=r"^[\w.-]+(/[\w.-]+)*$")] = "lorasum"
    """Folder in the bucket that holds a folder for each run."""
    create_bucket: bool = False
    """Create the bucket if it is not there: public access blocked, encrypted."""
    kms_key: str | None = None
    """KMS key (id or ARN) for what is written to S3; default: the bucket's own encryption."""
    subnets: list[str] = []
    """VPC subnets of jobs and endpoints; give security_groups too."""
    security_groups: list[str] = []
    """VPC security groups of jobs and endpoints; give subnets too."""
    network_isolation: bool = False
    """Containers without any network. The base model is a local folder, or a hub model with `model_cache: true`: its
    weights travel through S3."""
    tags: dict[str, str] = {}
    """Tags put on everything that is created, beside lorasum's own; 40 at most."""
    environment: dict[str, Annotated[str, Field(max_length=512)]] = {}
    """Variables of jobs' and endpoints' containers, such as HF_ENDPOINT or PIP_INDEX_URL. Everybody who may describe a
    job can read them: put no secrets here."""
    model_cache: bool = False
    """Keep a hub model in the bucket, once for each revision, for all runs: this machine downloads it once, and
    containers need no hub. `teardown` leaves it."""
    hub_token_secret: SecretArn | None = None
    """ARN of the Secrets Manager secret that holds the hub's token, for gated models. The container reads it."""
    tracker_secret: SecretArn | None = None
    """ARN of the Secrets Manager secret that holds keys for `training.report_to`: a JSON object of variables, such as
    `{"WANDB_API_KEY": "…"}`. The container reads it."""
    training_instance_type: InstanceType = "ml.g5.2xlarge"
    """Instance of the training job. All of its GPUs train together, a process on each."""
    instance_count: Annotated[int, Field(ge=1, le=64)] = 1
    """Instances of the training job, each at the full price. All of their GPUs share the packs of every optimizer step,
    so the result stays the same but for rounding."""
    batch_instance_count: Annotated[int, Field(ge=1, le=64)] = 1
    """Instances of `predict --batch`, of training_instance_type, each at the full price. They divide the rows."""
    training_instance_alternatives: Annotated[list[InstanceType], Field(max_length=4)] = []
    """Instance types that the job takes, in this order, if no training_instance_type is free. Not with spot."""
    training_image: str | None = None
    """URI of the training image; default: the Hugging Face image of the two versions below."""
    training_transformers_version: str = "5.3.0"
    """Of the Hugging Face training image."""
    training_pytorch_version: str = "2.9.0"
    """Of the Hugging Face training image."""
    volume_size_gb: PositiveInt = 300
    """Disk of a training instance that has none of its own, GB."""
    max_runtime_hours: Annotated[float, Field(gt=0, le=672)] = 24
    """The training job is stopped after this many hours."""
    spot: bool = False
    """Train on spare capacity, up to 90% cheaper; an interrupted job goes on from its newest checkpoint."""
    max_wait_hours: Annotated[float, Field(gt=0, le=672)] | None = None
    """With spot: hours until the job must have ended, waiting included; default: twice max_runtime_hours."""
    keep_alive_minutes: Annotated[int, Field(ge=0, le=60)] = 0
    """Minutes that the instance is kept, and paid for, after a training, so that the next one starts at once and
    downloads nothing. Not with spot. A sweep lets them go at its end."""
    endpoint_instance_type: InstanceType = "ml.g5.4xlarge"
    """Instance of the endpoint. With engine vllm, as many of its GPUs serve as can divide the model; else one."""
    endpoint_instance_alternatives: Annotated[list[InstanceType], Field(max_length=4)] = []
    """Instance types that the endpoint takes, in this order, if no endpoint_instance_type is free."""
    max_instances: PositiveInt = 1
    """Instances the endpoint may grow to under load, each at the full price; 1 turns autoscaling off. The next `deploy`
    makes a larger fleet smaller."""
    requests_per_minute: PositiveInt = 30
    """With max_instances above 1: requests per minute of each instance that autoscaling aims at."""
    endpoint_volume_gb: Annotated[int, Field(ge=1, le=512)] | None = None
    """Disk of the endpoint's instance, GB; default: the instance's own. SageMaker refuses it for types with SSDs."""
    inference_ami_version: str | None = None
    """System of the endpoint's instance; default: SageMaker's, and one with a newer driver for engine vllm."""
    rollback_alarm: str | None = None
    """Name of a CloudWatch alarm that undoes an update of the endpoint when it goes off in the five minutes after."""
    capture_percent: Annotated[int, Field(ge=0, le=100)] = 0
    """Share of requests and answers that are kept in S3, 0 to 100; 0 keeps none: they are people's chats."""
    engine: Literal["huggingface", "vllm"] = "huggingface"
    """What serves: the Hugging Face image with lorasum's inference.py, or the Hugging Face vLLM image."""
    vllm_version: str = "0.29.0"
    """With engine vllm: of the Hugging Face vLLM image."""
    inference_image: str | None = None
    """URI of the inference image; default: the Hugging Face image of the two versions below."""
    inference_transformers_version: str = "5.5.3"
    """Of the Hugging Face inference image."""
    inference_pytorch_version: str = "2.6.0"
    """Of the Hugging Face inference image."""

    @model_validator(mode="after")
    def _belong_together(self) -> "SageMakerConfig":
        if bool(self.subnets) != bool(self.security_groups):
            raise ValueError("subnets and security_groups go together: give both or neither")
        if self.spot and self.keep_alive_minutes:
            raise ValueError("keep_alive_minutes does not go with spot: SageMaker keeps no spot instance")
        if self.spot and self.training_instance_alternatives:
            raise ValueError("training_instance_alternatives does not go with spot: SageMaker takes one or the other")
        if self.max_instances > 1 and self.endpoint_instance_alternatives:
            raise ValueError("endpoint_instance_alternatives does not go with max_instances above 1")
        for types in (self.training_instance_types, self.endpoint_instance_types):
            if len(set(types)) < len(types):
                raise ValueError(f"an instance type is named twice: {', '.join(types)}")
        if self.max_wait_hours is not None and not self.spot:
            raise ValueError("max_wait_hours is for spot only")
        if self.max_wait_hours is not None and self.max_wait_hours < self.max_runtime_hours:
            raise ValueError("max_wait_hours is shorter than max_runtime_hours")
        if len(self.tags) > 40:
            raise ValueError(f"{len(self.tags)} tags; 40 are allowed")
        if taken := [name for name in self.environment if name.startswith(_OURS)]:
            raise ValueError(f"environment: {', '.join(taken)} is set by lorasum or SageMaker")
        if self.network_isolation and self.hub_token_secret:
            raise ValueError("hub_token_secret cannot be read with network_isolation")
        return self

    def tracker_problem(self, trackers: Sequence[str]) -> str:
        """Why a job's container could not reach its trackers; empty if it can."""
        if trackers and self.network_isolation:
            return "training.report_to does not go with sagemaker.network_isolation: trackers need a network"
        for tracker, variable in _ADDRESSES.items():
            if tracker in trackers and variable not in self.environment:
                return f"training.report_to: {tracker} needs its address in sagemaker.environment.{variable}"
        if "wandb" in trackers and not self.tracker_secret:
            return "training.report_to: wandb needs its WANDB_API_KEY in a secret that sagemaker.tracker_secret names"
        return ""

    @property
    def training_instance_types(self) -> tuple[str, ...]:
        """The types that the job may run on, the preferred one first."""
        return (self.training_instance_type, *self.training_instance_alternatives)

    def instances(self, kind: Literal["training_job", "batch_job", "endpoint"]) -> int:
        """How many instances a job or an endpoint begins with."""
        return {"training_job": self.instance_count, "batch_job": self.batch_instance_count, "endpoint": 1}[kind]

    @property
    def training_gpus(self) -> int:
        """GPUs of the training job: of the type with most, where there are alternatives."""
        return self.instance_count * max(gpus_of(name) for name in self.training_instance_types)

    @property
    def endpoint_instance_types(self) -> tuple[str, ...]:
        """The types that the endpoint may run on, the preferred one first."""
        return (self.endpoint_instance_type, *self.endpoint_instance_alternatives)
