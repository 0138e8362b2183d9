"""Generates the completions of many prompts, in batches that fit into memory: while serving, and while training.

The prompts of a batch are padded on the left, so that all completions start in one column, and keys and values of
earlier tokens are kept. Long prompts are read in pieces. Needs torch and transformers only.

None of this must change an answer. Most models see to that with the attention mask and their cache. But the state of an
RWKV runs over the padding, and a Jamba forgets its state after a piece. So each model is tried out once (try_sharing),
and where padding, pieces or the cache change its logits, it is asked without them.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from batching import PIECE, Sharing, batches
from rotary import frequency_limit

_log = logging.getLogger(__name__)
_TRIED = (5, 13)  # tokens of the two prompts that a model is tried with
_TRIED_PIECE = 4
_TRIED_STEPS = 3  # tokens that are generated after each: a wrong state may show in a later one only
_CONTEXT_NAMES = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")
_CONTEXT_WITHOUT_LIMIT = 8192  # ALiBi knows none, but memory does; tokens


class AbandonedError(Exception):
    """Nobody waits for the completions any more, so generating was ended."""


class BrokenModelError(RuntimeError):
    """The model's logits are not finite, so whatever it would write is no answer."""


class TooLargeError(Exception):
    """A prompt does not fit in GPU memory, not even alone.

    Attributes:
        place: its place among the prompts.
    """

    def __init__(self, place: int) -> None:
        super().__init__(f"prompt {place + 1} does not fit in GPU memory")
        self.place = place


@dataclass(frozen=True)
class Generator:
    """A model that completes prompts.

    Attributes:
        model: a transformers causal language model.
        eos_token_ids: any of these ends a completion.
        pad_token_id: fills the left of shorter prompts.
    """

    model: Any
    eos_token_ids: tuple[int, ...]
    pad_token_id: int

    @classmethod
    def of(cls, model: Any, tokenizer: Any, end_id: int | None) -> "Generator":
        """`model`, whose completions end with `end_id`, or with what its tokenizer or itself names.

        A base model may bring sampling, penalties or a length of its own: `model` forgets them.
        """
        import transformers

        eos = _each_once(end_id, tokenizer.eos_token_id, model.generation_config.eos_token_id)
        pad = next((token for token in (tokenizer.pad_token_id, *eos) if token is not None), 0)
        model.generation_config = transformers.GenerationConfig(eos_token_id=list(eos), pad_token_id=pad)
        return cls(model, eos, pad)

    @property
    def context(self) -> int:
        """Most tokens of prompt and completion together."""
        config = self.model.config.get_text_config()
        known = (getattr(config, name, None) for name in _CONTEXT_NAMES)
        return next((length for length in known if isinstance(length, int) and length > 0), _CONTEXT_WITHOUT_LIMIT)

    @cached_property
    def sharing(self) -> Sharing:
        """What the model can share, which is tried out at the first call."""
        return try_sharing(self.model, self.pad_token_id)

    def complete(
        self,
        prompts: Sequence[Sequence[int]],
        new_tokens: int,
        nobody_waits: Callable[[], bool],
        **sampling: Any,
    ) -> list[list[int]]:
        """New token ids of each prompt, up to its EOS. The caller turns gradients off.

        Args:
            prompts: token ids; none is empty.
            new_tokens: most tokens that are generated for each.
            nobody_waits: asked before every token; generating ends where it says so.
            sampling: further arguments of transformers' `generate`.

        Raises:
            AbandonedError: nobody waits.
            BrokenModelError: the logits are not finite.
            TooLargeError: a prompt does not fit in GPU memory.
        """
        completions: list[list[int]] = [[] for _ in prompts]
        waiting = batches([len(ids) for ids in prompts], new_tokens, self.model, self.sharing)
        while waiting:
            batch = waiting.pop(0)
            generated = self._generate([prompts[place] for place in batch], new_tokens, nobody_waits, sampling)
            if generated is None:  # it did not fit after all
                if len(batch) == 1:
                    raise TooLargeError(batch[0])
                waiting = [batch[: len(batch) // 2], batch[len(batch) // 2 :], *waiting]
                continue
            for place, ids in zip(batch, generated, strict=True):
                completions[place] = ids
        return completions

    def _generate(
        self,
        prompts: Sequence[Sequence[int]],
        new_tokens: int,
        nobody_waits: Callable[[], bool],
        sampling: dict[str, Any],
    ) -> list[list[int]] | None:
        """The completions of one batch; None if it does not fit in GPU memory."""
        import torch

        def stop(ids: Any, scores: Any, **_: Any) -> Any:
            if nobody_waits():
                raise AbandonedError("nobody waits for the answer any more")
            return torch.zeros(len(ids), dtype=torch.bool, device=ids.device)

        width = max(len(ids) for ids in prompts)
        in_pieces = width > PIECE and self.sharing.allows_pieces(width + new_tokens)
        try:
            rows = self.model.generate(
                **_padded(prompts, self.pad_token_id, self.model.device),
                max_new_tokens=new_tokens,
                use_cache=self.sharing.cache,
                prefill_chunk_size=PIECE if in_pieces else None,
                stopping_criteria=[stop],
                logits_processor=[_refuse_broken],
                **sampling,
            )
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
            return None
        return [_until(row, self.eos_token_ids) for row in rows[:, width:].tolist()]


def encode(tokenizer: Any, prompt: str, eos_token_ids: Sequence[int]) -> list[int]:
    """Token ids as in training: the tokenizer's own special tokens, but no EOS after the prompt."""
    ids: list[int] = tokenizer(prompt)["input_ids"]
    return ids[:-1] if ids and ids[-1] in eos_token_ids else ids


def decode(tokenizer: Any, completions: Sequence[Sequence[int]]) -> list[str]:
    """The texts of completions, without control tokens and the white space around."""
    texts = tokenizer.batch_decode(completions, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return [text.strip() for text in texts]


def try_sharing(model: Any, pad_token_id: int) -> Sharing:
    """Try out what this model can share, with two short prompts.

    The truth are its logits for one prompt, all of it in one pass. A state that is lost, or that runs over padding,
    moves them by 2% even in tiny random models, and rounding moves them by 1e-6 in float32, and by 1% in bf16.

    Args:
        model: a transformers causal language model, as it is served.
    """
    import torch

    vocabulary = model.get_input_embeddings().weight.shape[0]
    prompts = [[(7 * place + length) % vocabulary for place in range(length)] for length in _TRIED]
    tolerance = 1e-3 if model.dtype is torch.float32 else 0.05
    truth = torch.cat([_logits(model, [prompt], pad_token_id, use_cache=False) for prompt in prompts])

    def right(number: slice, **how: Any) -> bool:
        try:
            found = _logits(model, prompts[number], pad_token_id, **how)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever the model's code stumbles over: then it is not asked in this way
            _log.info("%s is not asked with %s: %s", model.config.model_type, how, error)
            return False
        return bool((found - truth[number]).norm() <= tolerance * truth[number].norm())

    every, last = slice(None), slice(-1, None)
    cache = right(last, use_cache=True)
    return Sharing(
        cache=cache,
        rows=right(every, use_cache=cache),
        pieces=cache and right(last, use_cache=True, prefill_chunk_size=_TRIED_PIECE),
        longest=frequency_limit(model),
    )


def _logits(model: Any, prompts: Sequence[Sequence[int]], pad_token_id: int, **how: Any) -> Any:
    """Logits of the next tokens after each prompt, (prompts, steps, vocabulary) float32, if a fixed one were chosen.

    Args:
        how: of transformers' generate.
    """
    import torch

    ends = model.generation_config.eos_token_id
    token = next(token for token in range(len(ends) + 1) if token not in ends)

    def choose(_ids: Any, scores: Any) -> Any:
        """The same token whatever the logits are: a rounding that tips the choice would change all that follows."""
        chosen = torch.full_like(scores, -1e4)
        chosen[:, token] = 0
        return chosen

    with torch.no_grad():  # tables that a model keeps here may be needed in training
        found = model.generate(
            **_padded(prompts, pad_token_id, model.device),
            **how,
            max_new_tokens=_TRIED_STEPS,
            logits_processor=[choose],
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
        )
    return torch.stack(found.logits, dim=1).float()


def _padded(prompts: Sequence[Sequence[int]], pad_token_id: int, device: Any) -> dict[str, Any]:
    """One batch, padded on the left, so that all completions start in one column."""
    import torch

    width = max(len(ids) for ids in prompts)
    ids = torch.tensor([[pad_token_id] * (width - len(row)) + list(row) for row in prompts])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in prompts])
    return {"input_ids": ids.to(device), "attention_mask": mask.to(device)}


def _refuse_broken(_ids: Any, scores: Any) -> Any:
    if not scores.amax(dim=-1).isfinite().all():  # a model may forbid tokens with minus infinity
        raise BrokenModelError(
            f"the model computes values that are not finite: its weights are damaged, or too large for {scores.dtype}"
        )
    return scores


def _each_once(*found: int | Sequence[int] | None) -> tuple[int, ...]:
    """All of them, each once: a model may stop at several, given as a number or as a list."""
    lists = [[ids] if isinstance(ids, int) else list(ids or []) for ids in found]
    return tuple(dict.fromkeys(token for ids in lists for token in ids))


def _until(ids: list[int], ends: Sequence[int]) -> list[int]:
    return ids[: next((place for place, token in enumerate(ids) if token in ends), len(ids))]
