"""The folders of a run in S3, and which of them `teardown` deletes.

A run owns s3://<bucket>/<prefix>/<run>/. Below that are the folders of `Folder` and nothing else, because
`S3Layout.uri` takes no other name. To add a folder, add a member there: `teardown --artifacts` then deletes it.
"""

from dataclasses import dataclass
from enum import Enum


class Folder(Enum):
    """A folder of a run."""

    DATA = "data"
    """Prepared datasets, one folder per fingerprint."""
    CODE = "code"
    """The container scripts, one folder per fingerprint."""
    MODELS = "models"
    """Base models that come from a local folder, one folder per fingerprint."""
    JOBS = "jobs"
    """Artifacts of training jobs, one folder per attempt."""
    CHECKPOINTS = "checkpoints"
    """Checkpoints, one folder per job; its attempts share it, and jobs that only merge its adapter in another way."""
    WHEELS = "wheels"
    """Packages for containers that cannot download them, one folder per set of pins."""
    CAPTURE = "capture"
    """Requests and answers of endpoints, if the config has them captured."""


@dataclass(frozen=True, slots=True)
class S3Layout:
    """The folders of one run."""

    bucket: str
    prefix: str
    run: str

    def uri(self, folder: Folder, *parts: str) -> str:
        """s3:// address of a folder, or of a folder below it. It ends in a slash."""
        return "/".join(["s3:/", self.bucket, self.prefix, self.run, folder.value, *parts, ""])

    @property
    def shared_models(self) -> str:
        """s3:// address of the base models that all runs share. It belongs to no run, so `teardown` leaves it."""
        return f"s3://{self.bucket}/{self.prefix}/_models/"

    def deletable(self, data: bool, artifacts: bool) -> list[str]:
        """The folders that `teardown --data` and `teardown --artifacts` delete. Both together delete all of them."""
        return [self.uri(folder) for folder in Folder if (data if folder is Folder.DATA else artifacts)]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a container of a run works.

    Attributes:
        role: ARN of the execution role.
        image: URI of the container image.
    """

    layout: S3Layout
    role: str
    image: str

    @property
    def run(self) -> str:
        """Name of the run."""
        return self.layout.run
