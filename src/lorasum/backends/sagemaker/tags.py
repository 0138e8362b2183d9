"""Tags: what belongs to which run.

SageMaker tells the tags of one resource a call. The tagging API tells those of a hundred, but from an index that lags
behind: what was made a moment ago is not in it. So SageMaker is asked about what the index does not know, and about
everything where the user may not read the index.
"""

from collections.abc import Iterator, Sequence

from lorasum.aws import aws_errors, is_denied, unless_missing
from lorasum.backends.sagemaker.job_requests import TAG_RUN
from lorasum.backends.sagemaker.session import Session
from lorasum.errors import BackendError
from lorasum.system.batched import batched

_AT_ONCE = 100  # resources; the tagging API's limit


def of_run(session: Session, run: str, arns: Sequence[str]) -> set[str]:
    """Those resources that have the run's tag."""
    return {arn for arn, tagged in runs_of(session, arns).items() if tagged == run}


def runs_of(session: Session, arns: Sequence[str]) -> dict[str, str]:
    """The run that each resource is tagged with; empty for one that has no such tag."""
    indexed = dict(_indexed(session, arns)) if len(arns) > 1 else {}
    unknown = [arn for arn in arns if TAG_RUN not in indexed.get(arn, {})]
    known = indexed | {arn: tags_of(session, arn) for arn in unknown}
    return {arn: known[arn].get(TAG_RUN, "") for arn in arns}


def all_runs(session: Session) -> list[str]:
    """The runs that have something here, as the index knows them."""
    with aws_errors("look up tags", "tag:GetResources"):
        paginator = session.client("resourcegroupstaggingapi").get_paginator("get_resources")
        pages = list(paginator.paginate(TagFilters=[{"Key": TAG_RUN}]))
    tags = [tag for page in pages for one in page["ResourceTagMappingList"] for tag in one["Tags"]]
    return sorted({tag["Value"] for tag in tags if tag["Key"] == TAG_RUN})


def tags_of(session: Session, arn: str) -> dict[str, str]:
    """The tags of a resource as they are now; empty if it is gone."""
    with unless_missing(), aws_errors(f"read the tags of {arn.rpartition('/')[2]}", "sagemaker:ListTags"):
        listed = session.client("sagemaker").list_tags(ResourceArn=arn)["Tags"]
        return {tag["Key"]: tag["Value"] for tag in listed}
    return {}


def _indexed(session: Session, arns: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """ARN and tags of those resources that the index knows; none if the user may not read it."""
    for some in batched(arns, _AT_ONCE):
        try:
            with aws_errors("look up tags", "tag:GetResources"):
                found = session.client("resourcegroupstaggingapi").get_resources(ResourceARNList=some)
        except BackendError as error:
            if is_denied(error.__cause__):
                return
            raise
        for resource in found["ResourceTagMappingList"]:
            yield resource["ResourceARN"], {tag["Key"]: tag["Value"] for tag in resource["Tags"]}
