"""What a request to an endpoint may hold, how its prompt is made, and how it is refused."""

from collections.abc import Sequence
from typing import Any, Final

# Prompts.
PLACEHOLDER: Final = "{dialogue}"
"""Where the dialogue goes in a prompt template."""

# Requests to an endpoint.
MAX_PROMPTS: Final = 64
"""Most texts of one request."""
MAX_NEW_TOKENS: Final = 1024
"""Longest summary that can be asked for, tokens."""
MAX_BODY: Final = 6_291_456
"""Longest request, bytes: SageMaker's limit."""
_REFUSED: Final = "refused: "


def refusal_text(reason: str) -> str:
    """What a handler says of a request that cannot be answered as it is.

    The container's model server answers every exception with HTTP 400. The mark at the beginning tells a refusal, which
    is about this request only, from a fault of the server.
    """
    return _REFUSED + reason


def read_refusal(text: str) -> str | None:
    """The reason of a refusal; None if the text of an HTTP 400 is about a fault."""
    return text.removeprefix(_REFUSED) if text.startswith(_REFUSED) else None


def fill_template(template: str, dialogue: str, control_tokens: Sequence[str] = ()) -> str:
    """The prompt: `template` with its one placeholder replaced by `dialogue`, as `plain_text` makes it.

    A plain replacement, not str.format: braces in a dialogue or in the rest of the template stay as they are.
    """
    before, _, after = template.partition(PLACEHOLDER)
    return before + plain_text(dialogue.strip(), control_tokens) + after


def plain_text(text: str, control_tokens: Sequence[str]) -> str:
    """`text` without anything that a tokenizer takes for a control token: people write "</s>" and "<|im_end|>" too.

    A space behind the first character is enough: "< /s>" is read as text. Training, and every server, does the same.
    """
    if not control_tokens or not any(token[0] in text for token in control_tokens):
        return text
    for token in control_tokens:
        text = text.replace(token, f"{token[0]} {token[1:]}")
    return text


def without_bos(tokenizer: Any, prompt: str) -> str:
    """A rendered chat without its BOS token, if `tokenizer` puts one before every text: there would be two."""
    adds_bos = tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]
    return prompt.removeprefix(tokenizer.bos_token) if adds_bos else prompt
