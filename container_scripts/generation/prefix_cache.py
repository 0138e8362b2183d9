"""What prompts begin with alike, such as an instruction or a chat's header, is not read again in each of them.

Keys and values of a token do not depend on what follows, but for rows so long that their positions change (rotary.py),
which leave nothing here. So those of the first tokens of the prompt that was read last are kept, and what all prompts
of a pass begin with too is taken from there. Padding stays on the left, as if all was read:

    columns of the pass    0 1 2 3 4 5 6 7      a b c are known: columns 0 to 2 are taken, and 3 to 7 are read
    the longest row        a b c d e f g h
    a shorter one          . a b c m n o p      c is read once more
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from generation.kv_buffer import with_room
from generation.kv_cache import keys_of, states_of, whole_cache

if TYPE_CHECKING:
    from generation.rows import Batch

_MOST = 256  # tokens that are kept
_WORTH = 8  # taken is an eighth of the columns or more: attention is slower where not all of them are read


@dataclass(frozen=True)
class Prefix:
    """The first tokens of a prompt.

    Attributes:
        tokens: their ids.
        adapter: that of the prompt's row, which has made the states.
        states: keys and values, (heads, tokens, size), by the number of their layer.
    """

    tokens: Sequence[int]
    adapter: str
    states: Mapping[int, tuple[Any, Any]]

    @classmethod
    def of(cls, batch: "Batch") -> "Prefix | None":
        """Copied from the longest row of a batch that has begun; None if a state holds all of a row's tokens."""
        if any(states_of(layer) for layer in batch.cache.layers):
            return None
        place = max(range(len(batch.rows)), key=lambda place: len(batch.rows[place].tokens))
        begin, width = int((batch.mask[place] == 0).sum()), batch.cache.get_seq_length()
        part = place, slice(None), slice(begin, min(begin + _MOST, width))
        states = {
            number: (layer.keys[part].clone(), layer.values[part].clone())
            for number, layer in enumerate(batch.cache.layers)
            if keys_of(layer) is not None
        }
        row = batch.rows[place]
        return cls(row.tokens[: min(_MOST, width - begin)], row.adapter, states)

    def cache(self, batch: "Batch", model: Any) -> Any:
        """The model's cache of the first columns of a batch that is to be read; None if that does not pay."""
        import torch

        prompts = [row.tokens for row in batch.rows]
        alike = takewhile(lambda column: len(set(column)) == 1, zip(self.tokens, *prompts, strict=False))
        known = min(sum(1 for _ in alike), min(map(len, prompts)) - 1)  # the last token is read, for what follows it
        others = any(row.adapter != self.adapter for row in batch.rows)
        if others or known * _WORTH < batch.ids.shape[1]:
            return None
        columns = torch.arange(known, device=batch.mask.device)
        padding = (batch.mask == 0).sum(1, keepdim=True)
        places = (columns - padding).clamp(min=0)  # a padded column is masked, so it may have any state
        cache = whole_cache(model)
        for number, (keys, values) in self.states.items():
            cache.update(keys[:, places].transpose(0, 1), values[:, places].transpose(0, 1), number)
        return with_room(cache)
