"""The input channels of a training job: dataset and scripts, and where needed base model, summaries and packages."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lorasum.backends.records import TrainSpec
from lorasum.backends.sagemaker import storage, wheels
from lorasum.backends.sagemaker.layout import Folder, Place
from lorasum.config.sagemaker import SageMakerConfig
from lorasum.shared.names import CHANNEL_BASE, CHANNEL_CODE, CHANNEL_MODEL, CHANNEL_TRAINING, CHANNEL_WHEELS
from lorasum.system import paths


@dataclass(frozen=True, slots=True)
class Channel:
    """One input channel of a training job.

    Attributes:
        what: what the user knows it as, such as "the dataset".
        content: name of the folder below `folder`: a hash of what is in it.
        files: the files that are uploaded; asked for only by a job that is started.
    """

    what: str
    folder: Folder
    content: str
    files: Callable[[], list[storage.StoredFile]]


def channels_of(config: SageMakerConfig, spec: TrainSpec) -> dict[str, Channel]:
    """What is sent to the container, by channel. Each has a folder named by a hash of its content."""
    scripts = storage.folder_files(paths.container_scripts())
    channels = {
        CHANNEL_TRAINING: Channel("the dataset", Folder.DATA, spec.dataset.name, lambda: _files(spec.dataset)),
        CHANNEL_CODE: Channel("the scripts", Folder.CODE, storage.fingerprint(scripts), lambda: scripts),
    }
    if spec.model.path:
        weights = storage.folder_files(spec.model.path)
        name = storage.fingerprint(weights)
        channels[CHANNEL_MODEL] = Channel("the base model", Folder.MODELS, name, lambda: weights)
    if spec.base_summaries:
        kept = storage.folder_files(spec.base_summaries)
        channels[CHANNEL_BASE] = Channel(
            "the base model's summaries", Folder.DATA, storage.fingerprint(kept), lambda: kept
        )
    if wheels.are_needed(config):
        pins = wheels.training_wheels()
        channels[CHANNEL_WHEELS] = Channel(
            "the packages", Folder.WHEELS, pins.name, lambda: storage.folder_files(pins.download())
        )
    return channels


def uris_of(channels: Mapping[str, Channel], place: Place) -> dict[str, str]:
    """The S3 folder of each channel."""
    return {name: place.layout.uri(channel.folder, channel.content) for name, channel in channels.items()}


def _files(dataset: Path) -> list[storage.StoredFile]:
    return storage.folder_files(dataset) if dataset.is_dir() else []
