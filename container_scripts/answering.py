"""Answers any number of prompts in a job, where no server asks: batch jobs, and the base model's summaries."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, TypeVar

import inference
from generation.request import Request, RequestError
from generation.rows import Row
from generation.scheduling import Scheduler

Key = TypeVar("Key")


def answer_each(
    prompts: Iterable[tuple[Key, str]],
    model: inference.Served,
    parameters: Mapping[str, float],
    answered: Callable[[Key, str | RequestError], None],
    nobody_waits: Callable[[], bool],
    at_once: int,
) -> None:
    """Complete finished prompts. As soon as one is done, the next one begins.

    Args:
        prompts: each with a key of the caller's. They are read one at a time.
        answered: called with the key and the completion when one is done, or with why there is none. A prompt that is
            refused takes no other one with it.
        nobody_waits: asked before every token; generating ends where it says so.
        at_once: prompts that are under way, of which as many are generated together as fit into memory.

    Raises:
        AbandonedError: nobody waits for them any more.
        BrokenModelError: the model's logits are not finite.
        GpuLostError: the GPU answers nothing more in this process.
    """
    work = _Work(iter(prompts), model, parameters, answered, nobody_waits)
    for _ in range(at_once):
        work.begin_next()
    inference.run(work.scheduler)
    if work.errors:
        raise work.errors[0]


@dataclass
class _Work(Generic[Key]):
    """What `answer_each` was asked for, and the first error that ends it."""

    prompts: Iterator[tuple[Key, str]]
    model: inference.Served
    parameters: Mapping[str, float]
    answered: Callable[[Key, str | RequestError], None]
    nobody_waits: Callable[[], bool]
    scheduler: Scheduler = field(init=False)
    errors: list[Exception] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.scheduler = inference.scheduler(self.model)

    def begin_next(self) -> None:
        """Let the next prompt that is not refused wait for its turn; without one, nothing happens."""
        for key, prompt in self.prompts:
            request = Request((prompt,), are_dialogues=False, parameters=self.parameters)
            try:
                [row] = inference.rows_of(request, self.model, self._is_over)
            except RequestError as refusal:
                self.answered(key, refusal)
            else:
                row.told = partial(self._told, key)
                self.scheduler.add([row])
                return

    def _told(self, key: Key, row: Row) -> None:
        if row.is_done and not self.errors:
            try:
                self.answered(key, self._answer(row))
                self.begin_next()
            except Exception as error:  # raised at the end: the scheduler would take it for the model's, and try again
                self.errors.append(error)

    def _answer(self, row: Row) -> str | RequestError:
        try:
            return inference.answers_of([row], self.model)[0]["generated_text"]
        except RequestError as refusal:
            return refusal

    def _is_over(self) -> bool:
        return bool(self.errors) or self.nobody_waits()
