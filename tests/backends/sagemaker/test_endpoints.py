"""Endpoints on an account that behaves as SageMaker does: what is kept, what is put back, and what is deleted."""

from typing import Any

import pytest
import stand_in_container as container
from aws_backend import backend
from memory_backend import RecordingReporter
from stand_in import Fault, StandIn

from lorasum.backends.records import EndpointRef, EndpointSpec
from lorasum.backends.sagemaker import endpoint_deletion
from lorasum.backends.sagemaker.session import Session
from lorasum.errors import BackendError, NoAnswerError, OutageError, RefusedError
from lorasum.shared.requests import refusal_text

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not container.possible(), reason="this system gives no mount namespaces"),
]

GOOD = """
def model_fn(model_dir): return open(model_dir + "/weights").read()
def input_fn(data, content_type): return data
def predict_fn(data, model): return '"' + model + '"'
def output_fn(prediction, accept): return prediction
"""
BROKEN = GOOD.replace("return open", "raise RuntimeError('no such layer'); return open")


def store(account: StandIn, name: str, code: str = GOOD) -> str:
    """An artifact whose model answers its name."""
    for key, text in {"code/inference.py": code, "weights": name}.items():
        account.aws.client("s3").put_object(Bucket=account.bucket, Key=f"artifacts/{name}/{key}", Body=text.encode())
    return f"s3://{account.bucket}/artifacts/{name}/"


def spec(artifact: str, run: str = "chats", name: str = "chats") -> EndpointSpec:
    return EndpointSpec(run=run, name=name, artifact=artifact)


def answer(account: StandIn, endpoint: EndpointRef) -> Any:
    return backend(account).invoke(endpoint, {"inputs": "hi"}, 60)


def serve(account: StandIn, artifact: str, **config: Any) -> EndpointRef:
    """Deploy and confirm."""
    endpoint = backend(account, **config).start_endpoint(spec(artifact))
    backend(account, **config).confirm_endpoint("chats", "chats")
    return endpoint


def test_the_old_model_is_kept_until_the_new_one_has_answered(account: StandIn) -> None:
    serve(account, store(account, "first"))
    second = backend(account).start_endpoint(spec(store(account, "second")))
    assert len(account.sagemaker.models) == len(account.sagemaker.configs) == 2
    assert answer(account, second) == "second"
    backend(account).confirm_endpoint("chats", "chats")
    assert len(account.sagemaker.models) == len(account.sagemaker.configs) == 1
    assert answer(account, second) == "second"


def test_a_new_model_that_does_not_answer_gives_way_to_the_old_one(account: StandIn) -> None:
    first = serve(account, store(account, "first"))
    endpoint = backend(account).start_endpoint(spec(store(account, "second", BROKEN)))
    with pytest.raises(BackendError, match="failed: no such layer"):
        answer(account, endpoint)
    back = backend(account).restore_endpoint("chats", "chats")
    assert back is not None
    assert back.artifact == first.artifact
    assert answer(account, back) == "first"
    assert len(account.sagemaker.models) == len(account.sagemaker.configs) == 1
    assert account.calls.count("sagemaker DeleteEndpoint") == 0


def test_a_first_endpoint_has_nothing_to_go_back_to(account: StandIn) -> None:
    backend(account).start_endpoint(spec(store(account, "first", BROKEN)))
    assert backend(account).restore_endpoint("chats", "chats") is None


def test_a_configuration_that_never_served_is_not_gone_back_to(account: StandIn) -> None:
    serve(account, store(account, "first"))
    account.faults = [Fault("UpdateEndpoint$", "denied")]
    with pytest.raises(BackendError, match="not authorized"):  # as if killed before the update
        backend(account).start_endpoint(spec(store(account, "second", BROKEN)))
    account.faults = []
    backend(account).start_endpoint(spec(store(account, "third", BROKEN)))
    back = backend(account).restore_endpoint("chats", "chats")
    assert back is not None
    assert answer(account, back) == "first"
    assert len(account.sagemaker.configs) == 1


def test_an_endpoint_of_an_earlier_version_is_gone_back_to(account: StandIn) -> None:
    backend(account).start_endpoint(spec(store(account, "first")))  # not confirmed: nothing is tagged as answered
    backend(account).start_endpoint(spec(store(account, "second", BROKEN)))
    back = backend(account).restore_endpoint("chats", "chats")
    assert back is not None
    assert answer(account, back) == "first"


def test_an_update_keeps_the_size_of_the_fleet(account: StandIn) -> None:
    serve(account, store(account, "first"), max_instances=4)
    account.sagemaker.endpoints["chats"].description["ProductionVariants"][0]["CurrentInstanceCount"] = 3
    serve(account, store(account, "second"), max_instances=4)
    assert account.sagemaker.endpoints["chats"].instances == 3


@pytest.mark.parametrize("changed", ["first", "second"])
def test_fewer_instances_than_run_are_asked_for(account: StandIn, changed: str) -> None:
    """All three stayed, and the price that was told, and the limit that was kept, were those of one."""
    serve(account, store(account, "first"), max_instances=4)
    account.sagemaker.endpoints["chats"].description["ProductionVariants"][0]["CurrentInstanceCount"] = 3
    serve(account, store(account, changed), max_instances=2)
    assert account.sagemaker.endpoints["chats"].instances == 2
    assert account.aws.scaled("chats")
    assert answer(account, serve(account, store(account, changed))) == changed
    assert account.sagemaker.endpoints["chats"].instances == 1


def test_an_update_stays_where_its_fleet_may_not_be_made_smaller(account: StandIn) -> None:
    """It was called off, and paid for a second time to go back."""
    serve(account, store(account, "first"), max_instances=4)
    account.sagemaker.endpoints["chats"].description["ProductionVariants"][0]["CurrentInstanceCount"] = 3
    account.faults = [Fault("UpdateEndpointWeightsAndCapacities$", "denied")]
    told = RecordingReporter()
    endpoint = backend(account, told).start_endpoint(spec(store(account, "second")))
    assert (answer(account, endpoint), account.sagemaker.endpoints["chats"].instances) == ("second", 3)
    assert "its instances stay, and each is billed" in told.warnings[-1]


def test_an_update_that_could_not_be_undone_is_shown_and_not_deleted(account: StandIn) -> None:
    artifact = store(account, "first")
    serve(account, artifact)
    account.sagemaker.endpoints["chats"].description["EndpointStatus"] = "UpdateRollbackFailed"
    state = backend(account).endpoint_state("chats", "chats")
    assert state.status == "in_service"
    assert "is billed" in state.reason
    with pytest.raises(BackendError, match="still serves") as error:
        backend(account).start_endpoint(spec(store(account, "second")))
    assert "teardown" in error.value.hint
    assert account.calls.count("sagemaker DeleteEndpoint") == 0
    assert backend(account).delete_endpoint("chats", "chats")


def test_deleting_spares_runs_whose_names_begin_alike(account: StandIn) -> None:
    serve(account, store(account, "first"))
    for run in ("chats-base", "chats-0123abcd"):
        backend(account).start_endpoint(spec(store(account, "other"), run=run, name=run))
        backend(account).confirm_endpoint(run, run)
    assert [live.name for live in backend(account).live("chats")] == ["chats"]
    assert backend(account).delete_endpoint("chats", "chats")
    assert backend(account).live("chats") == []
    for run in ("chats-base", "chats-0123abcd"):
        assert [live.name for live in backend(account).live(run)] == [run]
        assert run in {name.rpartition("-")[0] for name in account.sagemaker.models}
    with pytest.raises(BackendError, match="not of this run"):
        backend(account).delete_endpoint("chats", "chats-base")


def test_deleting_ends_at_a_deadline_and_says_what_is_billed(account: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(account, store(account, "first"))
    account.sagemaker.endpoints["chats"].description["EndpointStatus"] = "Updating"  # for ever
    monkeypatch.setattr(endpoint_deletion, "LONGEST_WAIT", 1)
    with pytest.raises(BackendError, match=r"still Updating .* billed"):
        backend(account).delete_endpoint("chats", "chats")


@pytest.mark.parametrize("fault", ["error", "reset", "lost", "throttle"])
def test_one_fault_on_the_way_does_not_lose_a_request(account: StandIn, fault: str) -> None:
    endpoint = serve(account, store(account, "first"))
    account.faults = [Fault("runtime chats", fault, times=1)]
    assert answer(account, endpoint) == "first"


def test_an_answer_is_waited_for_longer_than_the_service_waits(
    account: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited, runtime = [], Session.runtime

    def noted(session: Session, timeout: float) -> Any:
        client = runtime(session, timeout)
        waited.append(client.meta.config.read_timeout)
        return client

    monkeypatch.setattr(Session, "runtime", noted)
    assert answer(account, serve(account, store(account, "first"))) == "first"
    assert waited == [70], "InvokeEndpoint's page asks for it: the service ends a request after 60 s"


def test_a_missing_answer_differs_from_a_refusal(account: StandIn) -> None:
    waits = "\n    import os, time\n    while not os.path.exists(model_dir + '/go'): time.sleep(0.05)\n    return open"
    endpoint = backend(account).start_endpoint(spec(store(account, "first", GOOD.replace(" return open", waits, 1))))
    assert endpoint.load_seconds == 300
    account.sagemaker.answer_seconds = 0.2
    with pytest.raises(NoAnswerError, match="did not answer"):
        answer(account, endpoint)
    account.sagemaker.answer_seconds = 60
    (account.sagemaker.endpoints["chats"].server.root / "ml" / "model" / "go").touch()  # type: ignore[union-attr]
    assert answer(account, endpoint) == "first"
    account.faults = [Fault("runtime chats", "error", times=3)]
    with pytest.raises(NoAnswerError):
        answer(account, endpoint)
    for kind in ("reset", "throttle"):
        account.faults = [Fault("runtime chats", kind)]
        with pytest.raises(OutageError):
            answer(account, endpoint)
    account.faults = []
    account.sagemaker.endpoints["chats"].server.process.kill()  # type: ignore[union-attr]
    account.sagemaker.endpoints["chats"].server.process.wait()  # type: ignore[union-attr]
    with pytest.raises(NoAnswerError, match="failed"):
        answer(account, endpoint)


def test_a_crash_of_the_handler_is_not_called_a_refusal(account: StandIn) -> None:
    raises = "import json; said = json.loads(data)['inputs']; raise ValueError(said)"
    code = GOOD.replace("return data", raises)
    endpoint = backend(account).start_endpoint(spec(store(account, "first", code)))
    with pytest.raises(RefusedError, match="chats refused the request: the prompt is too long"):
        backend(account).invoke(endpoint, {"inputs": refusal_text("the prompt is too long")}, 60)
    with pytest.raises(BackendError, match="chats failed: expected all tensors on one device") as crash:
        backend(account).invoke(endpoint, {"inputs": "expected all tensors on one device"}, 60)
    assert not isinstance(crash.value, RefusedError)


def test_a_bucket_that_somebody_else_owns_is_refused(account: StandIn) -> None:
    artifact = store(account, "first")
    account.owners[account.bucket] = "999999999999"
    with pytest.raises(BackendError, match="another account's") as error:
        backend(account).start_endpoint(spec(artifact))
    assert "sagemaker.bucket_owner" in error.value.hint
    with pytest.raises(BackendError, match="not authorized"):
        backend(account).delete_files("chats", data=True, artifacts=True)
    assert backend(account, bucket_owner="999999999999").start_endpoint(spec(artifact)).name == "chats"


def test_an_endpoint_takes_the_first_instance_type_that_is_free(account: StandIn) -> None:
    account.sagemaker.sold_out = {"ml.g5.4xlarge"}
    with pytest.raises(BackendError, match="InsufficientInstanceCapacity"):
        backend(account).start_endpoint(spec(store(account, "first")))
    assert account.sagemaker.models == {}
    serve(account, store(account, "first"), endpoint_instance_alternatives=["ml.g5.8xlarge"])
    assert account.sagemaker.endpoints["chats"].instance_type == "ml.g5.8xlarge"
