"""What an hour costs, where the price list cannot be asked."""

from lorasum.backends.sagemaker.prices import usd_per_hour
from lorasum.backends.sagemaker.session import Session
from lorasum.config.sagemaker import SageMakerConfig


def test_without_a_price_list_the_table_is_asked_and_what_it_lacks_is_unknown(aws: str) -> None:
    session = Session(SageMakerConfig())
    assert usd_per_hour(session, "ml.g5.2xlarge", "Training") == 1.515
    assert usd_per_hour(session, "ml.p9.48xlarge", "Training") is None
