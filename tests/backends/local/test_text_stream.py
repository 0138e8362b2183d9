"""The pieces of a stream, with two kinds of tokenizer: each has its own way to write characters as bytes."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generation.rows import Row
from lorasum.backends.local import openai
from lorasum.backends.local.openai import Shape
from lorasum.backends.local.text_stream import TextStream

TEXT = "  Ana 🙂 and Béla 👩‍👩‍👧‍👦 met\n\n  at 東京駅 ...  twice "


def byte_level(folder: Path) -> Any:
    """The kind of tokenizer that GPT-2, BLOOM and Llama 3 have."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def byte_fallback(_folder: Path) -> Any:
    """The kind that Llama 2, Mistral and Gemma have, from SentencePiece: it drops the first space of a text."""
    from tokenizers import Tokenizer, decoders, models, normalizers
    from transformers import PreTrainedTokenizerFast

    tokens = ["<unk>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *map(chr, range(33, 127))]
    bpe = Tokenizer(
        models.BPE({token: number for number, token in enumerate(tokens)}, [], unk_token="<unk>", byte_fallback=True)
    )
    bpe.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    bpe.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=bpe, unk_token="<unk>", eos_token="</s>")


@pytest.fixture(scope="module", params=[byte_level, byte_fallback])
def tokenizer(request: pytest.FixtureRequest, tiny_tokenizer_dir: Path) -> Any:
    return request.param(tiny_tokenizer_dir)


def whole(tokenizer: Any, ids: list[int]) -> str:
    text: str = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text.strip()


def pieces(tokenizer: Any, ids: list[int]) -> list[str]:
    stream = TextStream(tokenizer)
    found = [stream.more(ids[:end]) for end in range(1, len(ids) + 1)]
    return [*found, stream.rest(whole(tokenizer, ids))]


@given(text=st.text() | st.text("é🙂👩‍👧東 \na\ufffd"))
def test_the_pieces_of_any_text_are_the_text_decoded_whole(tokenizer: Any, text: str) -> None:
    ids = tokenizer(text)["input_ids"]
    assert "".join(pieces(tokenizer, ids)) == whole(tokenizer, ids)


def test_a_piece_comes_as_soon_as_its_character_is_whole(tokenizer: Any) -> None:
    ids = tokenizer(TEXT)["input_ids"]
    *found, rest = pieces(tokenizer, ids)
    assert "".join(found) == TEXT.strip()
    assert not rest
    assert "🙂" in [piece.strip() for piece in found]
    assert not any("\ufffd" in piece for piece in found)


def test_a_text_that_ends_within_a_character_says_so_at_its_end(tokenizer: Any) -> None:
    ids = tokenizer("Ana 🙂")["input_ids"][:-1]
    *found, rest = pieces(tokenizer, ids)
    assert "".join(found) == "Ana"
    assert rest.strip("\ufffd ") == ""
    assert "\ufffd" in rest


def test_tokens_are_decoded_as_often_in_a_long_text_as_in_a_short_one(tokenizer: Any) -> None:
    class Counting:
        decoded = 0

        def decode(self, ids: list[int], **given: Any) -> Any:
            self.decoded += len(ids)
            return tokenizer.decode(ids, **given)

    counting = Counting()
    ids = tokenizer("Ana and Béla met 🙂. " * 40)["input_ids"]
    stream = TextStream(counting)
    for end in range(1, len(ids) + 1):
        stream.more(ids[:end])
    assert counting.decoded < 12 * len(ids)


def test_a_row_that_has_ended_before_its_tokens_are_told_of_ends_once(tokenizer: Any) -> None:
    """A busy server reads what the model's thread says of a row after the row's end."""
    row = Row([1], 9, {}, lambda: False, completion=tokenizer("Ana met")["input_ids"], finish="stop")

    class Late:
        model = SimpleNamespace(tokenizer=tokenizer)
        module = SimpleNamespace(answers_of=lambda _rows, _model: [{"generated_text": "Ana met"}])

        async def progress(self, rows: list[Any]) -> AsyncIterator[Any]:
            for _ in row.completion:
                yield row

    async def read() -> list[str]:
        events = openai._events(Late(), [row], Shape("run", is_chat=False), Event(), 60, False)  # type: ignore[arg-type]
        return [event.removeprefix("data: ") async for event in events]

    *found, end = asyncio.run(read())
    assert end.strip() == "[DONE]"
    choices = [choice for event in found for choice in json.loads(event)["choices"]]
    assert [(choice["text"], choice["finish_reason"]) for choice in choices] == [("Ana met", None), ("", "stop")]
