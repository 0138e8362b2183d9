"""Prompts that are being completed: a row each, and the batch in which they are generated together.

A batch keeps the keys and values of its tokens between two calls of transformers' `generate`. Between them, finished
rows leave it and others join it: narrower ones get padding on their left, and zeros for keys and values, which the
attention mask hides.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from generation.kv_buffer import with_room
from generation.kv_cache import is_joinable, join_rows, keep_rows


class AbandonedError(Exception):
    """Nobody waits for the completion any more, so generating was ended."""

    def __init__(self) -> None:
        super().__init__("nobody waits for the answer any more")


class BrokenModelError(RuntimeError):
    """The model's logits are not finite, so whatever it would write is not an answer. `dtype` is the model's."""

    def __init__(self, dtype: Any) -> None:
        super().__init__(
            f"the model computes values that are not finite: its weights are damaged, or too large for {dtype}"
        )


class TooLargeError(Exception):
    """A prompt does not fit in memory, not even alone.

    Attributes:
        place: its place among the prompts.
    """

    def __init__(self, place: int = 0) -> None:
        super().__init__(f"prompt {place + 1} does not fit in memory")
        self.place = place


def _ignore(_row: "Row") -> None:
    pass


@dataclass(eq=False)
class Row:
    """A prompt and what has been generated after it.

    Attributes:
        prompt: token ids, at least one.
        new_tokens: most tokens that are generated.
        sampling: further arguments of transformers' `generate`. Rows of one batch have the same.
        nobody_waits: asked before every token; generating ends where it says so.
        told: called in the thread that generates, after every token and at the end.
        adapter: PEFT's name of the adapter that completes it; empty if the model has none.
        completion: the tokens so far, without EOS.
        finish: how it ended: `stop` at an EOS, `length` at `new_tokens`; None if it has not, or with `error`.
        error: why there will be no completion.
        alone: it shares no batch any more, because one that it was in has failed.
    """

    prompt: Sequence[int]
    new_tokens: int
    sampling: Mapping[str, Any]
    nobody_waits: Callable[[], bool]
    told: Callable[["Row"], None] = _ignore
    adapter: str = ""
    completion: list[int] = field(default_factory=list)
    finish: Literal["stop", "length"] | None = None
    error: Exception | None = None
    alone: bool = False

    @property
    def is_done(self) -> bool:
        """Whether it has ended, well or not."""
        return self.finish is not None or self.error is not None

    @property
    def tokens(self) -> list[int]:
        """Prompt and completion so far."""
        return [*self.prompt, *self.completion]

    @property
    def longest(self) -> int:
        """Most tokens of prompt and completion together."""
        return len(self.prompt) + self.new_tokens

    def take(self, token: int, ends: Collection[int]) -> None:
        """The next token has been generated; any of `ends` ends the completion."""
        if token in ends:
            self.finish = "stop"
        else:
            self.completion.append(token)
            if len(self.completion) == self.new_tokens:
                self.finish = "length"
        if self.finish is None and self.nobody_waits():
            self.error = AbandonedError()
        self.told(self)

    def fail(self, error: Exception) -> None:
        """There will be no completion."""
        self.error = error
        self.told(self)


@dataclass
class Batch:
    """Rows that are generated together, the shorter ones padded on the left.

    Attributes:
        ids: (rows, width) of prompts and completions.
        mask: (rows, width), 0 over padding.
        cache: transformers' keys and values of all tokens but the last one; None before the first token.
    """

    rows: list[Row]
    ids: Any
    mask: Any
    cache: Any = None

    @classmethod
    def of(cls, rows: Sequence[Row], pad_token_id: int, device: Any) -> "Batch":
        """A new batch. Rows that had begun elsewhere go on after their tokens."""
        return cls(list(rows), *padded([row.tokens for row in rows], pad_token_id, device))

    def generated(self, ids: Any, cache: Any) -> None:
        """`ids` are the batch's own with new tokens on the right."""
        new = ids.shape[1] - self.ids.shape[1]
        self.ids, self.cache = ids, with_room(cache) if is_joinable(cache) else cache
        self.mask = _widened(self.mask, right=new, value=1)

    def unfinished(self) -> "Batch | None":
        """The batch without rows that are done, and without padding that no row needs; None if all are done."""
        import torch

        places = [place for place, row in enumerate(self.rows) if not row.is_done]
        if not places:
            return None
        if len(places) == len(self.rows):
            return self
        places = _moved_up(places)
        chosen = torch.tensor(places, device=self.ids.device)
        ids, mask = self.ids[chosen], self.mask[chosen]
        unused = int((mask.cumsum(1) == 0).sum(1).min())
        for layer in self.cache.layers:
            keep_rows(layer, places, unused)
        return Batch([self.rows[place] for place in places], ids[:, unused:], mask[:, unused:], self.cache)

    def joined(self, others: Sequence["Batch"], pad_token_id: int) -> "Batch":
        """One batch of the rows of all, of which each has begun. None of them can be used afterwards."""
        import torch

        every = [self, *others]
        width = max(one.ids.shape[1] for one in every)
        lefts = [width - one.ids.shape[1] for one in every]
        ids = torch.cat([_widened(one.ids, left, value=pad_token_id) for one, left in zip(every, lefts, strict=True)])
        mask = torch.cat([_widened(one.mask, left) for one, left in zip(every, lefts, strict=True)])
        for ours, *theirs in zip(*(one.cache.layers for one in every), strict=True):  # a layer at a time: less memory
            join_rows(ours, theirs)
        return Batch([row for one in every for row in one.rows], ids, mask, self.cache)


def _moved_up(places: Sequence[int]) -> list[int]:
    """The same places, of which the last ones stand where one is missing: few rows move.

    >>> _moved_up([0, 2, 3, 5])
    [0, 5, 2, 3]
    """
    few = range(len(places))
    behind = [place for place in places if place not in few]
    return [place if place in places else behind.pop() for place in few]


def padded(prompts: Sequence[Sequence[int]], pad_token_id: int, device: Any) -> tuple[Any, Any]:
    """Ids and mask of one batch, (prompts, width) int64, padded on the left: completions start in one column."""
    import torch

    width = max(len(ids) for ids in prompts)
    ids = torch.tensor([[pad_token_id] * (width - len(row)) + list(row) for row in prompts])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in prompts])
    return ids.to(device), mask.to(device)


def _widened(matrix: Any, left: int = 0, right: int = 0, value: int = 0) -> Any:
    from torch.nn.functional import pad

    return pad(matrix, (left, right), value=value)
