"""Finds out what a model can share between tokens and between prompts without changing an answer.

Most models see to that with the attention mask and their cache. But the state of an RWKV runs over the padding, and a
Jamba forgets its state after a piece. So each model is tried out once, and where padding, pieces or the cache change
its logits, it is asked without them.
"""

import logging
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

from generation.kv_cache import bytes_of_row, is_joinable, keys_of, whole_cache, windows
from generation.rotary import frequency_limit
from generation.rows import Batch, padded
from gpu import raise_if_no_fault_of_the_code
from shared.base_config import context_length

_log = logging.getLogger(__name__)
_TRIED = (5, 13)  # tokens of the two prompts that a model is tried with
_TRIED_PIECE = 4
_MADE_UP, _MADE_UP_SIZE = 8, 100.0  # keys outside of each window, and their size
_WIDEST = 8192  # tokens: of a model with a wider window, shorter than its context, no keys and values are made up
_TRIED_STEPS = 3  # tokens that are generated after each: a wrong state may show in a later one only


@dataclass(frozen=True, slots=True)
class Sharing:
    """What a model can share between tokens and between prompts without changing an answer.

    Attributes:
        cache: whether what it keeps of earlier tokens (keys and values, or a state) serves the next one.
        rows: whether prompts of different lengths can be padded to one and go through it together.
        pieces: whether a prompt can go through it in pieces.
        joins: whether a prompt can join others that have begun. Then keys and values of all tokens are kept.
        longest: tokens of a row, up to which rows and pieces can; None for any length.
        token_bytes: what a row keeps for each of its tokens, as measured.
        state_bytes: what it keeps however long it is.
    """

    cache: bool
    rows: bool
    pieces: bool
    joins: bool
    longest: int | None
    token_bytes: int
    state_bytes: int

    def __and__(self, other: "Sharing") -> "Sharing":
        """What both allow, of one architecture."""
        both = {name: getattr(self, name) and getattr(other, name) for name in ("cache", "rows", "pieces", "joins")}
        return replace(self, **both)

    def allows_rows(self, tokens: int) -> bool:
        """Whether a prompt that may grow to so many tokens can be answered beside others."""
        return self.rows and (self.longest is None or tokens <= self.longest)

    def allows_pieces(self, tokens: int) -> bool:
        """Whether a prompt that may grow to so many tokens can be read in pieces."""
        return self.pieces and (self.longest is None or tokens <= self.longest)


def try_sharing(model: Any, pad_token_id: int) -> Sharing:
    """Try out what this model can share, with two short prompts.

    A state that is lost, or that runs over padding, moves logits by 2% even in tiny random models. In float32 rounding
    moves them by 1e-6, but in half precision by as much as such a state: in bf16 MiniMax seemed to take padding, and
    Jamba pieces. So a thin model of the architecture is tried out in float32 too, and its no is a no for this one.

    Args:
        model: a transformers causal language model, as it is served.
    """
    import torch

    found = _tried(model, pad_token_id)
    if model.dtype is torch.float32:
        return found
    try:
        return found & _tried_thin(model.config)
    except Exception as error:  # whatever its code stumbles over
        _log.info("%s does not run with few weights: %s", model.config.model_type, error)
        return found


def _tried_thin(config: Any) -> Sharing:
    """What a thin model of an architecture can share."""
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig

    from generation.thin_model import by_itself, thin_model

    config = deepcopy(config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    with by_itself():
        with torch.device("meta"):
            skeleton = AutoModelForCausalLM.from_config(config)
        model = thin_model(skeleton)
        model.generation_config = GenerationConfig(eos_token_id=[1], pad_token_id=0)
        if not trial_logits(model, 0).isfinite().all():
            raise FloatingPointError("its logits are not finite")
        return _tried(model, 0)


def _tried(model: Any, pad_token_id: int) -> Sharing:
    """What this model can share, as far as its dtype shows it. The truth are its logits for one prompt in one pass."""
    import torch

    prompts = _trial_prompts(model)
    tolerance = 1e-3 if model.dtype is torch.float32 else 0.05
    truth = torch.cat([_logits(model, [prompt], pad_token_id, use_cache=False) for prompt in prompts])

    def right(expected: Any, ask: Callable[..., Any], asked: Sequence[Sequence[int]], **how: Any) -> bool:
        try:
            found = ask(model, asked, pad_token_id, **how)
        except Exception as error:  # whatever the model's code stumbles over: then it is not asked in this way
            raise_if_no_fault_of_the_code(error, model.device)
            _log.info("%s is not asked with %s: %s", model.config.model_type, how or "joins", error)
            return False
        rounded = torch.finfo(model.dtype).eps * expected.norm()
        return bool(centred(found - expected).norm() <= tolerance * centred(expected).norm() + rounded)

    cache = right(truth[-1:], _logits, prompts[-1:], use_cache=True)
    rows = right(truth, _logits, prompts, use_cache=cache)
    joins = cache and rows and right(truth, _joined_logits, prompts)
    kept = {"past_key_values": whole_cache(model)} if joins else {"use_cache": True}
    token_bytes, state_bytes = _kept_bytes(model, prompts[0], pad_token_id) if cache else (0, 0)
    return Sharing(
        cache=cache,
        rows=rows,
        pieces=cache and right(truth[-1:], _logits, prompts[-1:], **kept, prefill_chunk_size=_TRIED_PIECE),
        joins=joins,
        longest=frequency_limit(model),
        token_bytes=token_bytes,
        state_bytes=state_bytes,
    )


def centred(logits: Any) -> Any:
    """Without what all logits of a row have in common, which chooses no token: BLOOM's are in the hundreds."""
    return logits - logits.mean(dim=-1, keepdim=True)


def trial_logits(model: Any, pad_token_id: int, **how: Any) -> Any:
    """Logits of the next tokens after the longer of the short prompts, for comparing a model with itself.

    Args:
        how: of transformers' generate.
    """
    return _logits(model, _trial_prompts(model)[-1:], pad_token_id, **how)


def _trial_prompts(model: Any) -> list[list[int]]:
    vocabulary = model.get_input_embeddings().weight.shape[0]
    return [[(7 * place + length) % vocabulary for place in range(length)] for length in _TRIED]


def _logits(model: Any, prompts: Sequence[Sequence[int]], pad_token_id: int, **how: Any) -> Any:
    """Logits of the next tokens after each prompt, (prompts, steps, vocabulary) float32, if a fixed one were chosen.

    Args:
        how: of transformers' generate.
    """
    import torch

    ids, mask = padded(prompts, pad_token_id, model.device)
    found = _generate(model, ids, mask, _TRIED_STEPS, **how)
    return torch.stack(found.logits, dim=1).float()


def _joined_logits(model: Any, prompts: Sequence[Sequence[int]], pad_token_id: int) -> Any:
    """The same, where each prompt begins alone, and they are one batch after its first token."""
    import torch

    begun, first = [], []
    for prompt in prompts:
        batch = Batch([], *padded([prompt], pad_token_id, model.device))
        found = _generate(model, batch.ids, batch.mask, 1, past_key_values=whole_cache(model))
        if not is_joinable(found.get("past_key_values")):
            raise TypeError("its cache holds more than keys and values of all tokens")
        batch.generated(found.sequences, found.past_key_values)
        begun.append(batch)
        first.append(torch.stack(found.logits, dim=1))
    if not _mask_hides_tokens_outside_window(model, prompts[-1], pad_token_id):
        raise TypeError("without its own cache it sees tokens that its windows do not show")
    together = begun[0].joined(begun[1:], pad_token_id)
    found = _generate(model, together.ids, together.mask, _TRIED_STEPS - 1, past_key_values=together.cache)
    return torch.cat([torch.cat(first), torch.stack(found.logits, dim=1)], dim=1).float()


def _kept_bytes(model: Any, prompt: Sequence[int], pad_token_id: int) -> tuple[int, int]:
    ids, mask = padded([prompt], pad_token_id, model.device)
    return bytes_of_row(_generate(model, ids, mask, 1, use_cache=True).get("past_key_values"))


def _mask_hides_tokens_outside_window(model: Any, prompt: Sequence[int], pad_token_id: int) -> bool:
    """Whether the attention mask hides what is outside of a layer's window.

    The model's own cache holds nothing of it, but ours does. So keys of size 100, and then of size 0, are put before
    the window. Large keys draw all attention where they are seen: if the next logits differ, the mask lets them.

        keys of a layer with a window    + - + - 0 0 0 0 0 0 p r o m p t
        what the next token may see                ‹       window       ›
    """
    import torch

    context = context_length(model.config.get_text_config().to_dict())
    narrow = {number: window for number, window in windows(model).items() if context is None or window < context}
    widest = max(narrow.values(), default=0)
    if not narrow or widest > _WIDEST:
        return not narrow

    def logits(key_size: float) -> Any:
        batch = Batch([], *padded([prompt], pad_token_id, model.device))
        found = _generate(model, batch.ids, batch.mask, 1, past_key_values=whole_cache(model))
        for number, layer in enumerate(found.past_key_values.layers):
            if keys_of(layer) is not None:
                size = key_size if number in narrow else 0.0
                layer.keys = _prepend(layer.keys, widest, size)
                layer.values = _prepend(layer.values, widest, size)
        ids = torch.cat([batch.ids[:, :1].expand(1, widest), found.sequences], dim=1)
        step = _generate(model, ids, torch.ones_like(ids), 1, past_key_values=found.past_key_values)
        return step.logits[0]

    expected = logits(0.0)
    return bool((logits(_MADE_UP_SIZE) - expected).norm() <= 1e-3 * expected.norm())


def _prepend(states: Any, tokens: int, size: float) -> Any:
    """Keys or values behind those of `tokens` made-up tokens: the first few of `size`, the others zeros."""
    import torch

    made_up = states.new_zeros(*states.shape[:2], tokens, states.shape[3])
    made_up[:, :, :_MADE_UP:2], made_up[:, :, 1:_MADE_UP:2] = size, -size
    return torch.cat([made_up, states], dim=2)


def _generate(model: Any, ids: Any, mask: Any, steps: int, **how: Any) -> Any:
    """What transformers' generate returns, with the logits of each step, if a fixed token were chosen."""
    import torch

    asked = model.generation_config
    special = {*asked.eos_token_id, asked.pad_token_id}  # the embedding of padding may be zeros, which no state changes
    token = next(token for token in range(len(special) + 1) if token not in special)

    def choose(_ids: Any, scores: Any) -> Any:
        """The same token whatever the logits are: a rounding that tips the choice would change all that follows."""
        chosen = torch.full_like(scores, -1e4)
        chosen[:, token] = 0
        return chosen

    with torch.no_grad():  # tables that a model keeps here may be needed in training
        return model.generate(
            input_ids=ids,
            attention_mask=mask,
            **how,
            max_new_tokens=steps,
            logits_processor=[choose],
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
        )
