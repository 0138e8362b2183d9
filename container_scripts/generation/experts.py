"""Products of the stacked experts of a model that generates on a GPU: served, or scored in a training.

While it generates on a GPU, and not on a CPU, transformers copies the weights of each token's experts for each token:

    tokens · experts of one · bytes of an expert      64 · 8 · 12.6 MB = 6.4 GB in each layer, for 64 rows of OLMoE-7B

That reads little where there are few tokens. Where they ask for more experts than there are, they are sorted by experts
here, as in reading a prompt, so that each weight is read once. Not measured on a GPU.
"""

from typing import Any

_NAME = "few_copied"


def copy_few_experts(model: Any) -> None:
    """Let a model copy no more weights for its tokens than a layer has. On a CPU it copies none."""
    if model.device.type == "cpu":
        return
    from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

    ALL_EXPERTS_FUNCTIONS.register(_NAME, _multiplied)
    own = model.get_experts_implementation()
    model.set_experts_implementation({part: _NAME if how == "grouped_mm" else how for part, how in own.items()})


def _multiplied(experts: Any, states: Any, chosen: Any, weights: Any) -> Any:
    """What transformers computes either way.

    Args:
        chosen: the experts of each token, (tokens, experts of one).
    """
    from transformers.integrations.moe import batched_mm_experts_forward, grouped_mm_experts_forward

    few = chosen.numel() <= experts.num_experts
    return (batched_mm_experts_forward if few else grouped_mm_experts_forward)(experts, states, chosen, weights)
