"""From examples to packs of token ids. Pure: no files, the same input gives the same packs.

An example is ids(prompt) ++ ids(summary) ++ [EOS]: the prompt tokenised by itself, as it will be at inference, so that
the boundary is exact. A pack holds whole examples in source order, and at most `chunk_length` tokens.
"""

from array import array
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, TypeVar

from lorasum.config import DataConfig
from lorasum.errors import DataError
from lorasum.models import Example
from lorasum.prompt import PLACEHOLDER, render

TOKENIZE_ROWS = 1024
"""Examples per call of the tokenizer, which spreads them over the cores."""
PACK_ROWS = 4096
"""Examples that are packed together: enough for full packs, few enough to hold."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Tokens:
    """One tokenised example. `ids`: int32, the whole example; the first `prompt_length` are the prompt's."""

    ids: "array[int]"
    prompt_length: int


@dataclass(slots=True)
class Fitting:
    """What `fit` did to a split: rows left out by reason, and how many dialogues it cut."""

    dropped: Counter[str] = field(default_factory=Counter)
    cut: int = 0


def tokenize(tokenizer: Any, template: str, examples: Sequence[Example]) -> list[Tokens]:
    """Tokenise a batch. `tokenizer` is a fast one of transformers.

    Special tokens go around the prompt as they do at inference, except an EOS behind it: that ends the summary.
    """
    prompts = _ids(tokenizer, [render(template, example.dialogue) for example in examples], special_tokens=True)
    summaries = _ids(tokenizer, [example.summary for example in examples], special_tokens=False)
    eos = tokenizer.eos_token_id
    tokenised = []
    for prompt, summary in zip(prompts, summaries, strict=True):
        if prompt and prompt[-1] == eos:
            prompt.pop()
        tokenised.append(Tokens(array("i", [*prompt, *summary, eos]), len(prompt)))
    return tokenised


def shorten(tokenizer: Any, template: str, example: Example, limit: int) -> Example | None:
    """`example` with just enough tokens cut from the start of its dialogue to have at most `limit` in all.

    The template and the summary stay whole. None when they leave no room for any of the dialogue.
    """
    before = len(template.partition(PLACEHOLDER)[0])
    while example.dialogue:
        excess = len(tokenize(tokenizer, template, [example])[0].ids) - limit
        if excess <= 0:
            return example
        offsets = tokenizer.backend_tokenizer.encode(render(template, example.dialogue)).offsets
        end = before + len(example.dialogue)
        starts = [max(start - before, 0) for start, stop in offsets if stop > before and start < end and stop > start]
        # Several tokens may share a character: the cut goes behind the last one dropped. Cutting may change how the
        # first word is split, hence the loop; every turn cuts at least one character.
        cut = next((start for start in starts[excess:] if start > starts[excess - 1]), end)
        example = replace(example, dialogue=example.dialogue[cut:].lstrip())
    return None


def fit(
    examples: Iterable[tuple[str, Example]], tokenizer: Any, data: DataConfig, fitting: Fitting
) -> Iterator[tuple[Example, Tokens]]:
    """Tokenise (where, example) in batches and yield, in order, those of at most `data.chunk_length` tokens.

    A longer one is dropped, or has its dialogue cut, or is an error, as `data.too_long` says.

    Raises:
        DataError: `too_long` is `error` and there are such examples; after the last one, with their number.
    """
    limit = data.chunk_length
    first, count, longest = "", 0, 0
    for batch in _batches(examples, TOKENIZE_ROWS):
        tokenised = tokenize(tokenizer, data.template, [example for _, example in batch])
        for (where, example), tokens in zip(batch, tokenised, strict=True):
            length = len(tokens.ids)
            if length <= limit:
                yield example, tokens
            elif data.too_long == "error":
                first, count, longest = first or f"{where}: {length} tokens", count + 1, max(longest, length)
            elif data.too_long == "drop":
                fitting.dropped["too long"] += 1
            elif shorter := shorten(tokenizer, data.template, example, limit):
                fitting.cut += 1
                yield shorter, tokenize(tokenizer, data.template, [shorter])[0]
            else:
                fitting.dropped["too long without its dialogue"] += 1
    if count:
        others = f" (and {count - 1} more; the longest has {longest})" if count > 1 else ""
        raise DataError(
            f"{first}, data.chunk_length is {limit}{others}",
            f"raise data.chunk_length to {longest}, or set data.too_long to truncate_dialogue or drop",
        )


def packs(examples: Iterable[Tokens], chunk_length: int, window: int = PACK_ROWS) -> Iterator[list[Tokens]]:
    """Pack each `window` of examples; each pack's are in source order."""
    for batch in _batches(examples, window):
        for pack in best_fit([len(tokens.ids) for tokens in batch], chunk_length):
            yield [batch[index] for index in pack]


def best_fit(lengths: Sequence[int], chunk_length: int) -> list[list[int]]:
    """Best-fit decreasing: the longest first, each into the fullest pack that still has room for it.

    Returns:
        Per pack the indexes into `lengths`, ascending; packs in order of their first index.
    """
    packed: list[list[int]] = []
    rooms: list[tuple[int, int]] = []  # (tokens left, pack), ascending
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        at = bisect_left(rooms, (lengths[index], 0))
        if at < len(rooms):
            room, pack = rooms.pop(at)
        else:
            room, pack = chunk_length, len(packed)
            packed.append([])
        packed[pack].append(index)
        insort(rooms, (room - lengths[index], pack))
    return sorted(sorted(pack) for pack in packed)


def _ids(tokenizer: Any, texts: Sequence[str], special_tokens: bool) -> list[list[int]]:
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    return [encoding.ids for encoding in backend.encode_batch_fast(texts, add_special_tokens=special_tokens)]


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
