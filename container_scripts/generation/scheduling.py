"""Generates the completions of many prompts, in batches that fit into memory: while serving, and while training.

The prompts of a batch are padded on the left, so that all completions start in one column, and keys and values of
earlier tokens are kept. Long prompts are read in pieces. None of this may change an answer: batching_rules.py finds out
what the model allows.

Which prompts are generated together, and when, is continuous batching.

Prompts may arrive at any time. Those that wait join the running batch between two of its tokens, as many as fit into
memory, and finished ones leave it at once. They are taken in the order of their arrival. A prompt that cannot join,
because it is sampled in another way, waits until the batch is empty, and those behind it wait too: so nobody starves.

Where a model's cache is more than keys and values of all tokens, nobody can join: whoever waits makes the next batch.
"""

import logging
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from generation import batch_memory
from generation.batch_memory import PIECE
from generation.generator import Generator
from generation.kv_cache import whole_cache
from generation.prefix_cache import Prefix
from generation.rows import AbandonedError, Batch, BrokenModelError, Row, TooLargeError
from gpu import GpuLostError, is_lost, is_out_of_memory

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
        TooLargeError: a prompt does not fit in memory.
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
        self._has_failed = False
        self._prefix: Prefix | None = None  # of a prompt that was read before

    def add(self, rows: Iterable[Row]) -> None:
        """Let rows wait for their turn."""
        self._waiting.extend(rows)

    @property
    def is_waited_for(self) -> bool:
        """Whether there are rows whose turn has not come."""
        return bool(self._waiting)

    def run(self) -> None:
        """Complete all rows, also those that are added meanwhile. What goes wrong with a row is its `error`.

        Raises:
            GpuLostError: none can be completed any more.
        """
        import torch

        running: Batch | None = None
        self._most = None
        while running or self._waiting:
            if newcomers := self._admitted(running):
                running = self._merge(self._prefill(newcomers, running))
            elif running:
                running = self._decode(running)
            if self._has_failed:  # only here nothing holds the tensors of a batch that has failed
                self._prefix = None
                torch.cuda.empty_cache()
                self._has_failed = False

    def _prefill(self, newcomers: list[Row], running: Batch | None) -> list[Batch]:
        """The running batch, and those of newcomers after their first token: their last, where they cannot join it."""
        generator, batches = self._generator, [running] if running else []
        joins, device = generator.sharing.joins, generator.model.device

        def start(rows: list[Row]) -> Batch | None:
            return self._generate(Batch.of(rows, generator.pad_token_id, device), is_over=lambda: joins)

        for rows in batch_memory.passes(newcomers, device) if joins else [newcomers]:
            in_memory = sum(len(batch.rows) for batch in batches)
            if batch := self._attempt(rows, partial(start, rows), in_memory):
                batches.append(batch)
        return batches

    def _merge(self, batches: list[Batch]) -> Batch | None:
        """One batch of all rows; None if there are none, or they fail."""
        if len(batches) < 2:
            return batches[0] if batches else None
        first, *others = batches
        rows = [row for batch in batches for row in batch.rows]
        return self._attempt(rows, partial(first.joined, others, self._generator.pad_token_id))

    def _decode(self, running: Batch) -> Batch | None:
        """The running batch after some tokens: when a row is done, or one that waits can join."""

        def is_over() -> bool:
            return any(row.is_done for row in running.rows) or self._next_fits(running.rows)

        return self._attempt(running.rows, partial(self._generate, running, is_over))

    def _generate(self, batch: Batch, is_over: Callable[[], bool]) -> Batch | None:
        """The batch after tokens until `is_over`, which is asked after every one; None if all its rows are done."""
        self._call_model(batch, is_over)
        if self._most:  # one row that needed much shall not keep all others apart
            self._most += sum(row.finish is not None for row in batch.rows)
        return batch.unfinished()

    def _admitted(self, running: Batch | None) -> list[Row]:
        """The rows whose turn it is, taken from those that wait."""
        if running and not self._generator.sharing.joins:
            return []
        together = list(running.rows) if running else []
        before = len(together)
        while self._next_fits(together):
            row = self._waiting.popleft()
            if row.nobody_waits():
                row.fail(AbandonedError())
            elif not together and not batch_memory.fits_alone(row, self._generator):
                row.fail(TooLargeError())  # a processor's memory gives no error: Linux would kill the process
            else:
                together.append(row)
        return together[before:]

    def _next_fits(self, together: Sequence[Row]) -> bool:
        """Whether the first of the rows that wait can be generated beside others."""
        if not self._waiting:
            return False
        row, sharing = self._waiting[0], self._generator.sharing
        if not together:
            self._room = batch_memory.batch_room(self._generator.model.device)
            return True
        every = [*together, row]
        if any(one.alone or one.sampling != row.sampling or not sharing.allows_rows(one.longest) for one in every):
            return False
        fits = batch_memory.batch_bytes(every, self._generator) <= self._room
        return fits and (self._most is None or len(every) <= self._most)

    def _attempt(self, rows: Sequence[Row], work: Callable[[], Batch | None], also_in_memory: int = 0) -> Batch | None:
        """What `work` makes of rows; None if it failed. Then they wait again, or have their error.

        Args:
            also_in_memory: other rows that are kept meanwhile.

        Raises:
            GpuLostError: the GPU answers nothing more.
        """
        error: Exception = TooLargeError()
        try:
            return work()
        except Exception as caught:  # whatever the model's code stumbles over: it ends the row that caused it only
            if is_out_of_memory(caught):
                self._most = max(1, (len(rows) + also_in_memory) // 2)
            elif is_lost(self._generator.model.device):
                raise GpuLostError(caught) from caught
            else:
                error = caught
                traceback.clear_frames(error.__traceback__)  # they hold the batch's tensors
                for row in rows:
                    row.alone = True
        self._retry_smaller(rows, error, also_in_memory)
        return None

    def _retry_smaller(self, rows: Sequence[Row], error: Exception, also_in_memory: int) -> None:
        """Let rows that have failed together wait again, for smaller batches. One that was alone has its error."""
        self._has_failed = True
        left = [row for row in rows if not row.is_done]
        if len(rows) + also_in_memory == 1:
            for row in left:
                row.fail(error)
        else:
            _log.info("a batch of %d failed, and is tried again in smaller ones: %s", len(rows), error)
            self._waiting.extendleft(reversed(left))

    def _call_model(self, batch: Batch, is_over: Callable[[], bool]) -> None:
        """One call of transformers' `generate`: the rows take its tokens, and the batch its keys and values."""
        step, has_begun = _Step(batch, self._generator, is_over), batch.cache is not None
        found = self._generator.model.generate(
            input_ids=batch.ids,
            attention_mask=batch.mask,
            max_new_tokens=max(row.new_tokens - len(row.completion) for row in batch.rows),
            stopping_criteria=[step.ended],
            logits_processor=[step.only_finite],
            return_dict_in_generate=True,
            **self._cache_arguments(batch),
            **_adapter_arguments(batch),
            **batch.rows[0].sampling,
        )
        batch.generated(found.sequences, found.get("past_key_values"))
        if not has_begun and self._generator.sharing.joins and self._allows_pieces(batch):
            self._prefix = Prefix.of(batch)

    def _cache_arguments(self, batch: Batch) -> dict[str, Any]:
        model, sharing = self._generator.model, self._generator.sharing
        if batch.cache is not None:
            return {"past_key_values": batch.cache}
        allows_pieces = self._allows_pieces(batch)
        in_pieces = {"prefill_chunk_size": PIECE} if allows_pieces and batch.ids.shape[1] > PIECE else {}
        if not sharing.joins:
            return {"use_cache": sharing.cache, **in_pieces}
        known = None
        if self._prefix and allows_pieces and not in_pieces:
            known = self._prefix.cache(batch, model)
        return {"past_key_values": whole_cache(model) if known is None else known, **in_pieces}

    def _allows_pieces(self, batch: Batch) -> bool:
        """Whether the prompts of a batch can be read in pieces, and leave their first piece to others."""
        return self._generator.sharing.allows_pieces(max(row.longest for row in batch.rows))


class _Step:
    """What `generate` asks for each token of a batch: first before it chooses one for every row, then after it.

    A GPU computes while the processor prepares what comes next, as long as that needs no value of it. So both are
    answered with one look at its values.
    """

    def __init__(self, batch: Batch, generator: Generator, is_over: Callable[[], bool]) -> None:
        self._batch, self._generator, self._is_over = batch, generator, is_over
        self._are_finite: Any = None

    def only_finite(self, _ids: Any, scores: Any) -> Any:
        """The logits. Those of a row that are not finite are zeros: a GPU that draws by them is lost."""
        import torch

        finite = scores.amax(dim=-1, keepdim=True).isfinite()  # a model may forbid tokens with minus infinity
        self._are_finite = finite.all()
        return torch.where(finite, scores, 0.0)

    def ended(self, ids: Any, _scores: Any, **_: Any) -> Any:
        """Which rows have ended: all of them, when the call is over."""
        import torch

        rows, ends = self._batch.rows, self._generator.eos_token_ids
        *tokens, are_finite = torch.cat([ids[:, -1], self._are_finite.to(ids.dtype)[None]]).tolist()
        if not are_finite:
            raise BrokenModelError(self._generator.model.dtype)
        for row, token in zip(rows, tokens, strict=True):
            if not row.is_done:
                row.take(token, ends)
        over = self._is_over()
        done = [over or row.is_done for row in rows]
        if all(done) or not any(done):
            return ids.new_full((len(rows),), all(done), dtype=torch.bool)  # made where it is needed
        return torch.tensor(done, device=ids.device)


def _adapter_arguments(batch: Batch) -> dict[str, Any]:
    names = [row.adapter for row in batch.rows]
    return {"adapter_names": names} if names[0] else {}
