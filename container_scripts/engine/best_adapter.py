"""The adapter of the best evaluation, kept beside the checkpoints until the training ends.

    checkpoints/best/
        adapter_model.safetensors
        best.json                   step and SHA-256; written last

A training that goes on too long on little data learns its examples by heart, and its test loss rises again. With
`keep: best` the artifact holds the weights of the best evaluation instead of the last ones.
"""

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engine.checkpoint import digest, flush

_log = logging.getLogger(__name__)
_WEIGHTS, _RECORD = "adapter_model.safetensors", "best.json"


@dataclass(frozen=True, slots=True)
class Best:
    """The best evaluation so far."""

    step: int
    sha256: str


class BestAdapter:
    """The folder of one job's best adapter.

    Args:
        checkpoints: folder of the job's checkpoints.
    """

    def __init__(self, checkpoints: Path) -> None:
        self._folder = checkpoints / "best"

    def keep(self, model: Any, step: int) -> None:
        """Keep the adapter of the PEFT model `model`, in float32, in place of the one that was kept.

        Raises:
            OSError: the disk is full.
        """
        from peft import get_peft_model_state_dict
        from safetensors.torch import save_file

        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / _RECORD).unlink(missing_ok=True)  # without it, what a kill leaves here is not read
        weights = {name: weight.contiguous() for name, weight in get_peft_model_state_dict(model).items()}
        save_file(weights, self._folder / _WEIGHTS)
        best = Best(step, digest(self._folder / _WEIGHTS))
        flush(self._folder / _WEIGHTS)  # on the disk before the record that vouches for it
        (self._folder / _RECORD).write_text(json.dumps(asdict(best)), encoding="utf-8")
        flush(self._folder / _RECORD)

    def restore(self, model: Any, step: int) -> bool:
        """Put the kept adapter into `model`. False if it is not the one of `step`, or is not whole."""
        from peft import set_peft_model_state_dict
        from safetensors.torch import load_file

        try:
            best = Best(**json.loads((self._folder / _RECORD).read_text(encoding="utf-8")))
            whole = best.step == step and digest(self._folder / _WEIGHTS) == best.sha256
        except (OSError, ValueError, TypeError):
            whole = False
        if not whole:
            _log.warning("the adapter of step %d, the best one, is damaged: keeping the last", step)
            return False
        set_peft_model_state_dict(model, load_file(self._folder / _WEIGHTS))
        return True
