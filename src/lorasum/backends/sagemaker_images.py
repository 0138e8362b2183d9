"""Which container image a job or an endpoint runs: the config's, or Hugging Face's of exactly the config's versions."""

from lorasum.config import SageMakerConfig
from lorasum.errors import BackendError


def training_image(config: SageMakerConfig, region: str) -> str:
    """URI of the training image."""
    versions = (config.training_transformers_version, config.training_pytorch_version)
    return config.training_image or _hugging_face("training", *versions, config.training_instance_type, region)


def inference_image(config: SageMakerConfig, region: str) -> str:
    """URI of the inference image."""
    versions = (config.inference_transformers_version, config.inference_pytorch_version)
    return config.inference_image or _hugging_face("inference", *versions, config.endpoint_instance_type, region)


def _hugging_face(scope: str, transformers: str, pytorch: str, instance: str, region: str) -> str:
    try:
        from sagemaker.core import image_uris  # 2 s
    except ImportError as error:
        raise BackendError("the sagemaker backend needs sagemaker-core", "pip install 'lorasum[sagemaker]'") from error
    try:
        uri: str = image_uris.retrieve(
            "huggingface",
            region=region,
            version=transformers,
            base_framework_version=f"pytorch{pytorch}",
            py_version="py312",
            instance_type=instance,
            image_scope=scope,
        )
    except (ValueError, KeyError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BackendError(
            f"no Hugging Face {scope} image of transformers {transformers} on PyTorch {pytorch} in {region}: {first}",
            f"set sagemaker.{scope}_transformers_version and _pytorch_version to a pair that exists, "
            f"or sagemaker.{scope}_image",
        ) from error
    return uri
