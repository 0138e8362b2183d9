"""Writes polls and quotes as a dialogue has them, whichever app they are from. Pure."""

from collections.abc import Iterable


def asked(question: str, answers: Iterable[str]) -> str:
    """A poll: `POLL: Where? OPTION: Here OPTION: There`, as WhatsApp exports it."""
    return " OPTION: ".join([f"POLL: {question}", *answers])


def quoted(author: str, text: str) -> str:
    """What somebody else wrote, and a message passes on: `> Ben: I am late`."""
    return "\n".join(f"> {line}" for line in f"{author}: {text}".split("\n"))
