"""Keys and values with room for the tokens to come.

transformers' cache makes new tensors of all keys and values for every token, which reads and writes all of them:

    4 · layers · rows · tokens · kv heads · head size · 4 bytes      380 MB, for 16 rows of 257 tokens of SmolLM2

Here they lie in a larger buffer, and the next token is written behind them. A copy is made only when the buffer is
full, or when rows have come or gone. The values are the same, so no logit changes.
"""

from functools import cache
from typing import Any

ROOM = 64
"""Tokens that a buffer has room for, beside those that it is made with."""


def with_room(joinable: Any) -> Any:
    """A cache that `rows.is_joinable`, with room in its layers. It is used as before."""
    joinable.layers = [_layer_class()(layer) for layer in joinable.layers]
    return joinable


@cache
def _layer_class() -> Any:
    from transformers.cache_utils import DynamicLayer  # here, because it takes seconds

    class RoomyLayer(DynamicLayer):  # type: ignore[misc]  # mypy does not know transformers
        """A layer of the cache that goes on with the states of another one."""

        def __init__(self, layer: Any) -> None:
            super().__init__()
            self.__dict__.update(layer.__dict__)
            self.keys, self.values = layer.keys, layer.values

        def update(self, key_states: Any, value_states: Any, *_args: Any, **_more: Any) -> tuple[Any, Any]:
            self.keys, self.values = _grown(self.keys, key_states), _grown(self.values, value_states)
            return self.keys, self.values

    return RoomyLayer


def _grown(states: Any, new: Any) -> Any:
    """`states`, (rows, heads, tokens, size), with the states of new tokens behind: in their buffer if that has room."""
    rows, heads, known, size = states.shape
    end = known + new.shape[-2]
    if not _has_room(states, end):
        buffer = states.new_empty(rows, heads, end + ROOM, size)
        buffer[..., :known, :] = states
        states = buffer
    grown = states.as_strided((rows, heads, end, size), states.stride(), states.storage_offset())
    grown[..., known:, :] = new
    return grown


def _has_room(states: Any, end: int) -> bool:
    """Whether `states` are the first tokens of each head in a buffer that takes `end` of them."""
    rows, heads, _, size = states.shape
    of_row, of_head, *inner = states.stride()
    begin, tokens = states.storage_offset() // size, of_head // size
    is_buffer = inner == [size, 1] and of_row == heads * of_head and states.storage_offset() % size == 0
    whole = rows * of_row * states.element_size() <= states.untyped_storage().nbytes()
    return bool(is_buffer and whole and begin + end <= tokens)
