"""Attempts of a job: each has a name of its own, and an old one may have been deleted."""

import time
from pathlib import Path
from typing import Any

import pytest
import stand_in_container as container
from stand_in import Fault, StandIn

from lorasum.backends.records import TrainSpec
from lorasum.backends.sagemaker.backend import SageMakerBackend
from lorasum.config.sagemaker import SageMakerConfig
from lorasum.model_source import ModelRef
from lorasum.reporting import Silent

pytestmark = pytest.mark.skipif(not container.possible(), reason="this system gives no mount namespaces")
SPEC = TrainSpec("chats", "chats-0123abcd", ModelRef("org/m"), Path("/no/data"), {})


def backend(account: StandIn, **config: Any) -> SageMakerBackend:
    where = {"bucket": account.bucket, "role": account.role_arn, "training_image": "image:1"}
    return SageMakerBackend(SageMakerConfig.model_validate(where | config), Silent())


def fail_once(account: StandIn) -> None:
    """An attempt that fails: there is no dataset to lay out."""
    backend(account).start_training(SPEC)
    while any(job.description["TrainingJobStatus"] == "InProgress" for job in account.sagemaker.jobs.values()):
        time.sleep(0.05)


@pytest.mark.parametrize("may_list", [True, False])
def test_the_newest_attempt_is_found_behind_one_that_was_deleted(account: StandIn, may_list: bool) -> None:
    for _ in range(3):
        fail_once(account)
    assert list(account.sagemaker.jobs) == ["chats-0123abcd", "chats-0123abcd-2", "chats-0123abcd-3"]
    account.sagemaker.call("DeleteTrainingJob", {"TrainingJobName": "chats-0123abcd-2"})
    account.faults = [] if may_list else [Fault("ListTrainingJobs", "denied")]
    found = backend(account).find_training("chats", "chats-0123abcd")
    assert found is not None
    assert found.location.endswith("chats-0123abcd-3" if may_list else "chats-0123abcd")
    account.faults = []
    fail_once(account)
    assert list(account.sagemaker.jobs)[-1] == "chats-0123abcd-4"


def test_a_job_of_another_name_is_no_attempt(account: StandIn) -> None:
    fail_once(account)
    other = TrainSpec("chats-0123abcd", "chats-0123abcd-89abcdef", SPEC.model, SPEC.dataset, {})
    backend(account).start_training(other)
    found = backend(account).find_training("chats", "chats-0123abcd")
    assert found is not None
    assert found.location.endswith("/chats-0123abcd")
