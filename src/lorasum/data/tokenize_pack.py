"""Turns examples into packs of token ids. Pure functions: the same input gives the same packs.

An example is ids(prompt) ++ ids(summary) ++ [end]. The prompt is tokenised alone, as at inference, so that the boundary
is exact. The end is EOS, or the token that ends a turn of the model's chat format. A pack holds whole examples in
source order, and at most `max_length` tokens.
"""

import os
import unicodedata
from array import array
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from lorasum.config.data import DataConfig
from lorasum.data.records import Example
from lorasum.data.tally import Rejected, Tally
from lorasum.errors import DataError
from lorasum.models.prompt import Prompt
from lorasum.shared.container_limits import processors
from lorasum.shared.requests import PLACEHOLDER
from lorasum.system.batched import batched
from lorasum.system.files import first_line
from lorasum.system.threads import in_order

TOKENIZE_ROWS = 128
"""Examples per call of the tokenizer."""
PACK_ROWS = 4096
"""Examples that are packed together: enough for full packs, and few enough for the memory."""

_USUAL_CONTEXT = 32_768  # tokens; a longer dialogue is usually a mistake in the data
_BATCH_CHARACTERS = 2_000_000  # so that a batch of very long rows does not fill the memory


@dataclass(frozen=True, slots=True)
class Tokens:
    """One tokenised example. `ids` (int32) are all its tokens; the first `prompt_length` of them are the prompt."""

    ids: "array[int]"
    prompt_length: int


def tokenize(tokenizer: Any, prompt: Prompt, examples: Sequence[Example]) -> list[Tokens]:
    """Tokenise a batch. `tokenizer` is a fast one of transformers.

    The prompt gets the same special tokens as at inference, without an EOS after it: the summary ends the example.
    """
    prompts = _ids(tokenizer, [prompt.fill(example.dialogue) for example in examples], special_tokens=True)
    summaries = _ids(tokenizer, [prompt.plain(example.summary) for example in examples], special_tokens=False)
    tokenised = []
    for ids, summary in zip(prompts, summaries, strict=True):
        if ids and ids[-1] == tokenizer.eos_token_id:
            ids.pop()
        whole = array("i", ids)
        whole.fromlist(summary)
        whole.append(prompt.end_id)
        tokenised.append(Tokens(whole, len(ids)))
    return tokenised


def changed_word(tokenizer: Any, text: str) -> tuple[str, str] | None:
    """The first word of a text that the tokenizer cannot give back, and what it gives: `日本` and `<unk>`.

    None if there is none. White space and forms of the same letter (Unicode's NFKC) do not count.
    """
    [ids] = _ids(tokenizer, [text], special_tokens=False)
    given = [unicodedata.normalize("NFKC", text), unicodedata.normalize("NFKC", tokenizer.decode(ids))]
    before, after = ("".join(one.split()) for one in given)
    if before == after:
        return None
    pairs = zip(*(one.split() for one in given), strict=False)
    return next((pair for pair in pairs if pair[0] != pair[1]), (before[-20:], after[-20:]))


def shorten(tokenizer: Any, prompt: Prompt, example: Example, limit: int) -> Example | None:
    """`example` with just enough tokens cut from the start of its dialogue to have at most `limit` in all.

    The template and the summary stay whole. None if they leave no room for the dialogue.
    """
    before = len(prompt.template.partition(PLACEHOLDER)[0])
    example = replace(example, dialogue=prompt.plain(example.dialogue))
    while example.dialogue:
        excess = len(tokenize(tokenizer, prompt, [example])[0].ids) - limit
        if excess <= 0:
            return example
        offsets = tokenizer.backend_tokenizer.encode(prompt.fill(example.dialogue)).offsets
        end = before + len(example.dialogue)
        starts = [max(start - before, 0) for start, stop in offsets if stop > before and start < end and stop > start]
        # Several tokens may share a character: the cut goes behind the last one dropped. Cutting may change how the
        # first word is split, hence the loop; every turn cuts at least one character.
        cut = next((start for start in starts[excess:] if start > starts[excess - 1]), end)
        example = replace(example, dialogue=example.dialogue[cut:].lstrip())
    return None


def fit(
    examples: Iterable[tuple[str, Example]], tokenizer: Any, prompt: Prompt, data: DataConfig, tally: Tally
) -> Iterator[tuple[str, Example, Tokens]]:
    """Tokenise (where, example) in batches and yield, in order, those of at most `data.max_length` tokens.

    A longer one is counted in the tally. `data.too_long` decides whether it is dropped or its dialogue is cut, or
    whether `refuse_too_long` raises. Most time goes into the tokenizer, so it runs a few batches ahead, in a thread per
    core; it releases Python's lock.

    Raises:
        DataError: the tokenizer cannot read an example; the message names its row.
    """
    limit = data.max_length
    for batch, tokenised in _tokenised(examples, tokenizer, prompt):
        for (where, example), tokens in zip(batch, tokenised, strict=True):
            length = len(tokens.ids)
            if length <= limit:
                yield where, example, tokens
                continue
            tally.too_long.add(where, length)
            if data.too_long == "error":
                continue
            if data.too_long == "drop":
                tally.reject(where, Rejected("too long", f"{length:,} tokens"), example.as_row())
            elif shorter := shorten(tokenizer, prompt, example, limit):
                tally.cut += 1
                yield where, shorter, tokenize(tokenizer, prompt, [shorter])[0]
            else:
                tally.reject(where, Rejected("too long without its dialogue"), example.as_row())


def refuse_too_long(tallies: Iterable[Tally], data: DataConfig, context: int | None) -> None:
    """Raise if `data.too_long` is `error` and a split has examples that are too long.

    Args:
        context: the most tokens that the model reads; None if that is unknown.

    Raises:
        DataError: `data.too_long` is `error` and there are such examples.
    """
    too_long = [tally.too_long for tally in tallies if tally.too_long.count]
    if not too_long or data.too_long != "error":
        return
    count, longest = sum(one.count for one in too_long), max(one.longest for one in too_long)
    others = f" (and {count - 1} more; the longest has {longest})" if count > 1 else ""
    leave = "set data.too_long to truncate_dialogue or drop"
    within = longest <= min(context or _USUAL_CONTEXT, _USUAL_CONTEXT)
    raise DataError(
        f"{too_long[0].first}, data.max_length is {data.max_length}{others}",
        f"raise data.max_length to {longest}, or {leave}" if within else leave,
    )


def _tokenised(
    examples: Iterable[tuple[str, Example]], tokenizer: Any, prompt: Prompt
) -> Iterator[tuple[list[tuple[str, Example]], list[Tokens]]]:
    """Batches of examples with their tokens, in order."""
    threads = max(processors(), 2)
    with _no_threads_of_its_own():
        yield from in_order(partial(_tokenise_batch, tokenizer, prompt), text_batches(examples, TOKENIZE_ROWS), threads)


def _tokenise_batch(tokenizer: Any, prompt: Prompt, batch: Sequence[tuple[str, Example]]) -> list[Tokens]:
    """Like `tokenize`, but a panic of the tokenizer's Rust code becomes an error that names the row."""
    try:
        return tokenize(tokenizer, prompt, [example for _, example in batch])
    except BaseException as error:  # PanicException derives from it
        if isinstance(error, Exception) or type(error).__name__ != "PanicException":
            raise
        for where, example in batch:
            try:
                tokenize(tokenizer, prompt, [example])
            except BaseException as panic:
                raise DataError(
                    f"{where}: the tokenizer cannot read this row ({first_line(panic)})", "take it out, or shorten it"
                ) from panic
        raise


@contextmanager
def _no_threads_of_its_own() -> Iterator[None]:
    """Stop the tokenizer from making threads of its own: dividing larger batches by itself, it is a third slower than
    several calls at once, which release Python's lock."""
    name = "TOKENIZERS_PARALLELISM"
    before = os.environ.get(name)
    os.environ[name] = "false"
    try:
        yield
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before


def packs(examples: Iterable[Tokens], max_length: int, window: int = PACK_ROWS) -> Iterator[list[Tokens]]:
    """Pack each `window` of examples; each pack's are in source order."""
    for batch in batched(examples, window):
        for pack in best_fit([len(tokens.ids) for tokens in batch], max_length):
            yield [batch[index] for index in pack]


def best_fit(lengths: Sequence[int], max_length: int) -> list[list[int]]:
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
            room, pack = max_length, len(packed)
            packed.append([])
        packed[pack].append(index)
        insort(rooms, (room - lengths[index], pack))
    return sorted(sorted(pack) for pack in packed)


def _ids(tokenizer: Any, texts: Sequence[str], special_tokens: bool) -> list[list[int]]:
    backend = tokenizer.backend_tokenizer
    if backend.truncation or backend.padding:  # checked first, because setting them waits for all other threads
        backend.no_truncation()
        backend.no_padding()
    return [encoding.ids for encoding in backend.encode_batch_fast(texts, add_special_tokens=special_tokens)]


def text_batches(examples: Iterable[tuple[str, Example]], rows: int) -> Iterator[list[tuple[str, Example]]]:
    """(where, example) in lists of `rows`, or of fewer if the texts are very long."""
    batch: list[tuple[str, Example]] = []
    room = _BATCH_CHARACTERS
    for item in examples:
        batch.append(item)
        room -= len(item[1].dialogue)
        if len(batch) == rows or room < 0:
            yield batch
            batch, room = [], _BATCH_CHARACTERS
    if batch:
        yield batch
