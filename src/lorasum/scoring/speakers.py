"""Who says what in a dialogue, and deeds that a summary gives to another speaker. English only.

What a speaker says of themselves can be told for certain, because it has an "I" or "my" in it:

    Philippa: I'll make a mountain of pasta salad      Philippa · make · mountain, pasta, salad
    summary:  Inaya will make pasta salad              Inaya    · make · pasta, salad

It is a finding where another speaker says so of themselves, by the same verb and at least one more word or value, and
where the one that the summary names says none of these words. A clause that names both may be about what one does for
the other, so there it takes an amount or a time. Questions do not count, nor does "Ann and Ben will …".
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import regex

from lorasum.scoring.quantities import quantities
from lorasum.shared.words import Words, sentences

_SPEAKER = regex.compile(r"(?m)^\s*([^\n:]{1,40}?):\s+(.*)$")
_FIRST_PERSON = regex.compile(r"(?i)\b(?:I|my|mine)\b")
_CLAUSE_END = regex.compile(r"[.!?;,\n]| and | but | while | because | so | who ")
_LETTERS = regex.compile(r"\p{L}+")
_SMALL_WORDS = (
    "about all also and any are back been being both but can could did does doing done first for from going goes had "
    "has have having he her here him his its just may might mine more must myself not now off one only our out over "
    "really she should some soon still than that the their them then there these they this those too very was way were "
    "will with would you your yours already"
)
_SMALL = frozenset(_SMALL_WORDS.split())
_SHORTEST = 3  # letters of a word that says something
_SYNONYMS = {
    **dict.fromkeys(("pay", "pays", "paying", "paid", "owe", "owes"), "pay"),
    **dict.fromkeys(("pick", "picks", "get", "gets", "fetch", "fetches", "collect", "collects"), "fetch"),
    **dict.fromkeys(("bring", "brings", "bringing", "brought"), "bring"),
    **dict.fromkeys(("lend", "lends", "lent", "borrow", "borrows"), "lend"),
}
_Value = tuple[str, float]  # kind and value of a number or time


class Misattributed(NamedTuple):
    """A clause of the summary that gives to `subject` what `speakers` say of themselves; `deed` is what it gives."""

    subject: str
    speakers: tuple[str, ...]
    deed: str


def speakers_of(dialogue: str) -> list[str]:
    """The names before the colons of a dialogue's lines, each once, in order."""
    return list(dict.fromkeys(speaker for speaker, _ in _lines(dialogue)))


def misattributed(dialogue: str, summary: str) -> Iterator[Misattributed]:
    """The clauses of the summary that give a deed to another speaker, as the head of this module has it."""
    speakers = speakers_of(dialogue)
    names = frozenset(word.lower() for speaker in speakers for word in _LETTERS.findall(speaker))
    said: dict[str, set[str | _Value]] = {speaker: set() for speaker in speakers}
    of_themselves = []
    for speaker, message in _lines(dialogue):
        for clause, end in _clauses(message):
            content: set[str | _Value] = {*_words(clause, names), *_values(clause)}
            said[speaker] |= content
            if end != "?" and _FIRST_PERSON.search(clause):
                of_themselves.append((speaker, content))
    for subject, rest in (found for sentence in sentences(summary) for found in _told(sentence, speakers)):
        verb, *others = [*_words(rest, names), ""]
        names_another = any(speaker in rest for speaker in speakers if speaker != subject)
        more: set[str | _Value] = {*_values(rest), *([] if names_another else others[:-1])}
        sharing = {speaker: more & content for speaker, content in of_themselves if verb in content and more & content}
        shared = {one for found in sharing.values() for one in found}
        if shared and subject not in sharing and not {verb, *shared} & said[subject]:
            yield Misattributed(subject, tuple(sorted(sharing)), rest.strip())


def _lines(dialogue: str) -> Iterator[tuple[str, str]]:
    for match in _SPEAKER.finditer(dialogue):
        yield match.group(1).strip(), match.group(2)


def _clauses(text: str) -> Iterator[tuple[str, str]]:
    """The clauses of `text`, each with what ends it."""
    start = 0
    for match in _CLAUSE_END.finditer(text):
        yield text[start : match.start()], match.group()
        start = match.end()
    yield text[start:], ""


def _told(sentence: str, speakers: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The clauses that begin with one speaker's name, as its subject: the name, and what follows it."""
    together = False
    for clause, _ in _clauses(sentence):
        text = clause.strip()
        subject = next((name for name in speakers if text.startswith(name)), None)
        rest = text[len(subject) :] if subject else ""
        if subject and rest and not rest.startswith(("'s", "’s")) and not together:
            yield subject, rest
        together = subject == text  # "Ann and Ben will …": the clause that follows is about both


def _words(text: str, names: frozenset[str]) -> list[str]:
    """The words of `text` that say something, stemmed, without the speakers' names."""
    return [
        _SYNONYMS.get(word) or _stem(word)
        for word in map(str.lower, _LETTERS.findall(text))
        if len(word) >= _SHORTEST and word not in _SMALL and word not in names
    ]


def _values(text: str) -> set[_Value]:
    return {(quantity.kind, quantity.value) for quantity in quantities(text) if quantity.kind != "date"}


@lru_cache(maxsize=10_000)
def _stem(word: str) -> str:
    return Words("en").tokenize(word)[0]
