"""The SageMaker backend in an account of the stand-in."""

from typing import Any

from stand_in import StandIn

from lorasum.backends.sagemaker.backend import SageMakerBackend
from lorasum.config.sagemaker import SageMakerConfig
from lorasum.reporting import Reporter, Silent

_SILENT = Silent()


def backend(account: StandIn, report: Reporter = _SILENT, /, **config: Any) -> SageMakerBackend:
    """It knows bucket, role and images; `config` has more keys of the section `sagemaker`, or others for these."""
    place = {"bucket": account.bucket, "role": account.role_arn}
    images = {"training_image": "image:1", "inference_image": "plain:1"}
    return SageMakerBackend(SageMakerConfig.model_validate({**place, **images, **config}), report)
