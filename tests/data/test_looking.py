"""What is found out about the data on the way: duplicates, near duplicates, personal data."""

import random
from array import array
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorasum.data.duplicates import NearDuplicates, Seen, key
from lorasum.data.personal.finding import count_personal, redact
from lorasum.data.tokenize_pack import Tokens


@given(st.lists(st.lists(st.integers(0, 30), max_size=20), max_size=12))
def test_seen_holds_the_same_numbers_as_a_set(batches: list[list[int]]) -> None:
    seen, plain = Seen(), set[int]()
    for batch in batches:
        expected = []
        for number in batch:
            expected.append(number in plain)
            plain.add(number)
        assert seen.add([number * 2**58 for number in batch]) == expected
    every = np.array([number * 2**58 for number in range(31)], np.uint64)
    assert seen.contains(every).tolist() == [number in plain for number in range(31)]


def test_a_key_depends_on_all_texts_and_their_borders() -> None:
    assert key("a", "b") == key("a", "b")
    assert len({key("a", "b"), key("ab", ""), key("", "ab"), key("ab"), key("b", "a")}) == 5


def example(words: list[int]) -> Tokens:
    return Tokens(array("i", [*range(900, 912), *words, 950, 951, 7, 8]), 12 + len(words) + 2)


def test_near_duplicates_are_those_that_share_most_of_their_words() -> None:
    chance = random.Random(0)

    def dialogue(length: int = 150) -> list[int]:
        return [chance.randrange(500) for _ in range(length)]

    known, others = [dialogue() for _ in range(20)], [dialogue() for _ in range(20)]
    changed = [words.copy() for words in known]
    for words in changed:
        for _ in range(4):
            words[chance.randrange(len(words))] = 501
    half = [known[n][:40] + others[n][:110] for n in range(20)]
    near = NearDuplicates()
    near.index([example(words) for words in known[:11]])
    near.index([example(words) for words in known[11:]])
    found = near.find([example(words) for words in changed])
    assert sum(place == row for row, place in enumerate(found)) >= 19, "each by the test example it was made of"
    assert near.find([example(words) for words in known]) == list(range(20))
    assert near.find([example(words) for words in others]) == [-1] * len(others)
    assert near.find([example(words) for words in half]) == [-1] * len(half)


def test_short_dialogues_and_an_empty_test_split_have_no_near_duplicates() -> None:
    near = NearDuplicates()
    near.index([])
    assert near.find([example([1, 2]), Tokens(array("i", [1, 2]), 1)]) == [-1, -1]


CHAT = (
    "Ana: write to ana.lee@mail.example.org\n"
    "Ben: or call +1 415 555 2671. Card 4111 1111 1111 1111, at 10:30, 25.12.2024"
)


def test_personal_data_is_counted_by_kind() -> None:
    found: Counter[str] = Counter()
    count_personal(["Ana: hi", CHAT, "room 12, 100 people, $1,000,000"], found)
    assert found == {"email address": 1, "phone number": 1, "card number": 1}


def test_personal_data_is_taken_out() -> None:
    pytest.importorskip("phonenumbers")
    assert redact(CHAT, "US") == ("Ana: write to <EMAIL>\nBen: or call <PHONE>. Card <CARD>, at 10:30, 25.12.2024")
    assert redact("call 07911 123456 now", "GB") == "call <PHONE> now"
    assert redact("Ana: lunch at 12?", "US") == "Ana: lunch at 12?"
