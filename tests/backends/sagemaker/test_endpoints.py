"""Endpoints on an account that behaves as SageMaker does: what is kept, what is put back, and what is deleted."""

from collections.abc import Iterator
from typing import Any

import pytest
import stand_in_container as container
from stand_in import Fault, StandIn

from lorasum.backends.records import EndpointRef, EndpointSpec
from lorasum.backends.sagemaker import endpoints
from lorasum.backends.sagemaker.backend import SageMakerBackend
from lorasum.config.sagemaker import SageMakerConfig
from lorasum.errors import BackendError, NoAnswerError
from lorasum.reporting import Silent

pytestmark = pytest.mark.skipif(not container.possible(), reason="this system gives no mount namespaces")

GOOD = """
def model_fn(model_dir): return open(model_dir + "/weights").read()
def input_fn(data, content_type): return data
def predict_fn(data, model): return '"' + model + '"'
def output_fn(prediction, accept): return prediction
"""
BROKEN = GOOD.replace("return open", "raise RuntimeError('no such layer'); return open")


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    with StandIn() as stand_in:
        for name, value in stand_in.environ().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("LORASUM_POLL_SECONDS", "0.1")
        yield stand_in


def backend(aws: StandIn, **config: Any) -> SageMakerBackend:
    return SageMakerBackend(
        SageMakerConfig(bucket=aws.bucket, role=aws.role_arn, inference_image="plain:1", **config), Silent()
    )


def store(aws: StandIn, name: str, code: str = GOOD) -> str:
    """An artifact whose model answers its name."""
    for key, text in {"code/inference.py": code, "weights": name}.items():
        aws.aws.client("s3").put_object(Bucket=aws.bucket, Key=f"artifacts/{name}/{key}", Body=text.encode())
    return f"s3://{aws.bucket}/artifacts/{name}/"


def spec(artifact: str, run: str = "chats", name: str = "chats") -> EndpointSpec:
    return EndpointSpec(run=run, name=name, artifact=artifact)


def answer(aws: StandIn, endpoint: EndpointRef) -> Any:
    return backend(aws).invoke(endpoint, {"inputs": "hi"}, 60)


def serve(aws: StandIn, artifact: str, **config: Any) -> EndpointRef:
    """Deploy and confirm."""
    endpoint = backend(aws, **config).start_endpoint(spec(artifact))
    backend(aws, **config).confirm_endpoint("chats", "chats")
    return endpoint


def test_what_served_before_is_kept_until_the_new_model_has_answered(aws: StandIn) -> None:
    serve(aws, store(aws, "first"))
    second = backend(aws).start_endpoint(spec(store(aws, "second")))
    assert len(aws.sagemaker.models) == len(aws.sagemaker.configs) == 2
    assert answer(aws, second) == "second"
    backend(aws).confirm_endpoint("chats", "chats")
    assert len(aws.sagemaker.models) == len(aws.sagemaker.configs) == 1
    assert answer(aws, second) == "second"


def test_a_model_that_does_not_answer_gives_way_to_what_served_before(aws: StandIn) -> None:
    first = serve(aws, store(aws, "first"))
    endpoint = backend(aws).start_endpoint(spec(store(aws, "second", BROKEN)))
    with pytest.raises(BackendError, match="failed: no such layer"):
        answer(aws, endpoint)
    back = backend(aws).restore_endpoint("chats", "chats")
    assert back is not None
    assert back.artifact == first.artifact
    assert answer(aws, back) == "first"
    assert len(aws.sagemaker.models) == len(aws.sagemaker.configs) == 1
    assert aws.calls.count("sagemaker DeleteEndpoint") == 0


def test_a_first_endpoint_has_nothing_to_go_back_to(aws: StandIn) -> None:
    backend(aws).start_endpoint(spec(store(aws, "first", BROKEN)))
    assert backend(aws).restore_endpoint("chats", "chats") is None


def test_a_configuration_that_never_served_is_not_gone_back_to(aws: StandIn) -> None:
    serve(aws, store(aws, "first"))
    aws.faults = [Fault("UpdateEndpoint$", "denied")]
    with pytest.raises(BackendError, match="not authorized"):  # as if killed before the update
        backend(aws).start_endpoint(spec(store(aws, "second", BROKEN)))
    aws.faults = []
    backend(aws).start_endpoint(spec(store(aws, "third", BROKEN)))
    back = backend(aws).restore_endpoint("chats", "chats")
    assert back is not None
    assert answer(aws, back) == "first"
    assert len(aws.sagemaker.configs) == 1


def test_an_endpoint_of_an_earlier_version_is_gone_back_to(aws: StandIn) -> None:
    backend(aws).start_endpoint(spec(store(aws, "first")))  # not confirmed: nothing is tagged as answered
    backend(aws).start_endpoint(spec(store(aws, "second", BROKEN)))
    back = backend(aws).restore_endpoint("chats", "chats")
    assert back is not None
    assert answer(aws, back) == "first"


def test_an_update_keeps_the_size_of_the_fleet(aws: StandIn) -> None:
    serve(aws, store(aws, "first"), max_instances=4)
    aws.sagemaker.endpoints["chats"].description["ProductionVariants"][0]["CurrentInstanceCount"] = 3
    serve(aws, store(aws, "second"), max_instances=4)
    assert aws.sagemaker.endpoints["chats"].instances == 3


def test_an_update_that_could_not_be_undone_is_shown_and_not_deleted(aws: StandIn) -> None:
    artifact = store(aws, "first")
    serve(aws, artifact)
    aws.sagemaker.endpoints["chats"].description["EndpointStatus"] = "UpdateRollbackFailed"
    state = backend(aws).endpoint_state("chats", "chats")
    assert state.status == "in_service"
    assert "is billed" in state.reason
    with pytest.raises(BackendError, match="still serves") as error:
        backend(aws).start_endpoint(spec(store(aws, "second")))
    assert "teardown" in error.value.hint
    assert aws.calls.count("sagemaker DeleteEndpoint") == 0
    assert backend(aws).delete_endpoint("chats", "chats")


def test_a_run_does_not_touch_the_parts_of_another_whose_name_begins_alike(aws: StandIn) -> None:
    serve(aws, store(aws, "first"))
    for run in ("chats-base", "chats-0123abcd"):
        backend(aws).start_endpoint(spec(store(aws, "other"), run=run, name=run))
        backend(aws).confirm_endpoint(run, run)
    assert [live.name for live in backend(aws).live("chats")] == ["chats"]
    assert backend(aws).delete_endpoint("chats", "chats")
    assert backend(aws).live("chats") == []
    for run in ("chats-base", "chats-0123abcd"):
        assert [live.name for live in backend(aws).live(run)] == [run]
        assert run in {name.rpartition("-")[0] for name in aws.sagemaker.models}
    with pytest.raises(BackendError, match="not of this run"):
        backend(aws).delete_endpoint("chats", "chats-base")


def test_deleting_ends_at_a_deadline_and_says_what_is_billed(aws: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(aws, store(aws, "first"))
    aws.sagemaker.endpoints["chats"].description["EndpointStatus"] = "Updating"  # for ever
    monkeypatch.setattr(endpoints, "_LONGEST_DELETION", 1)
    with pytest.raises(BackendError, match=r"still Updating .* billed"):
        backend(aws).delete_endpoint("chats", "chats")


@pytest.mark.parametrize("fault", ["error", "reset", "lost", "throttle"])
def test_one_fault_on_the_way_does_not_lose_a_request(aws: StandIn, fault: str) -> None:
    endpoint = serve(aws, store(aws, "first"))
    aws.faults = [Fault("runtime chats", fault, times=1)]
    assert answer(aws, endpoint) == "first"


def test_no_answer_is_told_from_a_refusal(aws: StandIn) -> None:
    slow = GOOD.replace("return open", "import time; time.sleep(3); return open")
    endpoint = backend(aws).start_endpoint(spec(store(aws, "first", slow)))
    assert endpoint.load_seconds == 300
    aws.sagemaker.answer_seconds = 0.2
    with pytest.raises(NoAnswerError, match="did not answer"):
        answer(aws, endpoint)
    aws.sagemaker.answer_seconds = 60
    assert answer(aws, endpoint) == "first"
    aws.faults = [Fault("runtime chats", "error")]
    with pytest.raises(NoAnswerError):
        answer(aws, endpoint)
    aws.faults = []
    aws.sagemaker.endpoints["chats"].server.process.kill()  # type: ignore[union-attr]
    aws.sagemaker.endpoints["chats"].server.process.wait()  # type: ignore[union-attr]
    with pytest.raises(NoAnswerError, match="failed"):
        answer(aws, endpoint)


def test_a_bucket_that_somebody_else_owns_is_refused(aws: StandIn) -> None:
    artifact = store(aws, "first")
    aws.owners[aws.bucket] = "999999999999"
    with pytest.raises(BackendError, match="another account's") as error:
        backend(aws).start_endpoint(spec(artifact))
    assert "sagemaker.bucket_owner" in error.value.hint
    with pytest.raises(BackendError, match="not authorized"):
        backend(aws).delete_files("chats", data=True, artifacts=True)
    assert backend(aws, bucket_owner="999999999999").start_endpoint(spec(artifact)).name == "chats"
