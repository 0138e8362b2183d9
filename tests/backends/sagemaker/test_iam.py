"""docs/iam.md: what lorasum calls is what its policy allows."""

import json
import re
from pathlib import Path

import aws_backend
import pytest
import stand_in_container as container
from stand_in import StandIn

from lorasum.backends.records import EndpointSpec, TrainSpec
from lorasum.models.source import ModelRef

GUIDE = Path(__file__).parents[3] / "docs" / "iam.md"
CODE = """
def model_fn(model_dir): return 0
def input_fn(data, content_type): return data
def predict_fn(data, model): return data
def output_fn(prediction, accept): return prediction
"""


def allowed() -> set[str]:
    """The actions of the last policy, which is yours."""
    policy = json.loads(re.findall(r"```json\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)[-1])
    actions = [statement["Action"] for statement in policy["Statement"]]
    return {action for some in actions for action in ([some] if isinstance(some, str) else some)}


@pytest.mark.skipif(not container.possible(), reason="this system gives no mount namespaces")
def test_the_policy_allows_every_call_of_a_run(account: StandIn) -> None:
    backend = aws_backend.backend(account)
    job = backend.start_training(TrainSpec("chats", "chats-0123abcd", ModelRef("org/m"), Path("/no/data"), {}))
    list(backend.follow_training(job))
    backend.stop_training(job)
    for name in ("first", "second"):
        account.aws.keep(f"s3://{account.bucket}/{name}/code/inference.py", CODE.encode())
        endpoint = backend.start_endpoint(EndpointSpec("chats", "chats", f"s3://{account.bucket}/{name}/"))
        backend.invoke(endpoint, {"inputs": "hi"}, 60)
        backend.confirm_endpoint("chats", "chats")
    backend.endpoint_state("chats", "chats")
    backend.live("chats")
    assert backend.log_tail(endpoint)
    assert list(backend.log_lines("endpoint", "chats", "chats", follow=False))
    backend.delete_endpoint("chats", "chats")
    backend.delete_files("chats", data=True, artifacts=True)
    backend.usd_per_hour("endpoint")
    services = ("sagemaker ", "logs ", "servicequotas ", "tagging ")
    called = {":".join(call.split(" ")[:2]) for call in account.calls if call.startswith(services)}
    called = {call.replace("tagging:", "tag:") for call in called}
    assert {"sagemaker:UpdateEndpoint", "sagemaker:AddTags", "logs:GetLogEvents", "tag:GetResources"} <= called
    assert called <= allowed()
