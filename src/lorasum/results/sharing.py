"""Results of the verbs that give the trained model to others: push, export."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class PushResult:
    """What `push` uploaded."""

    run: str
    job: str
    repository: str
    """OWNER/NAME."""
    location: str
    """The repository's URL."""
    private: bool
    kind: Literal["merged_model", "adapter"]


@dataclass(frozen=True, slots=True)
class ExportResult:
    """The file that `export` wrote."""

    run: str
    job: str
    file: str
    bytes: int
    architecture: str
    """As GGUF names it."""
    tensors: int
