"""A model that completes prompts, and texts as its tokens. scheduling.py says which prompts it completes together.

Needs torch and transformers only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from generation.batching_rules import Sharing, trial_logits, try_sharing
from generation.experts import copy_few_experts
from gpu import dtype_that_holds
from shared.base_config import context_length

_GREEDY_BELOW = 0.01  # a temperature smaller than this overflows the softmax


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

        copy_few_experts(model)
        eos = _each_once(end_id, tokenizer.eos_token_id, model.generation_config.eos_token_id)
        known = range(_vocabulary(model))  # a tokenizer may have a token for padding that the model does not know
        pad = next((token for token in (tokenizer.pad_token_id, *eos) if token in known), 0)
        model.generation_config = transformers.GenerationConfig(eos_token_id=list(eos), pad_token_id=pad)
        return cls(model, eos, pad)

    @property
    def vocabulary(self) -> int:
        """How many tokens the model knows: those from 0 to below this."""
        return _vocabulary(self.model)

    @property
    def context(self) -> int | None:
        """Most tokens of prompt and completion together; None if the model sets no limit."""
        return context_length(self.model.config.get_text_config().to_dict())

    @cached_property
    def sharing(self) -> Sharing:
        """What the model can share, which is tried out at the first call."""
        return try_sharing(self.model, self.pad_token_id)


def leave_fp16_if_too_small(generator: Generator) -> None:
    """Let a model whose values go beyond fp16's largest answer in bf16 on a GPU that has it.

    It becomes what loading it in bf16 gives. So what is float32 in an fp16 model stays so: rotary frequencies in bf16
    would put the tokens of a long prompt in wrong places.
    """
    import torch

    model = generator.model
    if model.dtype is not torch.float16:  # no trial is needed
        return
    dtype = dtype_that_holds(trial_logits(model, generator.pad_token_id), model.dtype, model.device)
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.dtype is torch.float16:
            tensor.data = tensor.data.to(dtype)


def encode(tokenizer: Any, prompt: str, eos_token_ids: Sequence[int]) -> list[int]:
    """Token ids as in training: the tokenizer's own special tokens, but no EOS after the prompt."""
    ids: list[int] = tokenizer(prompt)["input_ids"]
    return ids[:-1] if ids and ids[-1] in eos_token_ids else ids


def decode(tokenizer: Any, completions: Sequence[Sequence[int]]) -> list[str]:
    """The texts of completions, without control tokens and the white space around."""
    texts = tokenizer.batch_decode(completions, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return [text.strip() for text in texts]


def sampling_of(parameters: Mapping[str, float]) -> dict[str, Any]:
    """The arguments of transformers' `generate` for a request's parameters."""
    if parameters["temperature"] < _GREEDY_BELOW:
        return {"do_sample": False}
    return {"do_sample": True, "top_k": 0, "temperature": parameters["temperature"], "top_p": parameters["top_p"]}


def _vocabulary(model: Any) -> int:
    return int(model.get_input_embeddings().weight.shape[0])


def _each_once(*found: int | Sequence[int] | None) -> tuple[int, ...]:
    """All of them, each once: a model may stop at several, given as a number or as a list."""
    lists = [[ids] if isinstance(ids, int) else list(ids or []) for ids in found]
    return tuple(dict.fromkeys(token for ids in lists for token in ids))
