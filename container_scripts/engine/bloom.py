"""What only BLOOM needs: its attention layer on the engine's kernels, with ALiBi (alibi.py), and GELU as one kernel."""

from types import MethodType
from typing import Any

import torch
from torch.nn import functional

from engine.alibi import alibi_slopes
from engine.kernels import AttentionScores, Examples

_NO_MASK = "lorasum_bloom"
"""The name of an attention for which transformers knows no mask. It would make one of (tokens, tokens) in each pass."""


def is_bloom(model: Any) -> bool:
    """Whether a model is one of BLOOM's."""
    return bool(model.config.model_type == "bloom")


def replace_forwards(model: Any, examples: Examples) -> None:
    """Change every layer of `model`: attention is computed within `examples`, and GELU by PyTorch's kernel.

    BLOOM's own GELU writes the tanh formula as separate operations: eight passes over memory in the forward pass and
    fifteen in the backward pass, where PyTorch's kernel makes one each.

    Args:
        model: a BLOOM model of transformers.
        examples: what its attention reads.
    """
    model.config._attn_implementation = _NO_MASK
    device = model.get_input_embeddings().weight.device  # those of layers may lie in main memory (host_weights.py)
    for module in model.modules():
        if type(module).__name__ == "BloomAttention":
            module.forward = MethodType(_attention_forward, module)
            module.examples = examples
            module.slopes = alibi_slopes(module.num_heads).to(device)
        elif type(module).__name__ == "BloomGelu":
            module.forward = _gelu


def restore_forwards(model: Any, implementation: str) -> None:
    """Undo replace_forwards.

    Args:
        implementation: transformers' name of the attention that the model had.
    """
    model.config._attn_implementation = implementation
    for module in model.modules():
        if type(module).__name__ in ("BloomAttention", "BloomGelu"):
            vars(module).pop("forward", None)


def _attention_forward(
    self: Any, hidden_states: torch.Tensor, residual: torch.Tensor, *_: Any, **__: Any
) -> tuple[torch.Tensor, None]:
    """BloomAttention.forward for training: (1, tokens, hidden), any float dtype → the same shape, plus `residual`."""
    fused = self.query_key_value(hidden_states).view(*hidden_states.shape[:2], self.num_heads, 3, self.head_dim)
    query, key, value = (
        part.transpose(1, 2) for part in fused.unbind(3)
    )  # unbind: its backward pass writes the three gradients into one tensor
    dropout = self.attention_dropout.p if self.training else 0.0
    scores = AttentionScores(None, dropout, slopes=self.slopes)
    context = self.examples.attend(query, key, value, self.examples, scores)
    output = self.dense(context.transpose(1, 2).flatten(2))
    return residual + functional.dropout(output, self.hidden_dropout, self.training), None


def _gelu(x: torch.Tensor) -> torch.Tensor:
    return functional.gelu(x, approximate="tanh")
