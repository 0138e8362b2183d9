"""Keys and values with room: the same as transformers', and not copied for every token."""

import torch
from transformers.cache_utils import DynamicCache

from generation.kv_buffer import ROOM, beside, kept, with_room
from generation.rows import Batch, Row

HEADS, SIZE = 2, 3


def states(rows: int, tokens: int) -> torch.Tensor:
    return torch.rand(rows, tokens, HEADS, SIZE).transpose(1, 2)  # as a model has them, not contiguous


def cache(rows: int, tokens: int) -> DynamicCache:
    made = DynamicCache()
    for layer in range(2):
        made.update(states(rows, tokens), states(rows, tokens), layer)
    return made


def copied(given: DynamicCache) -> DynamicCache:
    made = DynamicCache()
    for number, layer in enumerate(given.layers):
        made.update(layer.keys.clone(), layer.values.clone(), number)
    return made


def test_a_cache_with_room_shows_what_transformers_shows() -> None:
    """Over many tokens, several at once, rows that leave, padding that is cut off, and rows that join."""
    plain = cache(4, 5)
    roomy = with_room(copied(plain))

    def both(change: str, *given: object) -> None:
        for one in (plain, roomy):
            for layer in one.layers:
                if change == "cut":
                    layer.keys, layer.values = layer.keys[..., 2:, :], layer.values[..., 2:, :]
                elif change == "join":
                    layer.keys = torch.cat([layer.keys, layer.keys[:1]])
                    layer.values = torch.cat([layer.values, layer.values[:1]])
                else:
                    layer.batch_select_indices(*given)

    for tokens, change in [(1, ""), (ROOM + 3, "cut"), (1, "select"), (2, "cut"), (1, "join"), (ROOM, "")]:
        for _ in range(3):
            for number in range(2):
                new = states(plain.layers[0].keys.shape[0], tokens), states(plain.layers[0].keys.shape[0], tokens)
                expected, found = plain.update(*new, number), roomy.update(*new, number)
                assert all(map(torch.equal, expected, found))
                assert roomy.layers[number].get_seq_length() == plain.layers[number].get_seq_length()
        if change:
            both(change, torch.tensor([0, 2]))


def test_the_next_token_is_written_behind_the_others() -> None:
    roomy = with_room(cache(4, 5))
    [place, *others] = {roomy.update(states(4, 1), states(4, 1), 0)[0].data_ptr() for _ in range(ROOM)}
    assert not others
    layer = roomy.layers[0]
    layer.keys, layer.values = layer.keys[..., 3:, :], layer.values[..., 3:, :]
    assert roomy.update(states(4, 1), states(4, 1), 0)[0].data_ptr() == place + 3 * SIZE * 4


def test_rows_leave_and_come_in_one_buffer() -> None:
    first, wide, narrow = states(4, 5), states(1, 6), states(1, 2)
    in_buffer = beside([first, states(1, 5)])
    assert torch.equal(in_buffer[:4], first)
    left = kept(in_buffer, [0, 3, 2], unused=1)
    assert torch.equal(left, first[[0, 3, 2], :, 1:])
    zeros = torch.zeros(1, HEADS, 5, SIZE)
    for more, before in [(narrow, zeros[..., :2, :]), (states(1, 5), zeros[..., :0, :])]:
        expected = torch.cat([_padded(left, more.shape[-2]), torch.cat([before, more], dim=-2)])
        left = beside([left, more])
        assert torch.equal(left, expected)
        assert left.untyped_storage().data_ptr() == in_buffer.untyped_storage().data_ptr(), "nothing else was copied"
    joined = beside([left, wide])
    assert torch.equal(joined, torch.cat([_padded(left, 6), wide]))
    assert joined.untyped_storage().data_ptr() != in_buffer.untyped_storage().data_ptr(), "it has room for five tokens"


def _padded(given: torch.Tensor, tokens: int) -> torch.Tensor:
    return torch.nn.functional.pad(given, (0, 0, max(tokens - given.shape[-2], 0), 0))


def test_a_batch_keeps_its_states_with_room() -> None:
    batch = Batch([Row([1, 2], 4, {}, lambda: False)], torch.tensor([[1, 2]]), torch.ones(1, 2, dtype=torch.long))
    batch.generated(torch.tensor([[1, 2, 3]]), cache(1, 2))
    first = batch.cache.update(states(1, 1), states(1, 1), 0)[0].data_ptr()
    batch.generated(torch.tensor([[1, 2, 3, 4]]), batch.cache)
    assert batch.cache.update(states(1, 1), states(1, 1), 0)[0].data_ptr() == first
