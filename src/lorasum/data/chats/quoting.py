"""Writes polls and quotes as a dialogue has them, and tells what is said twice, whichever app it is from. Pure."""

import re
from collections.abc import Iterable


def asked(question: str, answers: Iterable[str]) -> str:
    """A poll: `POLL: Where? OPTION: Here OPTION: There`, as WhatsApp exports it."""
    return " OPTION: ".join([f"POLL: {question}", *answers])


def quoted(author: str, text: str) -> str:
    """What somebody else wrote, and a message passes on: `> Ben: I am late`."""
    return "\n".join(f"> {line}" for line in f"{author}: {text}".split("\n"))


_WORD = re.compile(r"[^\W_]+")


def words_in(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def sense_of(text: str) -> tuple[str, ...]:
    """What two texts have in common that say the same: their words, or the signs of a text that has none."""
    return tuple(words_in(text)) or (text,)
