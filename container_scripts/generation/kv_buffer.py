"""Keys and values with room for the tokens to come.

transformers' cache makes new tensors of all keys and values for every token, which reads and writes all of them:

    4 · layers · rows · tokens · kv heads · head size · 4 bytes      380 MB, for 16 rows of 257 tokens of SmolLM2

Here they lie in a larger buffer, and the next token is written behind them. Where rows have gone, the last ones move
into their places, and rows that come are written behind those. All is copied only when the buffer is full. The values
are the same, so no logit changes.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

ROOM = 64
"""Tokens that a buffer has room for, beside those that it is made with."""


def with_room(joinable: Any) -> Any:
    """A cache that `kv_cache.is_joinable`, with room in its layers of keys and values. It is used as before."""
    for layer in joinable.layers:
        if getattr(layer, "keys", None) is not None:
            kind: Any = type(layer)
            layer.__class__ = _roomy(kind)
    return joinable


@cache
def _roomy(kind: type[Any]) -> type[Any]:
    """A kind of transformers' layers, whose keys and values go on in a buffer."""

    class RoomyLayer(kind):  # type: ignore[misc]  # mypy does not know which kind
        keys: Any
        values: Any

        def update(self, key_states: Any, value_states: Any, *_args: Any, **_more: Any) -> tuple[Any, Any]:
            self.keys, self.values = _grown(self.keys, key_states), _grown(self.values, value_states)
            return self.keys, self.values

    return RoomyLayer


def kept(states: Any, places: Sequence[int], unused: int) -> Any:
    """The states of the rows at these places, in their order, without the first `unused` tokens.

    They are written over the other rows, so none may move to a place behind its own, and `states` cannot be used again.
    """
    for place, row in enumerate(places):
        if place != row:
            states[place] = states[row]
    return states[: len(places), :, unused:]


def beside(parts: Sequence[Any]) -> Any:
    """The states of all rows, zeros before the shorter ones: in the first one's buffer if it has room."""
    first, *more = parts
    _, heads, known, size = first.shape
    rows, end = sum(len(part) for part in parts), max(part.shape[-2] for part in parts)
    left = end - known
    if _has_room(first, rows, left, known):
        joined = first.as_strided((rows, heads, end, size), first.stride(), first.storage_offset() - left * size)
        joined[: len(first), :, :left] = 0
    else:
        joined, more = _buffer(first, rows, end), list(parts)
    place = rows - sum(len(part) for part in more)
    for part in more:
        column = end - part.shape[-2]
        joined[place : place + len(part), :, :column] = 0
        joined[place : place + len(part), :, column:] = part
        place += len(part)
    return joined


def _grown(states: Any, new: Any) -> Any:
    """`states`, (rows, heads, tokens, size), with the states of new tokens behind: in their buffer if that has room."""
    rows, heads, known, size = states.shape
    end = known + new.shape[-2]
    if _has_room(states, rows, 0, end):
        grown = states.as_strided((rows, heads, end, size), states.stride(), states.storage_offset())
    else:
        grown = _buffer(states, rows, end)
        grown[..., :known, :] = states
    grown[..., known:, :] = new
    return grown


def _buffer(like: Any, rows: int, tokens: int) -> Any:
    """The first tokens of a new buffer, which has room for more."""
    _, heads, _, size = like.shape
    return like.new_empty(rows, heads, tokens + ROOM, size)[..., :tokens, :]


def _has_room(states: Any, rows: int, left: int, end: int) -> bool:
    """Whether `states` lie in a buffer that takes so many rows, `left` tokens before them, and `end` from there on."""
    _, heads, _, size = states.shape
    of_row, of_head, *inner = states.stride()
    offset = states.storage_offset()
    begin, tokens = offset // size, of_head // size
    is_buffer = inner == [size, 1] and of_row == heads * of_head and offset % size == 0
    whole = rows * of_row * states.element_size() <= states.untyped_storage().nbytes()
    return bool(is_buffer and whole and left <= begin and begin + end <= tokens)
