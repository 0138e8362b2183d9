"""What of a model decides on which GPUs it can be served. Pure functions of its config.json."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lorasum.shared.base_config import context_length, vocabulary_size, whole_number

_SERVED_IN = 2  # bytes of a value: GPUs serve in 16 bits
_FLOAT32_ONLY = ("xlstm",)  # model types whose code in transformers multiplies float32 by 16 bits, and fails
_VOCABULARY_IN = 64  # vLLM pads the vocabulary to a multiple of this
_ITEM_BYTES = {"float32": 4, "float64": 8}  # of the dtypes that a config.json names; all others have two


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a model as it is served, in 16 bits.

    Attributes:
        weights: bytes; 0 if they are not known.
        token: bytes of keys and values that each token keeps; 0 if that is not known.
        heads: attention heads; 0 if they are not known.
        key_heads: heads of keys and values. The cache of keys and values can be split into at most this many parts.
        widths: what vLLM divides by the number of GPUs beside the heads.
        context: tokens of the longest text that the model was made for; 0 if it sets no limit.
        float32_only: whether transformers cannot compute it in 16 bits.
    """

    weights: int
    token: int
    heads: int
    key_heads: int
    widths: tuple[int, ...]
    context: int
    float32_only: bool = False

    @classmethod
    def of(cls, config: Mapping[str, Any], parameters: int) -> "Shape":
        """That of a model.

        Args:
            config: its config.json.
            parameters: how many it has; 0 if that is not known.
        """
        heads = whole_number(config, "num_attention_heads", "n_head", "num_heads", "n_heads") or 0
        key_heads = whole_number(config, "num_key_value_heads", "num_kv_heads") or (
            1 if config.get("multi_query") else heads
        )
        hidden = whole_number(config, "hidden_size", "n_embd", "d_model") or 0
        layers = whole_number(config, "num_hidden_layers", "n_layer", "num_layers", "n_layers") or 0
        head = whole_number(config, "head_dim") or (hidden // heads if heads else 0)
        inner = whole_number(config, "intermediate_size", "ffn_dim", "ffn_hidden_size", "n_inner") or 4 * hidden
        experts = whole_number(config, "moe_intermediate_size")
        vocabulary = -(-(vocabulary_size(config) or 0) // _VOCABULARY_IN) * _VOCABULARY_IN
        return cls(
            weights=parameters * _SERVED_IN,
            token=2 * layers * key_heads * head * _SERVED_IN,
            heads=heads,
            key_heads=key_heads,
            widths=tuple(filter(None, (inner, experts, vocabulary))),
            context=context_length(config) or 0,
            float32_only=config.get("model_type") in _FLOAT32_ONLY,
        )

    def tensor_parallel_size(self, gpus: int) -> int:
        """The most of these GPUs among which vLLM can divide the model.

        Each GPU gets as many attention heads as the others, and an equal part of each wide matrix. Keys and values are
        divided too, or each of their heads is on several GPUs. (vLLM 0.29.0: ModelConfig.verify_with_parallel_config,
        LlamaAttention, `divide` in its linear layers and its vocabulary.)
        """
        return next(count for count in range(gpus, 0, -1) if count == 1 or self._can_be_divided(count))

    def _can_be_divided(self, count: int) -> bool:
        if not self.heads or not self.key_heads:
            return False
        shared = self.key_heads % count == 0 or count % self.key_heads == 0
        return shared and all(number % count == 0 for number in (self.heads, *self.widths))


def bytes_of_values(config: Mapping[str, Any]) -> int:
    """Bytes of a stored weight's value, by its config.json."""
    inner = config.get("text_config")
    text = inner if isinstance(inner, Mapping) else {}
    named = (part.get(key) for part in (config, text) for key in ("dtype", "torch_dtype"))
    return _ITEM_BYTES.get(str(next(filter(None, named), "")).removeprefix("torch."), _SERVED_IN)
