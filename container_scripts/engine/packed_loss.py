"""The loss of a batch: the model's body with attention inside examples, then the head where there is a label."""

from typing import Any

import torch
from torch.nn import functional

from contract import EXAMPLE_LENGTHS
from engine.arguments import Arguments
from engine.attention import attend_within_examples
from engine.batches import IGNORED, Batch
from engine.failure import TrainingError
from engine.loss import head_loss, is_plain_head


class PackedLoss:
    """Next-token loss of a batch of whole examples.

    Args:
        model: the PEFT model. Its attention is replaced by attention within examples.
        longest: tokens of the longest example of either split.
        arguments: which parts of the engine to use.

    Raises:
        TrainingError: the model's own attention would let examples of a pack see each other, or the kernel that was
            asked for does not train on this device.
    """

    def __init__(self, model: Any, longest: int, arguments: Arguments | None = None) -> None:
        arguments = arguments or Arguments()
        self._causal = model.get_base_model()
        self._body = getattr(self._causal, self._causal.base_model_prefix)
        self._head = self._causal.get_output_embeddings()
        self._head_on_labels = arguments.engine_head == "labels" and is_plain_head(self._causal)
        self._examples = None
        kernel = arguments.engine_attention
        if kernel == "flex" and self._head.weight.device.type == "cpu":
            raise TrainingError("FlexAttention trains on a GPU only", "set training.engine.attention to examples")
        if kernel != "transformers":
            self._examples = attend_within_examples(self._causal, longest, kernel)
        elif self._causal.config.get_text_config().model_type == "bloom":
            raise TrainingError(
                "BLOOM's own attention would let the examples of a pack see each other",
                "set training.engine.attention to examples",
            )

    def __call__(self, batch: Batch) -> tuple[torch.Tensor, int]:
        """The summed loss (float32 scalar) and the number of labelled tokens of one batch (see batches.collate)."""
        if self._examples is not None:
            self._examples.set(batch[EXAMPLE_LENGTHS], batch["position_ids"])
        inputs = {"input_ids": batch["input_ids"], "position_ids": batch["position_ids"], "use_cache": False}
        if self._head_on_labels:
            hidden = self._body(**inputs).last_hidden_state
            return head_loss(hidden, self._head, batch["labels"], batch["rows"]), len(batch["rows"])
        logits = self._causal(**inputs).logits[0, :-1].float()
        loss = functional.cross_entropy(logits, batch["labels"][0, 1:], reduction="sum", ignore_index=IGNORED)
        return loss, len(batch["rows"])
