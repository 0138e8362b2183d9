"""Models and endpoint configurations: the two parts of an endpoint that cost nothing.

Both have the same name, <endpoint>-<hash of their content>, and the run's tag. So they are found without any record,
and are not confused with those of another run. A configuration that has answered a request gets a tag: a failed update
goes back to it.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from lorasum.aws import aws_errors
from lorasum.backends.sagemaker import sdk
from lorasum.backends.sagemaker.session import Session
from lorasum.backends.sagemaker.tags import of_run, tags_of

TAG_ANSWERED = "lorasum:answered"
_NAME = re.compile(r"(?P<endpoint>.+)-[0-9a-f]{8}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Part:
    """A configuration, the model of the same name, or both.

    Attributes:
        configuration: ARN of the configuration; empty if there is only a model.
        model: ARN of the model; empty if there is only a configuration.
        answered: whether an endpoint with this configuration has answered a request. It is looked up where the parts of
            one endpoint are asked for.
    """

    name: str
    configuration: str = ""
    model: str = ""
    created: datetime = _EPOCH
    answered: bool = False

    @property
    def endpoint(self) -> str:
        """Name of the endpoint that it belongs to."""
        return self.name.rpartition("-")[0]


def find(session: Session, run: str, endpoint: str | None = None) -> list[Part]:
    """The run's parts, or those of one of its endpoints, the oldest first."""
    configurations = _ours(session, run, endpoint, "list_endpoint_configs", "EndpointConfig")
    models = _ours(session, run, endpoint, "list_models", "Model")
    found = []
    for name in {**configurations, **models}:
        configuration, model = configurations.get(name, {}), models.get(name, {})
        created = [item["CreationTime"] for item in (configuration, model) if item]
        arns = configuration.get("EndpointConfigArn", ""), model.get("ModelArn", "")
        answered = bool(endpoint and arns[0]) and TAG_ANSWERED in tags_of(session, arns[0])
        found.append(Part(name, *arns, max(created), answered))
    return sorted(found, key=lambda part: part.created)


def mark_answered(session: Session, part: Part) -> None:
    """Tag a configuration, because an endpoint with it has answered a request."""
    with aws_errors(f"tag the configuration {part.name}", "sagemaker:AddTags"):
        session.client("sagemaker").add_tags(
            ResourceArn=part.configuration, Tags=[{"Key": TAG_ANSWERED, "Value": "true"}]
        )


def delete(session: Session, parts: Iterable[Part]) -> None:
    """Delete configurations and models."""
    for part in parts:
        if part.configuration and (configuration := sdk.get(session, "EndpointConfig", part.name)):
            sdk.delete(configuration)  # first, because it names the model
        if part.model and (model := sdk.get(session, "Model", part.name)):
            sdk.delete(model)


def listed(session: Session, operation: str, name: str, **wanted: str) -> list[dict[str, Any]]:
    """All items of a call such as list_endpoints whose names contain `name`; `wanted` are further arguments of it."""
    with aws_errors(operation.replace("_", " "), action_of(operation)):
        pages = (
            session.client("sagemaker")
            .get_paginator(operation)
            .paginate(NameContains=name, PaginationConfig={"PageSize": 100}, **wanted)
        )
        return [item for page in pages for values in page.values() if isinstance(values, list) for item in values]


def action_of(operation: str) -> str:
    """The IAM action of a call: describe_endpoint → sagemaker:DescribeEndpoint."""
    return "sagemaker:" + "".join(word.title() for word in operation.split("_"))


def _ours(session: Session, run: str, endpoint: str | None, operation: str, kind: str) -> dict[str, dict[str, Any]]:
    """Listed items that have the run's tag, by name."""
    items = {}
    for item in listed(session, operation, endpoint or run):
        name = _NAME.fullmatch(item[f"{kind}Name"])
        if name and endpoint in (None, name["endpoint"]):
            items[item[f"{kind}Arn"]] = item
    return {items[arn][f"{kind}Name"]: items[arn] for arn in of_run(session, run, list(items))}
