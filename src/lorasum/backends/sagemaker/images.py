"""The container image of a job or endpoint: the one that the config names, or Hugging Face's for its versions."""

from lorasum.backends.sagemaker import sdk
from lorasum.config.sagemaker import SageMakerConfig
from lorasum.errors import BackendError
from lorasum.system.files import first_line


def training_image(config: SageMakerConfig, region: str) -> str:
    """URI of the training image."""
    versions = (config.training_transformers_version, config.training_pytorch_version)
    return config.training_image or _hugging_face("training", *versions, config.training_instance_type, region)


def inference_image(config: SageMakerConfig, region: str) -> str:
    """URI of the inference image, for transformers or for vLLM."""
    if config.inference_image:
        return config.inference_image
    if config.engine == "vllm":
        what = f"Hugging Face vLLM image of version {config.vllm_version}"
        return _retrieve(
            what, "sagemaker.vllm_version", framework="huggingface-vllm", region=region, version=config.vllm_version,
            instance_type=config.endpoint_instance_type, image_scope="inference",
        )  # fmt: skip
    versions = (config.inference_transformers_version, config.inference_pytorch_version)
    return _hugging_face("inference", *versions, config.endpoint_instance_type, region)


def _hugging_face(scope: str, transformers: str, pytorch: str, instance: str, region: str) -> str:
    return _retrieve(
        f"Hugging Face {scope} image of transformers {transformers} on PyTorch {pytorch}",
        f"sagemaker.{scope}_transformers_version and _pytorch_version to a pair",
        framework="huggingface", region=region, version=transformers, base_framework_version=f"pytorch{pytorch}",
        py_version="py312", instance_type=instance, image_scope=scope,
    )  # fmt: skip


def _retrieve(what: str, fields: str, **wanted: str) -> str:
    """The URI of an image that the SDK knows."""
    image_uris = sdk.load("image_uris")
    try:
        uri: str = image_uris.retrieve(**wanted)
    except (ValueError, KeyError) as error:
        of_your_own = f"sagemaker.{wanted['image_scope']}_image to one of your own"
        raise BackendError(
            f"no {what} in {wanted['region']}: {first_line(error)}",
            f"choose another sagemaker.region, or set {of_your_own} there"
            if "unsupported region" in str(error).lower()
            else f"set {fields} that exists, or {of_your_own}",
        ) from error
    return uri
