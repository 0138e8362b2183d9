"""What belongs to a run: one call for many resources, and never less than what is there."""

import pytest
from stand_in import Fault, StandIn

from lorasum.backends.sagemaker import parts
from lorasum.backends.sagemaker.session import Session
from lorasum.config.sagemaker import SageMakerConfig


def model(account: StandIn, name: str, run: str) -> None:
    tags = [{"Key": "lorasum:run", "Value": run}] if run else []
    request = {"ModelName": name, "ExecutionRoleArn": account.role_arn, "Tags": tags}
    account.sagemaker.call("CreateModel", request | {"PrimaryContainer": {"Image": "image:1"}})


@pytest.fixture
def session(account: StandIn) -> Session:
    """Twelve models, of which the index knows eleven: five of run chats, one of nobody, and five of another run."""
    for number in range(5):
        model(account, f"chats-{number:08x}", "chats")
        model(account, f"more-chats-{number:08x}", "more-chats")
    model(account, "chats-0000000f", "")
    account.sagemaker.indexed_tags([])  # it is up to date
    model(account, "chats-00000009", "chats")
    account.calls.clear()
    return Session(SageMakerConfig(bucket=account.bucket, role=account.role_arn))


OURS = {"chats-00000000", "chats-00000001", "chats-00000002", "chats-00000003", "chats-00000004", "chats-00000009"}


def test_many_tags_take_one_call_and_one_for_each_that_the_index_lacks(account: StandIn, session: Session) -> None:
    assert {part.name for part in parts.find(session, "chats")} == OURS
    assert account.calls.count("tagging GetResources") == 1
    assert account.calls.count("sagemaker ListTags") == 2, "the untagged one, and the one that was just made"


@pytest.mark.parametrize("how", ["denied", "throttle"])
def test_without_the_right_to_the_index_nothing_is_missed(account: StandIn, session: Session, how: str) -> None:
    account.faults = [Fault("tagging", how, times=1 if how == "throttle" else 10**9)]
    assert {part.name for part in parts.find(session, "chats")} == OURS


def test_more_than_a_hundred_are_asked_for_in_parts(account: StandIn, session: Session) -> None:
    for number in range(256, 256 + 120):
        model(account, f"chats-{number:08x}", "chats")
    account.sagemaker.indexed_tags([])
    account.calls.clear()
    assert len(parts.find(session, "chats")) == 126
    assert account.calls.count("tagging GetResources") == 2
    assert account.calls.count("sagemaker ListTags") == 1, "the untagged one"
