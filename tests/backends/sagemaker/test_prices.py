"""What an hour costs, where the price list cannot be asked."""

import pytest
from memory_backend import RecordingReporter

from lorasum.backends.sagemaker.backend import SageMakerBackend
from lorasum.backends.sagemaker.prices import TABLE_DATE, usd_per_hour
from lorasum.backends.sagemaker.session import Session
from lorasum.config.sagemaker import SageMakerConfig
from lorasum.reporting import Silent


def test_without_a_price_list_the_table_gives_the_prices_it_has(aws: str) -> None:
    session = Session(SageMakerConfig(region="us-east-2"))
    assert usd_per_hour(session, "ml.g5.2xlarge", "Training") == 1.515
    assert usd_per_hour(session, "ml.p9.48xlarge", "Training") is None


def test_a_training_and_a_batch_job_pay_for_each_of_their_instances(aws: str) -> None:
    backend = SageMakerBackend(SageMakerConfig(region="us-east-1", instance_count=3, batch_instance_count=2), Silent())
    assert backend.usd_per_hour("training_job") == pytest.approx(3 * 1.515)
    assert backend.usd_per_hour("batch_job") == pytest.approx(2 * 1.515)
    assert backend.usd_per_hour("endpoint") == 2.03


def test_a_price_that_no_source_has_is_unknown(aws: str) -> None:
    assert usd_per_hour(Session(SageMakerConfig(region="us-east-1")), "ml.g6.2xlarge", "Hosting") == 1.222
    told = RecordingReporter()
    session = Session(SageMakerConfig(), told)
    assert not [
        name
        for name in ("ml.g6.2xlarge", "ml.g6e.xlarge", "ml.p4d.24xlarge", "ml.p5.48xlarge")
        if usd_per_hour(session, name, "Training") is not None
    ]
    assert told.warnings == []


def test_govcloud_and_china_have_no_prices(aws: str) -> None:
    for region, partition in (("us-gov-west-1", "aws-us-gov"), ("cn-north-1", "aws-cn")):
        session = Session(SageMakerConfig(region=region))
        assert session.partition == partition
        assert usd_per_hour(session, "ml.g5.2xlarge", "Training") is None


@pytest.mark.parametrize(("region", "usd"), [("us-east-1", 1.515), ("us-west-2", 1.515), ("sa-east-1", 1.75 * 1.515)])
def test_a_price_of_the_table_is_never_too_low_and_told_once(aws: str, region: str, usd: float) -> None:
    told = RecordingReporter()
    backend = SageMakerBackend(SageMakerConfig(region=region), told)
    for _ in range(2):
        assert backend.usd_per_hour("training_job") == pytest.approx(usd)
    [warning] = told.warnings
    assert warning.startswith(f"AWS's price list did not answer: prices are those of us-east-1 in {TABLE_DATE}")
    assert ("times 1.75 because sa-east-1 may be dearer" in warning) == (region == "sa-east-1")
