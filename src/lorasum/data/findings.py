"""Examines the stream of examples: duplicates, personal data, and what the splits share."""

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from lorasum.config.data import DataConfig
from lorasum.data.duplicates import MOST_TEST_EXAMPLES, NearDuplicates, Seen, key
from lorasum.data.files.splits import Split
from lorasum.data.personal.finding import (
    candidates,
    count_personal,
    redact,
    unexplained_numbers,
)
from lorasum.data.personal.phones import check_can_redact
from lorasum.data.records import Example
from lorasum.data.tally import Rejected, Tally
from lorasum.data.tokenize_pack import Tokens, changed_word, text_batches
from lorasum.models.prompt import Prompt
from lorasum.system.batched import batched

_BATCH = 1024  # examples that are examined together
_MOST_SHARED = 10_000  # rows that are named
GIVEN_BACK = 200
"""Rows of a split whose tokens are compared with their texts."""


@dataclass(frozen=True, slots=True)
class SharedRow:
    """A training row whose dialogue stands in the test split, `exact`ly or `near`ly, with the test row, if known."""

    kind: str
    train: str
    test: str


@dataclass(slots=True)
class Findings:
    """What was found in the examples of both splits.

    Attributes:
        personal, personal_at: items of personal data by kind, and the row of the first one.
        taken_out: with `data.redact`, how many items of personal data were replaced, by kind.
        left_in, left_in_at: with `data.redact`, how many long numbers of unknown meaning stay, and the first one's row.
        shared: how many training dialogues stand in the test split, `exact` and `near`.
        shared_rows: the first of them. test_keys, test_places: of the test split's dialogues, in their order.
        longest, shortest: tokens and place of such an example of the split at hand.
        control: for each row that holds a control token, the token and the row's place.
        changed: for each of the first rows that the tokenizer changes, a word, what it becomes, and the row's place.
    """

    personal: Counter[str] = field(default_factory=Counter)
    personal_at: str = ""
    taken_out: Counter[str] = field(default_factory=Counter)
    left_in: int = 0
    left_in_at: str = ""
    shared: Counter[str] = field(default_factory=Counter)
    shared_rows: list[SharedRow] = field(default_factory=list)
    test_keys: "array[int]" = field(default_factory=lambda: array("Q"))
    test_places: list[str] = field(default_factory=list)
    test_dialogues: Seen = field(default_factory=Seen)
    near: NearDuplicates = field(default_factory=NearDuplicates)
    longest: tuple[int, str] = (0, "")
    shortest: tuple[int, str] = (0, "")
    control: list[tuple[str, str]] = field(default_factory=list)
    changed: list[tuple[str, str, str]] = field(default_factory=list)


def unique(
    usable: Iterable[tuple[str, Example]], prompt: Prompt, data: DataConfig, tally: Tally, findings: Findings
) -> Iterator[tuple[str, Example]]:
    """Redact, count personal data and leave out duplicates, as the config says."""
    seen = Seen()
    for batch in text_batches(usable, _BATCH):
        if data.redact:
            batch = _redacted(batch, data.phone_region, findings)
        else:
            texts = [text for _, one in batch for text in (one.dialogue, one.summary)]
            count_personal(texts, findings.personal, data.phone_region)
            if findings.personal and not findings.personal_at:
                findings.personal_at = _first_personal(batch, data.phone_region)
        for where, one in batch:
            if token := prompt.control_token_in(one.dialogue) or prompt.control_token_in(one.summary):
                findings.control.append((token, where))
        again = seen.add([key(one.dialogue, one.summary) for _, one in batch])
        for (where, example), repeated in zip(batch, again, strict=True):
            if repeated and data.duplicates == "drop":
                tally.reject(where, Rejected("duplicate"), example.as_row())
            else:
                yield where, example


def _first_personal(batch: Iterable[tuple[str, Example]], region: str) -> str:
    """The place of the first example that seems to hold personal data; empty if none does."""
    for where, one in batch:
        found: Counter[str] = Counter()
        count_personal([one.dialogue, one.summary], found, region)
        if found:
            return where
    return ""


def noting_changes(
    examples: Iterable[tuple[str, Example]], tokenizer: Any, prompt: Prompt, findings: Findings
) -> Iterator[tuple[str, Example]]:
    """The examples; it is noted which of the first ones have a text that the tokenizer cannot give back."""
    for number, (where, example) in enumerate(examples):
        if number < GIVEN_BACK:
            words = (changed_word(tokenizer, prompt.plain(text)) for text in (example.summary, example.dialogue))
            if found := next(filter(None, words), None):
                findings.changed.append((*found, where))
        yield where, example


def _redacted(batch: Sequence[tuple[str, Example]], region: str, findings: Findings) -> list[tuple[str, Example]]:
    """The examples without personal data."""
    check_can_redact(region)
    owned = [(number, text) for number, (_, one) in enumerate(batch) for text in (one.dialogue, *one.references)]
    searched = {owned[index][0] for index in candidates([text for _, text in owned])}
    return [
        (where, _without_personal(where, one, region, findings) if number in searched else one)
        for number, (where, one) in enumerate(batch)
    ]


def _without_personal(where: str, example: Example, region: str, findings: Findings) -> Example:
    """The example without personal data. What is replaced is counted, and so are numbers that may be personal."""
    texts = []
    for text in (example.dialogue, *example.references):
        texts.append(redact(text, region, findings.taken_out))
        if left := len(unexplained_numbers(texts[-1], region)):
            findings.left_in += left
            findings.left_in_at = findings.left_in_at or where
    dialogue, summary, *others = texts
    return Example(dialogue, summary, tuple(others))


def compared(
    kept: Iterable[tuple[str, Example, Tokens]], split: Split, findings: Findings
) -> Iterator[tuple[str, Example, Tokens]]:
    """Compare each example with the other split, and note the longest and the shortest one."""
    import numpy as np

    findings.longest, findings.shortest = (0, ""), (2**31, "")
    for batch in batched(kept, _BATCH):
        dialogues = [key(example.dialogue) for _, example, _ in batch]
        tokens = [tokens for _, _, tokens in batch]
        if split == "test":
            findings.test_dialogues.add(dialogues)
            findings.near.index(tokens)
            room = MOST_TEST_EXAMPLES - len(findings.test_places)
            findings.test_keys.extend(dialogues[:room])
            findings.test_places += [where for where, *_ in batch[:room]]
        else:
            exact = findings.test_dialogues.contains(np.array(dialogues, np.uint64))
            near = findings.near.find(tokens)
            findings.shared.update(exact=0, near=0)
            for (where, *_), dialogue, is_exact, place in zip(batch, dialogues, exact, near, strict=True):
                if is_exact or place >= 0:
                    _note_shared(findings, where, dialogue if is_exact else None, place)
        lengths = [len(one.ids) for one in tokens]
        if (longest := max(lengths)) > findings.longest[0]:
            findings.longest = longest, batch[lengths.index(longest)][0]
        if (shortest := min(lengths)) < findings.shortest[0]:
            findings.shortest = shortest, batch[lengths.index(shortest)][0]
        yield from batch


def _note_shared(findings: Findings, where: str, dialogue: int | None, place: int) -> None:
    """Note a training row whose dialogue stands in the test split.

    Args:
        dialogue: its key, if it does so exactly. place: of the test row that is nearly the same, from 0; or -1.
    """
    import numpy as np

    kind = "near" if dialogue is None else "exact"
    findings.shared[kind] += 1
    if len(findings.shared_rows) == _MOST_SHARED:
        return
    if dialogue is not None:
        same = np.flatnonzero(np.frombuffer(findings.test_keys, np.uint64) == np.uint64(dialogue))
        place = int(same[0]) if len(same) else -1
    findings.shared_rows.append(SharedRow(kind, where, findings.test_places[place] if place >= 0 else ""))
