"""transformers' caches: what they keep of the tokens of each row, and how rows leave them and join them.

What a layer keeps depends on what it sees:

    all tokens          keys and values of each
    a window of them    the same here, where a mask hides the others; the model's own cache forgets them
    all, by a state     the state, of one size however many tokens there are
    one token alone     nothing
"""

from collections.abc import Sequence
from typing import Any

from generation.kv_buffer import beside, kept


def windows(model: Any) -> dict[int, int]:
    """How many tokens layers look back, by their number. Those that see all tokens are not named."""
    layers = enumerate(_own_cache(model).layers)
    return {number: layer.sliding_window for number, layer in layers if _has_window(layer)}


def whole_cache(model: Any) -> Any:
    """A cache for a model, with keys and values of all tokens. With windows of them, rows would keep different ones."""
    cache = _own_cache(model)
    cache.layers = [_whole(layer) if _has_window(layer) else layer for layer in cache.layers]
    return cache


def _whole(layer: Any) -> Any:
    from transformers import cache_utils as kinds

    if states_of(layer):
        return kinds.LinearAttentionAndFullAttentionLayer(layer.number_of_states)
    return kinds.DynamicLayer()


def _has_window(layer: Any) -> bool:
    return getattr(layer, "is_sliding", False)


def is_joinable(cache: Any) -> bool:
    """Whether a cache holds nothing but keys and values of all tokens, and states."""
    from transformers import cache_utils as kinds

    whole = (kinds.DynamicLayer, kinds.LinearAttentionAndFullAttentionLayer)
    known = (*whole, kinds.LinearAttentionLayer, kinds.DummyLayer)
    if type(cache) is not kinds.DynamicCache or any(type(layer) not in known for layer in cache.layers):
        return False
    keys = [layer.keys for layer in cache.layers if type(layer) in whole]
    return bool(keys) and all(key is not None and key.numel() > 0 for key in keys)


def bytes_of_row(cache: Any) -> tuple[int, int]:
    """Bytes that a cache of one row keeps for each token, and for the row whatever its length; 0 of unknown caches."""
    of_token = of_row = 0
    for layer in getattr(cache, "layers", []):
        if (keys := keys_of(layer)) is not None and keys.numel():
            of_token += (keys.nbytes + layer.values.nbytes) // keys.shape[2]
        of_row += sum(state.nbytes for states in states_of(layer) for state in states.values() if state is not None)
    return of_token, of_row


def keys_of(layer: Any) -> Any:
    """Keys of a layer, (rows, heads, tokens, size); None if it has none."""
    return getattr(layer, "keys", None)


def states_of(layer: Any) -> list[dict[int, Any]]:
    """States of a layer by number: (rows, ...), or None where one has not begun. Plain attention has none."""
    return [getattr(layer, name) for name in ("conv_states", "recurrent_states") if hasattr(layer, name)]


def keep_rows(layer: Any, places: Sequence[int], unused: int) -> None:
    """Leave a layer the rows at these places, in their order, without the first `unused` tokens.

    No row may move to a place behind its own.
    """
    if keys_of(layer) is not None:
        layer.keys, layer.values = kept(layer.keys, places, unused), kept(layer.values, places, unused)
    for states in states_of(layer):
        states.update({number: state[list(places)] for number, state in states.items() if state is not None})


def join_rows(layer: Any, others: Sequence[Any]) -> None:
    """Add the rows that the same layer has in other caches, which cannot be used afterwards."""
    import torch

    if keys_of(layer) is not None:
        layer.keys = beside([layer.keys, *(other.keys for other in others)])
        layer.values = beside([layer.values, *(other.values for other in others)])
        for other in others:
            other.keys = other.values = None
    for states, *more in zip(*(states_of(one) for one in (layer, *others)), strict=True):
        for number, state in states.items():
            if state is not None:
                states[number] = torch.cat([state, *(other[number] for other in more)])


def _own_cache(model: Any) -> Any:
    """What transformers' `generate` would make for a model."""
    from transformers import DynamicCache

    return DynamicCache(config=model.config.get_text_config(decoder=True))
