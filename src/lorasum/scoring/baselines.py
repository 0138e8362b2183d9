"""What costs nothing, and what a model has to beat: the first sentences of a dialogue, and its longest utterance."""

from lorasum.shared.words import sentences


def lead(dialogue: str) -> str:
    """The first three sentences of a dialogue, speakers' names and all: the field's lead-3 baseline."""
    return " ".join(sentences(dialogue)[:3])


def longest_utterance(dialogue: str) -> str:
    """The longest line of a dialogue, the first of several that are as long."""
    return max((line.strip() for line in dialogue.splitlines()), key=len, default="")
