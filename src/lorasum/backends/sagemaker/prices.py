"""What an instance costs, and what a training job was billed.

Prices come from AWS's price list and are remembered for a day. If it does not answer, they come from a table below, and
are too high rather than too low: `limits` turn them into the time after which a job is stopped.
"""

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from lorasum.backends.sagemaker.session import Session
from lorasum.system.cache import read_cache, write_cache

if TYPE_CHECKING:
    from sagemaker.core.resources import TrainingJob

PriceKind = Literal["Training", "Hosting"]

TABLE_DATE = "January 2025"
_TABLE = {
    "ml.g4dn.xlarge": 0.736,
    "ml.g4dn.2xlarge": 0.94,
    "ml.g4dn.4xlarge": 1.505,
    "ml.g4dn.8xlarge": 2.72,
    "ml.g4dn.12xlarge": 4.89,
    "ml.g4dn.16xlarge": 5.44,
    "ml.g5.xlarge": 1.408,
    "ml.g5.2xlarge": 1.515,
    "ml.g5.4xlarge": 2.03,
    "ml.g5.8xlarge": 3.06,
    "ml.g5.12xlarge": 7.09,
    "ml.g5.16xlarge": 5.12,
    "ml.g5.24xlarge": 10.18,
    "ml.g5.48xlarge": 20.36,
    "ml.m5.large": 0.115,
    "ml.m5.xlarge": 0.23,
    "ml.p3.2xlarge": 3.825,
}
"""USD per hour on demand in us-east-1, for training as for hosting.

The sources are tables that people copied from AWS's pricing page, the newest of them pricing.yml of
aws-samples/foundation-model-benchmarking-tool.
"""
_HOSTING = {
    "ml.g6.2xlarge": 1.222,
    "ml.g6.12xlarge": 5.752,
    "ml.g6.16xlarge": 4.246,
    "ml.g6.24xlarge": 8.344,
    "ml.g6.48xlarge": 16.688,
}
"""The same, for hosting only. Training on these costs less, and the sources do not agree how much.

g6e, p4 and p5 are missing on purpose: p4 and p5 became cheaper in June 2025, and the sources for g6e do not agree.
"""
_TABLE_REGIONS = ("us-east-1", "us-east-2", "us-west-2")
"""Regions that are taken to have the prices of us-east-1, as EC2 has there for what was looked at (m6gd)."""
_DEAREST = 1.75
"""Times the table's price in other regions. It is an assumption: EC2's g4dn and g5 are remembered to cost 1.7 times as
much in São Paulo, which was not looked up."""
_FRESH = 24 * 3600  # seconds


def usd_per_hour(session: Session, instance_type: str, kind: PriceKind) -> float | None:
    """On-demand price of one instance in USD; None if it is unknown. It raises nothing.

    Prices in China and GovCloud are unknown: their price lists cannot be queried, and their prices differ too much
    from those of us-east-1.
    """
    if session.partition != "aws":
        return None
    key = f"{session.region} {instance_type} {kind}"
    known = read_cache("prices")
    if key in known and time.time() - known[key]["at"] < _FRESH:
        return float(known[key]["usd"])
    price = _listed(session, instance_type, kind)
    if price is None:
        return _estimated(session, instance_type, kind)
    write_cache("prices", known | {key: {"usd": price, "at": time.time()}})
    return price


def _estimated(session: Session, instance_type: str, kind: PriceKind) -> float | None:
    """The table's price, or in other regions the most that it may be there; None if the table has none."""
    price = (_TABLE | (_HOSTING if kind == "Hosting" else {})).get(instance_type)
    if price is None:
        return None
    factor = 1.0 if session.region in _TABLE_REGIONS else _DEAREST
    most = "" if factor == 1 else f", times {factor} because {session.region} may be dearer"
    session.warn_once(f"AWS's price list did not answer: prices are those of us-east-1 in {TABLE_DATE}{most}")
    return price * factor


def billed_usd(session: Session, job: "TrainingJob") -> float | None:
    """USD that a training job has cost up to now; None if its price is unknown."""
    resources = job.resource_config
    instance_type = resources.selected_instance_type or resources.instance_type or None
    if instance_type is None:
        return 0.0  # it is still waiting for one
    price = usd_per_hour(session, instance_type, "Training")
    count = resources.instance_count if isinstance(resources.instance_count, int) else 1
    return None if price is None else billed_seconds(job) / 3600 * price * count


def billed_seconds(job: "TrainingJob") -> float:
    """Seconds that each instance is paid for at the price on demand; with spot they are fewer than the job ran.

    The time in which its instance is kept warm is paid for as well: SageMaker tells it once the instance was let go.
    """
    now = datetime.now(UTC)
    pool = job.warm_pool_status
    warm = float((pool and pool.resource_retained_billable_time_in_seconds) or 0)
    if kept_warm(job):
        warm = max(warm, _seconds(job.training_end_time, now))
    if isinstance(job.billable_time_in_seconds, int):
        return job.billable_time_in_seconds + warm
    if not job.training_start_time:
        return 0.0
    return _seconds(job.training_start_time, job.training_end_time or now) + warm


def kept_warm(job: "TrainingJob") -> bool:
    """Whether a training job has ended and its instance is kept, and billed."""
    pool = job.warm_pool_status
    return bool(job.training_end_time and pool) and pool.status in ("InUse", "Available")


def _seconds(began: datetime, ended: datetime) -> float:
    return max((ended - began).total_seconds(), 0.0)


def _listed(session: Session, instance_type: str, kind: PriceKind) -> float | None:
    from botocore.exceptions import BotoCoreError, ClientError

    if session.has_no_price_list:
        return None
    wanted = {"regionCode": session.region, "instanceName": instance_type, "component": kind}
    filters = [{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in wanted.items()]
    try:
        answer = session.impatient("pricing", "us-east-1").get_products(
            ServiceCode="AmazonSageMaker", Filters=filters, MaxResults=10
        )
        prices = [_price(json.loads(text)) for text in answer["PriceList"]]
    except (BotoCoreError, ClientError, KeyError, ValueError):
        session.has_no_price_list = True  # not permitted, not reachable, or in another format: the table is used
        return None
    return next((price for price in prices if price), None)


def _price(product: dict[str, Any]) -> float:
    [term] = product["terms"]["OnDemand"].values()
    [dimension] = term["priceDimensions"].values()
    return float(dimension["pricePerUnit"]["USD"])
