"""The text of a completion in pieces, while its tokens come: a token is decoded a few times, however many follow it."""

from collections.abc import Sequence
from typing import Any

from lorasum.backends.completions import Trimmed


class TextStream:
    """What is new in the text of one completion. The pieces are the text without the white space around it.

    A piece's tokens are decoded behind those of the piece before it, and the text of those is taken off, because what a
    token says depends on the one in front: SentencePiece drops the space of a text's first token. A text that ends in
    U+FFFD waits for the next token, because a character such as an emoji may be made of several. It is the method of
    vLLM's `detokenize_incrementally` and of tokenizers' `DecodeStream`, and works with any tokenizer that can `decode`.

    >>> stream = TextStream(tokenizer)
    >>> [stream.more(ids[:end]) for end in (1, 2, 3)], stream.rest("Hi 🙂")  # 🙂 is made of the last two tokens
    (['Hi', '', ' 🙂'], '')
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._begin = 0  # the first token of the last piece
        self._end = 0  # the token behind it
        self._trimmed = Trimmed()
        self._sent = 0  # characters

    def more(self, ids: Sequence[int]) -> str:
        """The text that is new with `ids`, all tokens up to now; none if the last character is not whole."""
        end = len(ids)
        known, text = self._decode(ids[self._begin : self._end]), self._decode(ids[self._begin : end])
        if len(text) <= len(known) or text.endswith("\ufffd"):
            return ""
        self._begin, self._end = self._end, end
        piece = self._trimmed.more(text[len(known) :])
        self._sent += len(piece)
        return piece

    def rest(self, whole: str) -> str:
        """What of the whole text is in no piece, such as a last character that is not whole."""
        return whole[self._sent :]

    def _decode(self, ids: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text
