"""Examines the stream of examples: duplicates, personal data, and what the splits share."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from lorasum.config.data import DataConfig
from lorasum.data.duplicates import NearDuplicates, Seen, key
from lorasum.data.files.splits import Split
from lorasum.data.personal.finding import count_personal, redact, unexplained_numbers
from lorasum.data.records import Example
from lorasum.data.tokenize_pack import Tokens, batches, text_batches
from lorasum.data.validate import Rejected, Tally
from lorasum.prompt import Prompt

_BATCH = 1024  # examples that are examined together


@dataclass(slots=True)
class Findings:
    """What was found in the examples of both splits.

    Attributes:
        taken_out: with `data.redact`, how many items of personal data were replaced, by kind.
        left_in, left_in_at: with `data.redact`, how many long numbers of unknown meaning stay, and the first one's row.
        shared, shared_at: training dialogues that stand in the test split, `exact` and `near`, and the first one's row.
        longest, shortest: tokens and place of such an example of the split at hand.
        control: for each row that holds a control token, the token and the row's place.
    """

    personal: Counter[str] = field(default_factory=Counter)
    taken_out: Counter[str] = field(default_factory=Counter)
    left_in: int = 0
    left_in_at: str = ""
    shared: Counter[str] = field(default_factory=Counter)
    shared_at: dict[str, str] = field(default_factory=dict)
    test_dialogues: Seen = field(default_factory=Seen)
    near: NearDuplicates = field(default_factory=NearDuplicates)
    longest: tuple[int, str] = (0, "")
    shortest: tuple[int, str] = (0, "")
    control: list[tuple[str, str]] = field(default_factory=list)


def unique(
    usable: Iterable[tuple[str, Example]], prompt: Prompt, data: DataConfig, tally: Tally, findings: Findings
) -> Iterator[tuple[str, Example]]:
    """Redact, count personal data and leave out duplicates, as the config says."""
    seen = Seen()
    for batch in text_batches(usable, _BATCH):
        if data.redact:
            batch = [(where, _redacted(where, example, data.phone_region, findings)) for where, example in batch]
        else:
            texts = [text for _, one in batch for text in (one.dialogue, one.summary)]
            count_personal(texts, findings.personal, data.phone_region)
        for where, one in batch:
            if token := prompt.control_token_in(one.dialogue) or prompt.control_token_in(one.summary):
                findings.control.append((token, where))
        again = seen.add([key(one.dialogue, one.summary) for _, one in batch])
        for (where, example), repeated in zip(batch, again, strict=True):
            if repeated and data.duplicates == "drop":
                tally.reject(where, Rejected("duplicate"), example.as_row())
            else:
                yield where, example


def _redacted(where: str, example: Example, region: str, findings: Findings) -> Example:
    """The example without personal data. What is replaced is counted, and so are numbers that may be personal."""
    texts = [redact(text, region, findings.taken_out) for text in (example.dialogue, *example.references)]
    left = sum(len(unexplained_numbers(text, region)) for text in texts)
    if left:
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
    for batch in batches(kept, _BATCH):
        dialogues = [key(example.dialogue) for _, example, _ in batch]
        tokens = [tokens for _, _, tokens in batch]
        if split == "test":
            findings.test_dialogues.add(dialogues)
            findings.near.index(tokens)
        else:
            exact = findings.test_dialogues.contains(np.array(dialogues, np.uint64))
            near = np.array(findings.near.find(tokens), bool) & ~exact
            for kind, found in (("exact", exact), ("near", near)):
                findings.shared[kind] += int(found.sum())
                if found.any():
                    findings.shared_at.setdefault(kind, batch[int(found.argmax())][0])
        lengths = [len(one.ids) for one in tokens]
        for length, pick in ((max(lengths), "longest"), (min(lengths), "shortest")):
            known = getattr(findings, pick)[0]
            if (length > known) if pick == "longest" else (length < known):
                setattr(findings, pick, (length, batch[lengths.index(length)][0]))
        yield from batch
