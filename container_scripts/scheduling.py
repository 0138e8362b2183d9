"""Generates the completions of many prompts, in batches that fit into memory: while serving, and while training.

The prompts of a batch are padded on the left, so that all completions start in one column, and keys and values of
earlier tokens are kept. Long prompts are read in pieces. None of this must change an answer: sharing.py finds out what
the model allows.

Which prompts are generated together, and when, is continuous batching.

Prompts may arrive at any time. Those that wait join the running batch between two of its tokens, as many as fit into
memory, and finished ones leave it at once. They are taken in the order of their arrival. A prompt that cannot join,
because it is sampled in another way, waits until the batch is empty, and those behind it wait too: so nobody starves.

Where a model's cache is more than keys and values of all tokens, nobody can join: whoever waits makes the next batch.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import batching
from batching import PIECE
from generation import Generator
from rows import AbandonedError, Batch, BrokenModelError, Row, TooLargeError

_log = logging.getLogger(__name__)


def complete(
    generator: Generator,
    prompts: Sequence[Sequence[int]],
    new_tokens: int,
    nobody_waits: Callable[[], bool],
    **sampling: Any,
) -> list[list[int]]:
    """New token ids of each prompt, up to its EOS. The caller turns gradients off.

    Args:
        generator: the model that completes them.
        prompts: token ids; none is empty.
        new_tokens: most tokens that are generated for each.
        nobody_waits: asked before every token; generating ends where it says so.
        sampling: further arguments of transformers' `generate`.

    Raises:
        AbandonedError: nobody waits.
        BrokenModelError: the logits are not finite.
        TooLargeError: a prompt does not fit in GPU memory.
    """
    rows = [Row(prompt, new_tokens, sampling, nobody_waits) for prompt in prompts]
    fill(generator, rows)
    check(rows)
    return [row.completion for row in rows]


def fill(generator: Generator, rows: Sequence[Row]) -> None:
    """Complete rows, from the shortest prompt to the longest, because shorter ones are padded to the longest.

    What goes wrong with one is its `error`. The caller turns gradients off.
    """
    scheduler = Scheduler(generator)
    scheduler.add(sorted(rows, key=lambda row: len(row.prompt)))
    scheduler.run()


def check(rows: Sequence[Row]) -> None:
    """Raise the error of the first row that has one, which then names the row's place."""
    for place, row in enumerate(rows):
        if isinstance(row.error, TooLargeError):
            raise TooLargeError(place)
        if row.error:
            raise row.error


class Scheduler:
    """Completes rows with one generator. `add` may be called in any thread, and `run` in one at a time."""

    def __init__(self, generator: Generator) -> None:
        self._generator = generator
        self._waiting: deque[Row] = deque()
        self._room = 0  # bytes for a batch
        self._most: int | None = None  # rows of a batch, after one has not fitted

    def add(self, rows: Iterable[Row]) -> None:
        """Let rows wait for their turn."""
        self._waiting.extend(rows)

    @property
    def is_waited_for(self) -> bool:
        """Whether there are rows whose turn has not come."""
        return bool(self._waiting)

    def run(self) -> None:
        """Complete all rows, also those that are added meanwhile. What goes wrong with a row is its `error`."""
        running: Batch | None = None
        self._most = None
        while running or self._waiting:
            if newcomers := self._admitted(running):
                running = self._begin(newcomers, running)
            elif running:
                running = self._go_on(running)

    def _begin(self, newcomers: list[Row], running: Batch | None) -> Batch | None:
        """The running batch with newcomers, after their first token; where they cannot join, after their last one."""
        generator = self._generator
        joins, device = generator.sharing.joins, generator.model.device
        for rows in batching.passes(newcomers, device) if joins else [newcomers]:
            batch = Batch.of(rows, generator.pad_token_id, device)
            is_good = self._generate(batch, lambda: joins, len(running.rows) if running else 0)
            if is_good and (begun := batch.unfinished()):
                running = running.joined(begun, generator.pad_token_id) if running else begun
        return running

    def _go_on(self, running: Batch) -> Batch | None:
        """The running batch after some tokens: when a row is done, or one that waits can join."""

        def is_over() -> bool:
            return any(row.is_done for row in running.rows) or self._next_fits(running.rows)

        return running.unfinished() if self._generate(running, is_over) else None

    def _admitted(self, running: Batch | None) -> list[Row]:
        """The rows whose turn it is, taken from those that wait."""
        if running and not self._generator.sharing.joins:
            return []
        together = list(running.rows) if running else []
        beside = len(together)
        while self._next_fits(together):
            row = self._waiting.popleft()
            if row.nobody_waits():
                row.fail(AbandonedError())
            else:
                together.append(row)
        return together[beside:]

    def _next_fits(self, together: Sequence[Row]) -> bool:
        """Whether the first of the rows that wait can be generated beside others."""
        if not self._waiting:
            return False
        row, model, sharing = self._waiting[0], self._generator.model, self._generator.sharing
        if not together:
            self._room = batching.batch_room(model.device)
            return True
        every = [*together, row]
        if any(one.alone or one.sampling != row.sampling or not sharing.allows_rows(one.longest) for one in every):
            return False
        length, new_tokens = max(len(one.prompt) for one in every), max(one.new_tokens for one in every)
        fits = len(every) * batching.row_bytes(length, new_tokens, model, sharing) <= self._room
        return fits and (self._most is None or len(every) <= self._most)

    def _generate(self, batch: Batch, is_over: Callable[[], bool], beside: int = 0) -> bool:
        """Generate until `is_over`, which is asked after every token, or until all rows are done.

        Args:
            beside: rows that are kept in memory meanwhile.

        Returns:
            False if it failed. The rows wait again, or have their error.
        """
        import torch

        try:
            self._call_model(batch, is_over)
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
            self._most = max(1, (len(batch.rows) + beside) // 2)
            self._failed(batch, TooLargeError(), beside)
            return False
        except Exception as error:  # whatever the model's code stumbles over: it ends the row that caused it only
            for row in batch.rows:
                row.alone = True
            self._failed(batch, error, beside)
            return False
        return True

    def _call_model(self, batch: Batch, is_over: Callable[[], bool]) -> None:
        """One call of transformers' `generate`: the rows take its tokens, and the batch its keys and values."""
        import torch

        generator, ends = self._generator, self._generator.eos_token_ids

        def stop(ids: Any, _scores: Any, **_: Any) -> Any:
            for row, token in zip(batch.rows, ids[:, -1].tolist(), strict=True):
                if not row.is_done:
                    row.take(token, ends)
            over = is_over()
            return torch.tensor([over or row.is_done for row in batch.rows], device=ids.device)

        found = generator.model.generate(
            input_ids=batch.ids,
            attention_mask=batch.mask,
            max_new_tokens=max(row.new_tokens - len(row.completion) for row in batch.rows),
            stopping_criteria=[stop],
            logits_processor=[_refuse_broken],
            return_dict_in_generate=True,
            **self._cache_arguments(batch),
            **_adapter_arguments(batch),
            **batch.rows[0].sampling,
        )
        batch.generated(found.sequences, found.get("past_key_values"))

    def _cache_arguments(self, batch: Batch) -> dict[str, Any]:
        sharing, width = self._generator.sharing, batch.ids.shape[1]
        if batch.cache is not None:
            return {"past_key_values": batch.cache}
        in_pieces = width > PIECE and sharing.allows_pieces(max(row.longest for row in batch.rows))
        return {"use_cache": sharing.cache, "prefill_chunk_size": PIECE if in_pieces else None}

    def _failed(self, batch: Batch, error: Exception, beside: int) -> None:
        """Several rows are tried again, fewer at a time; one that was alone fails."""
        left = [row for row in batch.rows if not row.is_done]
        if len(batch.rows) + beside == 1:
            for row in left:
                row.fail(error)
        else:
            _log.info("a batch of %d failed, and is tried again in smaller ones: %s", len(batch.rows), error)
            self._waiting.extendleft(reversed(left))


def _adapter_arguments(batch: Batch) -> dict[str, Any]:
    names = [row.adapter for row in batch.rows]
    return {"adapter_names": names} if names[0] else {}


def _refuse_broken(_ids: Any, scores: Any) -> Any:
    if not scores.amax(dim=-1).isfinite().all():  # a model may forbid tokens with minus infinity
        raise BrokenModelError(
            f"the model computes values that are not finite: its weights are damaged, or too large for {scores.dtype}"
        )
    return scores
