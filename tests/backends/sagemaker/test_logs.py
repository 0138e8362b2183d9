"""A container's log: all of it, and nothing of another container's."""

import time
from datetime import UTC, datetime

from stand_in import StandIn

from lorasum.backends.sagemaker.logs import Log
from lorasum.backends.sagemaker.session import Session
from lorasum.config.sagemaker import SageMakerConfig


def write(account: StandIn, stream: str, *lines: str) -> None:
    logs = account.aws.client("logs")
    if not logs.describe_log_groups(logGroupNamePrefix="group")["logGroups"]:
        logs.create_log_group(logGroupName="group")
    if not logs.describe_log_streams(logGroupName="group", logStreamNamePrefix=stream)["logStreams"]:
        logs.create_log_stream(logGroupName="group", logStreamName=stream)
    events = [{"timestamp": round(time.time() * 1000), "message": line} for line in lines]
    logs.put_log_events(logGroupName="group", logStreamName=stream, logEvents=events)


def test_an_empty_page_is_not_the_end(account: StandIn) -> None:
    log = Log(Session(SageMakerConfig()), "group", "job/")
    assert log.new_lines() == []
    write(account, "job/1", "one", "two")
    assert log.new_lines() == ["one", "two"]
    assert log.new_lines() == []
    write(account, "job/1", "three")
    assert log.new_lines() == ["three"]


def test_what_an_earlier_endpoint_of_the_name_said_is_left_out(account: StandIn) -> None:
    write(account, "AllTraffic/i-old", "the error of last week")
    time.sleep(0.05)
    began = datetime.now(UTC)
    time.sleep(0.05)
    write(account, "AllTraffic/i-new", "all is well")
    assert Log(Session(SageMakerConfig()), "group", "", began).tail() == ["all is well"]
