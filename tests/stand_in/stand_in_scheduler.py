"""EventBridge Scheduler: moto keeps the schedules, and here they are carried out when they are due.

A call that fails is tried again, as the schedule's retry policy asks for; one that succeeds deletes its schedule where
that is what it asks for. A role that Scheduler may not assume is refused when the schedule is made.
"""

import json
import re
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from stand_in_aws import Aws
from stand_in_operations import Operations
from stand_in_rules import RefusalError

SERVICE = "scheduler.amazonaws.com"
_TARGET = re.compile(r"arn:aws:scheduler:::aws-sdk:sagemaker:(\w+)")
_BETWEEN_LOOKS = 0.2  # seconds


class Scheduler:
    """Carries out what is due, from the first schedule on, until it is closed."""

    def __init__(self, aws: Aws, sagemaker: Operations) -> None:
        self.failures: list[str] = []
        """What came of calls that were refused."""
        self._aws, self._sagemaker = aws, sagemaker
        self._ahead = timedelta()
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()

    def let_pass(self, length: timedelta) -> None:
        """So much time passes, for Scheduler alone."""
        self._ahead += length

    def schedules(self) -> dict[str, dict[str, Any]]:
        """Those that there are, by name."""
        found, client = {}, self._aws.client("scheduler")
        for row in client.list_schedules()["Schedules"]:
            with suppress(client.exceptions.ResourceNotFoundException):  # carried out just now
                found[row["Name"]] = client.get_schedule(Name=row["Name"])
        return found

    def check(self, body: bytes) -> None:
        """Refuse a schedule whose role does not trust Scheduler; begin to look after one that is right."""
        role = json.loads(body)["Target"]["RoleArn"].rpartition("/")[2]
        trust = self._aws.client("iam").get_role(RoleName=role)["Role"]["AssumeRolePolicyDocument"]
        if SERVICE not in json.dumps(trust):
            said = "The execution role you provide must allow AWS EventBridge Scheduler to assume the role."
            raise RefusalError("ValidationException", said)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, daemon=True)
            self._thread.start()

    def close(self) -> None:
        self._closed.set()
        if self._thread:
            self._thread.join(10)

    def _work(self) -> None:
        while not self._closed.wait(_BETWEEN_LOOKS):
            for schedule in self.schedules().values():
                if _due(schedule) <= datetime.now(UTC) + self._ahead:
                    self._carry_out(schedule)

    def _carry_out(self, schedule: dict[str, Any]) -> None:
        target = _TARGET.fullmatch(schedule["Target"]["Arn"])
        if target is None:
            raise ValueError(f"no such target: {schedule['Target']['Arn']}")
        call, request = target[1], json.loads(schedule["Target"]["Input"])
        try:
            self._sagemaker.call(call[0].upper() + call[1:], request)
        except RefusalError as refusal:
            self.failures.append(f"{schedule['Name']}: {refusal.message}")
            time.sleep(_BETWEEN_LOOKS)
            return
        if schedule["ActionAfterCompletion"] == "DELETE":
            client = self._aws.client("scheduler")
            with suppress(client.exceptions.ResourceNotFoundException):  # by its owner, just now
                client.delete_schedule(Name=schedule["Name"])


def _due(schedule: dict[str, Any]) -> datetime:
    at = re.fullmatch(r"at\((.+)\)", schedule["ScheduleExpression"])
    if at is None or schedule["ScheduleExpressionTimezone"] != "UTC":
        raise ValueError(f"not a moment: {schedule['ScheduleExpression']}")
    return datetime.fromisoformat(at[1]).replace(tzinfo=UTC)
