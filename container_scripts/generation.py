"""Generates the completions of many prompts, in batches that fit into memory: while serving, and while training.

The prompts of a batch are padded on the left, so that all completions start in one column, and keys and values of
earlier tokens are kept. Needs torch and transformers only.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from batching import PIECE, batches

_CONTEXT_NAMES = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")
_CONTEXT_WITHOUT_LIMIT = 8192  # ALiBi knows none, but memory does; tokens


class AbandonedError(Exception):
    """Nobody waits for the completions any more, so generating was ended."""


class TooLargeError(Exception):
    """A prompt does not fit in GPU memory, not even alone.

    Attributes:
        place: its place among the prompts.
    """

    def __init__(self, place: int) -> None:
        super().__init__(f"prompt {place + 1} does not fit in GPU memory")
        self.place = place


@dataclass(frozen=True, slots=True)
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
            TooLargeError: a prompt does not fit in GPU memory.
        """
        completions: list[list[int]] = [[] for _ in prompts]
        waiting = batches([len(ids) for ids in prompts], new_tokens, self.model)
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
        ids = torch.tensor([[self.pad_token_id] * (width - len(row)) + list(row) for row in prompts])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in prompts])
        device = self.model.device
        try:
            rows = self.model.generate(
                input_ids=ids.to(device),
                attention_mask=mask.to(device),
                max_new_tokens=new_tokens,
                use_cache=True,
                prefill_chunk_size=PIECE if width > PIECE else None,
                stopping_criteria=[stop],
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


def _each_once(*found: int | Sequence[int] | None) -> tuple[int, ...]:
    """All of them, each once: a model may stop at several, given as a number or as a list."""
    lists = [[ids] if isinstance(ids, int) else list(ids or []) for ids in found]
    return tuple(dict.fromkeys(token for ids in lists for token in ids))


def _until(ids: list[int], ends: Sequence[int]) -> list[int]:
    return ids[: next((place for place, token in enumerate(ids) if token in ends), len(ids))]
