"""The hub's token: read inside the container from Secrets Manager, and nowhere else to be seen."""

from pathlib import Path

import pytest

from hub_token import hub_token, tracker_keys
from lorasum.backends.records import TrainSpec
from lorasum.backends.sagemaker.job_requests import training_request
from lorasum.backends.sagemaker.layout import Place, S3Layout
from lorasum.backends.sagemaker.session import Session
from lorasum.config.sagemaker import SageMakerConfig
from lorasum.models.source import ModelRef


@pytest.mark.parametrize("stored", ["hf_secret", '{"token": "hf_secret"}', '{"user": "ann", "HF_TOKEN": "hf_secret"}'])
def test_a_secret_is_read_by_its_arn(aws: str, stored: str) -> None:
    secrets = Session(SageMakerConfig()).client("secretsmanager")
    arn = secrets.create_secret(Name="hub", SecretString=stored)["ARN"]
    assert hub_token({"LORASUM_HUB_TOKEN_ARN": arn}) == {"HF_TOKEN": "hf_secret"}
    place = Place(S3Layout("box", "lorasum", "chats"), "arn:aws:iam::1:role/r", "image")
    spec = TrainSpec("chats", "chats-1", ModelRef("org/m"), Path("/d/f"), {})
    request = training_request(spec, "chats-1", place, SageMakerConfig(hub_token_secret=arn), {"code": "s3://b/"})
    assert "hf_secret" not in str(request)
    assert request["Environment"]["LORASUM_HUB_TOKEN_ARN"] == arn


def test_a_secret_that_cannot_be_read_names_the_permission(aws: str) -> None:
    arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:none-AbCdEf"
    with pytest.raises(RuntimeError, match="allow secretsmanager:GetSecretValue on arn:aws:secretsmanager") as error:
        hub_token({"LORASUM_HUB_TOKEN_ARN": arn})
    assert error.value.__cause__ is None


@pytest.mark.parametrize("stored", ['{"user": "a", "password": "hf_secret"}', '{"token": "hf_secret"', '{"token": 7}'])
def test_a_secret_without_a_token_is_reported_without_its_content(aws: str, stored: str) -> None:
    arn = Session(SageMakerConfig()).client("secretsmanager").create_secret(Name="hub", SecretString=stored)["ARN"]
    with pytest.raises(
        RuntimeError, match=r"holds no token: store the token as text, or under the key HF_TOKEN"
    ) as error:
        hub_token({"LORASUM_HUB_TOKEN_ARN": arn})
    assert "hf_secret" not in str(error.value)
    assert error.value.__context__ is None


def test_a_binary_secret_is_no_token(aws: str) -> None:
    arn = Session(SageMakerConfig()).client("secretsmanager").create_secret(Name="hub", SecretBinary=b"hf")["ARN"]
    with pytest.raises(RuntimeError, match="holds no token"):
        hub_token({"LORASUM_HUB_TOKEN_ARN": arn})


def test_keys_of_trackers_become_variables_and_are_told_nowhere_else(aws: str) -> None:
    secrets = Session(SageMakerConfig()).client("secretsmanager")
    keys = secrets.create_secret(Name="keys", SecretString='{"WANDB_API_KEY": "k3y"}')["ARN"]
    text = secrets.create_secret(Name="text", SecretString="k3y")["ARN"]
    assert tracker_keys({}) == {}
    assert tracker_keys({"LORASUM_TRACKER_KEYS_ARN": keys}) == {"WANDB_API_KEY": "k3y"}
    with pytest.raises(RuntimeError, match="is not a JSON object of variables") as error:
        tracker_keys({"LORASUM_TRACKER_KEYS_ARN": text})
    assert "k3y" not in str(error.value)
