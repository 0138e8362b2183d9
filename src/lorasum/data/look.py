"""Examines a user's chats before there is a config: their columns, lengths and language."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

from lorasum.config.data import Columns, DataConfig
from lorasum.data.chats.messages import looks_like_messages, messages_in
from lorasum.data.files.reading import unticked
from lorasum.data.files.splits import of_split, splits_of
from lorasum.data.records import Example, Look
from lorasum.data.rows import KNOWN
from lorasum.data.sources import Source, files_of, open_files
from lorasum.data.tally import Rejected, Row
from lorasum.data.validate import Files, check
from lorasum.errors import DataError
from lorasum.formatting import listing
from lorasum.scoring.text import language_of
from lorasum.system.paths import doc

_SAMPLE = 60  # rows that columns are chosen by
_MOST_ROWS = 100_000  # that lengths are taken from
_MOST_COLUMNS = 40
_TEXTS_OF_LANGUAGE = 100
_ALL = Columns(dialogue="\0", summary="\0")  # names that no file has, so that its reader yields every column
_ENOUGH = 0.5  # share of the rows that must be usable
_LEAST_SCORE = 3.0
_DIALOGUE_NAMES = frozenset((
    "dialogue", "dialogues", "dialog", "chat", "chats", "conversation", "conversations", "messages", "thread",
    "transcript", "transcription", "turns", "text", "document", "body", "content", "source", "input",
    "gespräch", "unterhaltung", "verlauf", "nachrichten", "dialogo", "diálogo", "conversación", "conversa",
    "discussion", "conversazione", "gesprek", "rozmowa", "диалог", "разговор", "对话", "会話", "대화",
))  # fmt: skip
_SUMMARY_NAMES = frozenset((
    "summary", "summaries", "tldr", "abstract", "highlights", "recap", "synopsis", "gist", "notes", "outcome",
    "resolution", "target", "zusammenfassung", "kurzfassung", "resumen", "résumé", "resume", "resumo",
    "riassunto", "sintesi", "samenvatting", "sammanfattning", "streszczenie", "podsumowanie", "özet", "резюме",
    "итог", "摘要", "总结", "要約", "요약",
))  # fmt: skip
_WORD = re.compile(r"[A-Z]?[a-zß-öø-ÿа-я]+|[A-Z]+(?![a-z])|[^\W\d_a-zA-Z]+")
_SAID = re.compile(r"^[^\n:]{1,40}: ?\S", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class SplitPaths:
    """The files of the splits; `test` is None if nothing tells which are for testing. `said` tells what was left."""

    train: str | list[str]
    test: str | list[str] | None
    said: tuple[str, ...] = ()


class NoColumnsError(DataError):
    """No column holds dialogues, or none holds their summaries. `names` are the columns of the source."""

    def __init__(self, source: str, names: Sequence[str]) -> None:
        self.names = tuple(names)
        columns = listing([*map(repr, names)], 12) or "none"
        super().__init__(
            f"{source}: no two columns look like a dialogue and its summary; it has {columns}",
            f"name them with --dialogue and --summary; known without names: {KNOWN}; {doc('chats')} shows how "
            "exported chats become rows",
        )


def find_splits(given: Sequence[str]) -> SplitPaths:
    """The files and folders for training and those for testing, judged by their names.

    Raises:
        DataError: none is of a known type.
    """
    if len(given) > 1:
        return _splits_of_several(given)
    [path] = given
    data = DataConfig(train=path, test=path)
    said: list[str] = []
    of_train = open_files(path, "train", data, lambda name, text: said.append(f"{name}: {text}."))
    try:
        of_test = open_files(path, "test", data)
    except DataError as error:
        return SplitPaths(path, None, (*said, f"{error.message}."))
    same = [file.path for file in files_of(of_train)] == [file.path for file in files_of(of_test)]
    return SplitPaths(path, None if same else path, tuple(said))


def _splits_of_several(given: Sequence[str]) -> SplitPaths:
    kinds = splits_of(Path(path).name for path in given)
    of_path = {path: kinds[Path(path).name] for path in given}
    named, test = of_split(of_path, "train"), of_split(of_path, "test")
    train = named or [path for path in given if of_path[path] is None]
    if not named and not (train and test):
        return SplitPaths(list(given), None)
    left = [Path(path).name for path in given if path not in (*train, *test)]
    said = (f"Left {listing(left, 3)}: add what is for training too.",) if left else ()
    return SplitPaths(_one_or_many(train), _one_or_many(test) if test else None, said)


def look(train: str | list[str], columns: Columns | None = None) -> Look:
    """Read the training rows, choose their columns unless they are given, and measure them.

    Raises:
        NoColumnsError: no columns were found.
        DataError: the files cannot be read, or hold no usable row.
    """
    others: tuple[str, ...] = ()
    if columns is None:
        columns, others = _choose(train)
    source = _source(train, columns)
    seen, files = _Seen(), Files()
    stream = source.rows(unticked)
    for where, row in islice(stream, _MOST_ROWS):
        checked = check(row, columns)
        files.note(where, row, checked)
        seen.note(where, checked)
    try:
        files.check_columns(columns)
    except DataError as error:
        several = "give one of the files, or several with the same columns"
        raise DataError(error.message, several if seen.lengths else _NAME) from error
    if not seen.lengths:
        raise DataError(f"{source.name} has no usable row" + (f"; first: {seen.first}" if seen.first else ""), _GIVE)
    return Look(
        files=tuple(file.name for file in files_of(source)),
        dialogue_column=columns.dialogue,
        summary_column=columns.summaries[0],
        others=others,
        rows=seen.rows,
        examples=len(seen.lengths),
        unusable=dict(seen.unusable),
        first_unusable=seen.first,
        more=next(stream, None) is not None,
        median_dialogue_characters=round(median(dialogue for dialogue, _ in seen.lengths)),
        longest_dialogue_characters=max(dialogue for dialogue, _ in seen.lengths),
        longest_summary_characters=max(summary for _, summary in seen.lengths),
        longest_example_characters=max(map(sum, seen.lengths)),
        language=language_of(seen.texts),
    )


@dataclass(slots=True)
class _Seen:
    """What the rows that were read have shown.

    Attributes:
        lengths: characters of each dialogue and of its summary.
        unusable: rows that are not examples, by the reason.
        first: place of the first of these, and its reason.
        texts: some examples, to tell their language by.
    """

    rows: int = 0
    lengths: list[tuple[int, int]] = field(default_factory=list)
    unusable: Counter[str] = field(default_factory=Counter)
    first: str = ""
    texts: list[str] = field(default_factory=list)

    def note(self, where: str, example: Example | Rejected) -> None:
        """Take a row into account."""
        self.rows += 1
        if isinstance(example, Rejected):
            self.unusable[example.reason] += 1
            self.first = self.first or f"{where}: {example}"
            return
        self.lengths.append((len(example.dialogue), len(example.summary)))
        if len(self.texts) < _TEXTS_OF_LANGUAGE:
            self.texts.append(f"{example.dialogue}\n{example.summary}")


_GIVE = "give it rows with a dialogue and a summary"
_NAME = "name its columns with --dialogue and --summary"


def _choose(train: str | list[str]) -> tuple[Columns, tuple[str, ...]]:
    """The columns of dialogue and summary, and other columns that could be the summary."""
    usual = Columns()
    sample = _sample(train, usual)
    if not sample:
        raise DataError(f"{_source(train, usual).name} is empty", _GIVE)
    good = [row for row in sample if isinstance(check(row, usual), Example)]
    if len(good) >= _ENOUGH * len(sample):
        return usual, ()
    rows = [row for row in _sample(train, _ALL) if isinstance(row, Mapping)]
    if not rows:
        raise DataError(f"{_source(train, usual).name} has no usable row; first: {sample[0]}", _GIVE)
    names = _column_names(rows)
    scores = {
        (dialogue, summary): score
        for dialogue in names
        for summary in names
        if dialogue != summary and (score := _score(rows, Columns(dialogue=dialogue, summary=summary))) >= _LEAST_SCORE
    }
    if not scores:
        raise NoColumnsError(_source(train, usual).name, names)
    dialogue, summary = max(scores, key=lambda pair: scores[pair])
    others = tuple(other for column, other in scores if column == dialogue and other != summary)
    return Columns(dialogue=dialogue, summary=summary), others


def _score(rows: Sequence[Mapping[str, Any]], columns: Columns) -> float:
    """How much two columns look like dialogues and their summaries; 0 if they cannot be that.

    A summary is shorter than its dialogue, has several words, unlike a date, and differs from row to row, unlike a
    label. Lines of a dialogue begin with a speaker's name. The names of the columns count too, and decide between
    similar columns.
    """
    pairs = [(row, example) for row in rows if isinstance(example := check(row, columns), Example)]
    if len(pairs) < _ENOUGH * len(rows):
        return 0.0
    examples = [example for _, example in pairs]
    shorter = sum(len(example.summary) < len(example.dialogue) for example in examples) / len(examples)
    different = len({example.summary for example in examples}) / len({example.dialogue for example in examples})
    wordy = median(len(example.summary) for example in examples) >= 8 and all(
        " " in one.summary or not one.summary.isascii() for one in examples[:10]
    )
    some = "".join(one.summary for one in examples[:10])
    wordy = wordy and sum(map(str.isalpha, some)) > sum(map(str.isdigit, some))
    said_in_summaries = sum(len(_SAID.findall(example.summary)) > 1 for example in examples) / len(examples)
    if shorter < 0.8 or different < 0.5 or not wordy or said_in_summaries > 0.5:
        return 0.0
    turns = sum(_has_turns(row.get(columns.dialogue), example.dialogue) for row, example in pairs) / len(pairs)
    named = _is_named(columns.dialogue, _DIALOGUE_NAMES) + _is_named(columns.summaries[0], _SUMMARY_NAMES)
    return 3.0 * turns + 2.0 * named


def _has_turns(value: Any, dialogue: str) -> bool:
    messages = messages_in(value)
    if messages is not None and looks_like_messages(messages):
        return True
    return len(_SAID.findall(dialogue)) > 1


def _is_named(column: str, names: frozenset[str]) -> bool:
    return not names.isdisjoint(word.lower() for word in _WORD.findall(column))


def _column_names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The columns of the rows, and the keys of the objects in them (`annotations.summary`)."""
    names: dict[str, None] = {}
    for row in rows:
        for key, value in row.items():
            names[str(key)] = None
            if isinstance(value, Mapping):
                names |= dict.fromkeys(f"{key}.{inner}" for inner in value)
    return list(names)[:_MOST_COLUMNS]


def _sample(train: str | list[str], columns: Columns) -> list[Row]:
    return [row for _, row in islice(_rows(train, columns), _SAMPLE)]


def _rows(train: str | list[str], columns: Columns) -> Iterator[tuple[str, Row]]:
    return _source(train, columns).rows(unticked)


def _source(train: str | list[str], columns: Columns) -> Source:
    return open_files(train, "train", DataConfig(train=train, test=train, columns=columns))


def _one_or_many(paths: list[str]) -> str | list[str]:
    return paths[0] if len(paths) == 1 else paths
