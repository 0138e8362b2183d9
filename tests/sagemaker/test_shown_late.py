"""What SageMaker shows late is not forgotten, also where the command that asked for it was killed or interrupted."""

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
import waiting
from account import BAD, Account
from forks import Client, Ended
from stand_in import Fault

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("stubs")]

ANOTHER = ("--set", "training.max_steps=3")
LATER = "it may still appear"

Signalled = Callable[..., Ended]


@pytest.fixture
def signalled(there: Account, monkeypatch: pytest.MonkeyPatch) -> Signalled:
    """Send a command a signal while SageMaker carries out an operation; what that creates is shown late."""

    def signalled(operation: str, *command: str, number: int = signal.SIGKILL, looks: int = 1000) -> Ended:
        create, started = getattr(there.aws.sagemaker, operation), list[Client]()
        there.aws.sagemaker.late_looks = looks

        def carried_out(request: dict[str, Any]) -> Any:
            created = create(request)
            waiting.until(lambda: bool(started))
            os.kill(started[0].pid, number)
            return created

        with monkeypatch.context() as patched:
            patched.setattr(there.aws.sagemaker, operation, carried_out)
            started.append(there.start(*command))
            return started[0].wait()

    return signalled


def let_appear(there: Account, looks: int = 0) -> None:
    """Show what was created, after so many looks."""
    for endpoint in there.aws.sagemaker.endpoints.values():
        endpoint.late = looks, None
    for job in there.aws.sagemaker.jobs.values():
        job.late = looks


def endpoints(there: Account) -> list[Any]:
    return list(there.aws.sagemaker.call("ListEndpoints", {})["Endpoints"])


@pytest.mark.parametrize(
    ("operation", "command"), [("CreateEndpoint", ("deploy",)), ("CreateTrainingJob", ("train", *ANOTHER))]
)
def test_what_a_killed_command_asked_for_stays_on_record(
    there: Account, signalled: Signalled, operation: str, command: tuple[str, ...]
) -> None:
    """A look forgot it. SageMaker then showed it, and nobody asked about it any more."""
    assert signalled(operation, *command).code == -signal.SIGKILL
    looked = there.run("status")
    assert (looked.code, LATER in looked.stderr) == (3, True), looked.stderr
    for torn in (there.run("teardown", "--yes"), there.without_config("teardown", "--all", "--yes")):
        assert (torn.code, LATER in torn.stderr) == (2, True), torn.stderr
    let_appear(there)
    assert LATER not in there.run("status").stderr
    assert there.call("teardown", "--yes")["remaining"] == []
    assert endpoints(there) == []


def test_a_killed_second_attempt_is_not_taken_for_the_first(there: Account, signalled: Signalled) -> None:
    assert there.run("train", *BAD).code == 2
    signalled("CreateTrainingJob", "train", *BAD)
    looked = there.run("status")
    assert (looked.code, LATER in looked.stderr) == (3, True), looked.stderr


def test_what_was_not_asked_for_yet_is_gone_at_once(there: Account, signalled: Signalled) -> None:
    assert signalled("CreateModel", "deploy").code == -signal.SIGKILL
    assert there.call("teardown", "--yes")["remaining"] == []
    assert there.call("status")["alarms"] == []


def test_a_deploy_deletes_what_the_killed_one_before_it_had_made(
    there: Account, signalled: Signalled, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was taken for another client's, and recorded as failed while it ran."""
    signalled("CreateEndpoint", "deploy")
    create = there.aws.sagemaker.CreateEndpoint

    def appears(request: dict[str, Any]) -> Any:
        let_appear(there)
        return create(request)

    monkeypatch.setattr(there.aws.sagemaker, "CreateEndpoint", appears)
    there.aws.faults = [Fault("runtime ", "denied")]
    assert there.run("deploy").code == 2
    assert endpoints(there) == []


def test_a_deploy_that_fails_forgets_no_endpoint_that_was_asked_for(there: Account, signalled: Signalled) -> None:
    signalled("CreateEndpoint", "deploy")
    there.aws.faults = [Fault("CreateModel$", "denied")]
    assert there.run("deploy").code == 2
    assert there.run("status").code == 3
    let_appear(there)
    assert there.call("teardown", "--yes")["removed"]
    assert endpoints(there) == []


def test_a_training_that_fails_to_start_forgets_no_job_that_was_asked_for(there: Account, signalled: Signalled) -> None:
    signalled("CreateTrainingJob", "train", *ANOTHER)
    there.aws.faults = [Fault("CreateTrainingJob$", "denied")]
    assert there.run("train", *ANOTHER).code == 2
    assert there.run("status").code == 3


def test_ctrl_c_deletes_an_endpoint_that_is_shown_late(there: Account, signalled: Signalled) -> None:
    """It was taken for one that was never created, and was billed without end."""
    ended = signalled("CreateEndpoint", "deploy", number=signal.SIGINT, looks=4)
    assert ended.interrupted(), ended.stderr
    assert ended.stderr.count("does not show endpoint tiny yet") == 1
    assert endpoints(there) == []


def test_a_signal_ends_a_command_also_where_nothing_is_shown(there: Account, signalled: Signalled) -> None:
    """It exited with 5, as after an outage, so that a script would have tried again."""
    ended = signalled("CreateEndpoint", "deploy", number=signal.SIGTERM)
    assert ended.interrupted(), ended.stderr
    assert (
        f"endpoint tiny may be running, and billed, until `lorasum teardown {there.config}` removes it" in ended.stderr
    )
    assert there.run("status").code == 3


def test_a_signal_ends_an_evaluation_whose_endpoint_is_not_shown(there: Account, signalled: Signalled) -> None:
    """It went on asking for an hour."""
    there.call("deploy")
    ended = signalled("CreateEndpoint", "evaluate", "--base", number=signal.SIGTERM)
    assert ended.interrupted(), ended.stderr
    assert (
        f"endpoint tiny--base may be running, and billed, until `lorasum teardown {there.config}` removes it"
        in ended.stderr
    )


def test_ctrl_c_tells_of_a_job_that_is_not_shown(there: Account, signalled: Signalled) -> None:
    ended = signalled("CreateTrainingJob", "train", *ANOTHER, number=signal.SIGINT)
    assert ended.interrupted(), ended.stderr
    assert LATER in ended.stderr


def test_a_job_that_is_shown_late_is_waited_for(there: Account) -> None:
    there.aws.sagemaker.late_looks = 4
    assert there.call("train", *ANOTHER)["state"] == "done"


def test_an_endpoint_that_is_not_shown_stays_on_record(there: Account) -> None:
    there.aws.sagemaker.late_looks = 1000
    said = there.run("deploy")
    assert said.code == 5
    assert "was asked to create endpoint tiny, and does not show it" in said.stderr
    assert (
        f"endpoint tiny may be running, and billed, until `lorasum teardown {there.config}` removes it" in said.stderr
    )
    assert there.run("status").code == 3, "the error's hint"
    let_appear(there)
    assert there.run("status").code == 3
    assert there.call("teardown", "--yes")["removed"]
