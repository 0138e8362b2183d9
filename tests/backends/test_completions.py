"""OpenAI's completions: a stream of events that arrive cut anywhere, and one that ends before the text does."""

import json
from collections.abc import Callable, Iterator

import pytest

from lorasum.backends.completions import Trimmed, from_completion, pieces_of
from lorasum.errors import BackendError, NoAnswerError, RefusedError

WORDS = ["Ana", " und Zoë", " 🙂"]


def events(*given: object, done: bool = True) -> bytes:
    lines = [": a comment", *(f"data: {json.dumps(one, ensure_ascii=False)}" for one in given)]
    return "\n\n".join([*lines, *(["data: [DONE]"] if done else []), ""]).encode()


def text(word: str) -> dict[str, object]:
    return {"model": "base", "choices": [{"index": 0, "text": word}]}


def cut(body: bytes, size: int) -> Iterator[bytes]:
    return (body[start : start + size] for start in range(0, len(body), size))


@pytest.mark.parametrize("size", [1, 3, 50, 10_000])
def test_a_stream_may_be_cut_anywhere(size: int) -> None:
    body = events(*map(text, WORDS), {"choices": [], "usage": {}})
    assert list(pieces_of("it", cut(body, size), {})) == WORDS


def test_a_stream_without_an_end_is_no_answer() -> None:
    pieces = pieces_of("it", [events(text("Ana"), done=False)], {"model": "base"})
    assert next(pieces) == "Ana"
    with pytest.raises(NoAnswerError, match="it broke off"):
        next(pieces)


@pytest.mark.parametrize(
    ("kind", "expected"), [("invalid_request_error", RefusedError), ("server_error", NoAnswerError)]
)
def test_an_error_in_a_stream_is_raised(kind: str, expected: type[Exception]) -> None:
    pieces = pieces_of("it", [events(text("Ana"), {"error": {"message": "too long", "type": kind}})], {})
    assert next(pieces) == "Ana"
    with pytest.raises(expected, match=r"it .*: too long"):
        next(pieces)


@pytest.mark.parametrize(
    "read",
    [
        lambda answer, asked: from_completion(answer, asked),
        lambda *both: list(pieces_of("it", [events(both[0])], both[1])),
    ],
)
def test_the_answer_of_another_model_is_refused(read: Callable[..., object]) -> None:
    read(text("Ana"), {"model": "base"})
    with pytest.raises(BackendError, match="answered as base, not as orders"):
        read(text("Ana"), {"model": "orders"})


def test_white_space_around_a_streamed_text_is_left_out() -> None:
    assert "".join(map(Trimmed().more, [" ", "\n Ana", " ", "will ", "", "go", "\n", " "])) == "Ana will go"
    assert "".join(map(Trimmed().more, [" ", "\n"])) == ""
