"""Which head computes the loss: the engine's, where there is a label (loss.py), or the model's own.

The engine's is right where the head is plain: the body's last hidden state goes into one linear layer as it is, and the
model's logits are what comes out of it, value for value. Multipliers, soft caps and projections before or after the
head show there.
"""

from typing import Any

import torch

from engine.arguments import Arguments
from engine.batches import Batch
from engine.routes import Route, RoutedLoss, accepted_inputs, can_leave_out_logits, model_body, single_examples
from shared.names import INPUT_IDS


def choose_head(causal: Any, arguments: Arguments, batch: Batch, tolerance: float) -> str:
    """The `head` of a Route: `labels` if the head is plain, `rows` if the model can leave logits out, else `all`.

    Args:
        tolerance: the largest relative difference of two losses that count as equal.
    """
    if arguments.engine_head == "all":
        return "all"
    one = next(single_examples(batch))
    if head_is_plain(causal, one[INPUT_IDS]):
        return "labels"
    if not can_leave_out_logits(causal):
        return "all"
    with torch.no_grad():
        chosen, whole = (
            RoutedLoss(causal, None, Route("transformers", together=False, head=head))(one)[0]
            for head in ("rows", "all")
        )
    return "rows" if torch.allclose(chosen, whole, rtol=tolerance) else "all"


def head_is_plain(causal: Any, ids: torch.Tensor, by_value: bool = True) -> bool:
    """Whether the logits follow from the body's last hidden state by one frozen linear layer, and nothing else.

    Args:
        causal: a transformers causal language model.
        ids: (1, tokens) int64, an input to try it with.
        by_value: compare values; otherwise compare where they are stored, as for tensors without values.
    """
    head, body = causal.get_output_embeddings(), model_body(causal)
    if type(head) is not torch.nn.Linear or head.weight.requires_grad:
        return False
    seen: dict[str, Any] = {}

    def note_body(_module: Any, _inputs: Any, output: Any) -> None:
        seen["hidden"] = getattr(output, "last_hidden_state", seen.get("hidden"))

    def note_head(_module: Any, inputs: Any, output: Any) -> None:
        seen["input"], seen["output"] = inputs[0], output

    # OPT calls a model inside its body instead of the body; of those that are called, the outermost ends last.
    bodies = [module for module in body.modules() if hasattr(module, "base_model_prefix")]
    hooks = [module.register_forward_hook(note_body) for module in bodies] + [head.register_forward_hook(note_head)]
    try:
        with torch.no_grad():
            logits = causal(**accepted_inputs(causal, input_ids=ids, use_cache=False)).logits
    finally:
        for hook in hooks:
            hook.remove()
    if len(seen) < 3 or seen["hidden"] is None or logits.shape[1] != ids.shape[1]:
        return False
    pairs = [(seen["hidden"], seen["input"]), (seen["output"], logits)]
    if by_value:
        return all(one.shape == other.shape and torch.equal(one.float(), other.float()) for one, other in pairs)
    return all(one.untyped_storage()._cdata == other.untyped_storage()._cdata for one, other in pairs)
