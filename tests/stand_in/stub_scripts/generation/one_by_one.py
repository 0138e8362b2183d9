"""What the local server asks of inference.py beside SageMaker's handler: here a request is one row, in its turn."""

import sys
from collections.abc import Callable
from typing import Any


class Row:
    """A request, and its answer or error. `told` is called at its end."""

    def __init__(self, data: Any, model: Any) -> None:
        self.data, self.model = data, model
        self.answer: Any = None
        self.error: Exception | None = None
        self.is_done = False
        self.told: Callable[[Row], None]


class Waiting(list[Row]):
    add = list.extend
    is_waited_for = property(bool)


def scheduler(_model: Any) -> Waiting:
    return Waiting()


def rows_of(data: Any, model: Any, _nobody_waits: object = None) -> list[Row]:
    return [Row(data, model)]


def run(waiting: Waiting) -> None:
    while waiting:
        row = waiting.pop(0)
        try:
            row.answer = sys.modules["inference"].predict_fn(row.data, row.model)
        except Exception as error:
            row.error = error
        row.is_done = True
        row.told(row)


def answers_of(rows: list[Row], _model: Any) -> Any:
    if rows[0].error:
        raise rows[0].error
    return rows[0].answer


class GpuLostError(Exception):
    """As gpu.py has it; there is no GPU here."""


def chat_prompt(messages: Any, model: Any) -> str:
    """The last message."""
    return str(messages[-1]["content"])
