"""Which backends there are. Only this module knows them all."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lorasum.backends.base import Backend
    from lorasum.config.schema import Config
    from lorasum.reporting import Reporter


def backend(config: "Config", report: "Reporter") -> "Backend":
    """The backend that a config names."""
    if config.backend == "sagemaker":
        from lorasum.backends.sagemaker.backend import SageMakerBackend

        return SageMakerBackend(config.sagemaker, report)
    return local()


def local() -> "Backend":
    """The backend of this machine, which needs no config."""
    from lorasum.backends.local.backend import LocalBackend

    return LocalBackend()
