"""What an hour costs, where the price list cannot be asked."""

import pytest

from lorasum.backends.sagemaker.backend import SageMakerBackend
from lorasum.backends.sagemaker.prices import TABLE_DATE, usd_per_hour
from lorasum.backends.sagemaker.session import Session
from lorasum.config.sagemaker import SageMakerConfig
from lorasum.reporting import Silent


def test_without_a_price_list_the_table_gives_the_prices_it_has(aws: str) -> None:
    session = Session(SageMakerConfig())
    assert usd_per_hour(session, "ml.g5.2xlarge", "Training") == 1.515
    assert usd_per_hour(session, "ml.p9.48xlarge", "Training") is None


def test_a_training_and_a_batch_job_pay_for_each_of_their_instances(aws: str) -> None:
    backend = SageMakerBackend(SageMakerConfig(instance_count=3, batch_instance_count=2), Silent())
    assert backend.usd_per_hour("training_job") == pytest.approx(3 * 1.515)
    assert backend.usd_per_hour("batch_job") == pytest.approx(2 * 1.515)
    assert backend.usd_per_hour("endpoint") == 2.03


def test_a_price_that_no_source_has_is_unknown(aws: str) -> None:
    assert usd_per_hour(Session(SageMakerConfig()), "ml.g6.2xlarge", "Hosting") == 1.222
    session = Session(SageMakerConfig())
    assert not [
        name
        for name in ("ml.g6.2xlarge", "ml.g6e.xlarge", "ml.p4d.24xlarge", "ml.p5.48xlarge")
        if usd_per_hour(session, name, "Training") is not None
    ]
    assert not session.prices_are_estimates


def test_govcloud_and_china_have_no_prices(aws: str) -> None:
    for region, partition in (("us-gov-west-1", "aws-us-gov"), ("cn-north-1", "aws-cn")):
        session = Session(SageMakerConfig(region=region))
        assert session.partition == partition
        assert usd_per_hour(session, "ml.g5.2xlarge", "Training") is None


def test_a_price_of_the_table_is_said_to_be_one(aws: str) -> None:
    class Steps(Silent):
        def __init__(self) -> None:
            self.said: list[str] = []

        def step(self, message: str) -> None:
            self.said.append(message)

    told = Steps()
    backend = SageMakerBackend(SageMakerConfig(), told)
    for _ in range(2):
        assert backend.usd_per_hour("training_job") == 1.515
    assert told.said == [f"prices are those of us-east-1 in {TABLE_DATE}: AWS's price list did not answer"]
