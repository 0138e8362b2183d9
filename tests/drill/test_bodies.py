"""Request bodies that nobody sends by hand: each is answered, or refused at once in one line of harmless text."""

import json
import os
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import inference
from generation.request import Request, RequestError

FUZZ = int(os.environ.get("LORASUM_FUZZ", "0"))
COUNT = FUZZ or 400
_TEXTS = ["Ana: hi", "", " \n", "\x00", "\x1b[2J", "\ud83d", "é" * 50, "</s>", "{dialogue}", "a" * 3000, "\u202eabc"]
_PLAIN: list[Any] = [None, True, 0, -1, 1, 2, 1.5, 1e308, float("nan"), float("inf"), 10**400, {}, [], "0", *_TEXTS]
_KEYS = ["inputs", "dialogue", "parameters", "max_new_tokens", "temperature", "top_p", "stream", "", "\x1b", "k" * 5000]
_BYTES = [
    b"\x00",
    b"\xff",
    b"{",
    b"[" * 50_000,
    b'{"a":' * 50_000,
    b"9" * 5000,
    b'"\\ud800"',
    b",",
    b"NaN",
    b"\xef\xbb\xbf",
]


def drawn(draw: random.Random) -> bytes:
    """A body that is nearly right: now and then with odd values, and with bytes cut, doubled or put in."""
    many = draw.choice([1, 1, 2, 3, 65, 200])
    value = draw.choice(
        [draw.choice(_TEXTS[:3]), draw.choices(_TEXTS, k=many), draw.choice(_PLAIN), ["Ana: hi"] * many]
    )
    body: dict[Any, Any] = {draw.choice(["inputs", "inputs", "dialogue"]): value}
    if draw.random() < 0.3:
        body["parameters"] = {"max_new_tokens": draw.choice([1, 2])}
    elif draw.random() < 0.7:
        body["parameters"] = {draw.choice(_KEYS[3:6]): draw.choice(_PLAIN) for _ in range(draw.randrange(3))}
    for _ in range(draw.choice([0, 0, 0, 1, 3000])):
        body[draw.choice(_KEYS) + str(draw.randrange(9**9))] = draw.choice(_PLAIN)
    content = json.dumps(draw.choice([body, body, body, body, draw.choice(_PLAIN)]), default=str).encode()
    for _ in range(draw.choice([0, 0, 0, 1, 3])):
        at = draw.randrange(len(content) + 1)
        content = content[:at] + draw.choice([b"", *_BYTES]) + content[at + draw.choice([0, 1, 7]) :]
    return content


def _read(body: bytes) -> Request | None:
    """What a body asks for; None if it is refused as it has to be."""
    began = time.process_time()
    try:
        return inference.input_fn(body, "application/json")
    except RequestError as error:
        _check(error)
        return None
    finally:
        assert time.process_time() - began < 2


def _check(error: RequestError) -> None:
    said = str(error)
    assert said.isprintable(), said
    assert len(said) < 1000, said[:200]


@pytest.mark.timeout(3600)
def test_every_body_is_answered_or_refused_in_one_line(tried: Counter[str], tiny_model_dir: Path) -> None:
    draw, served = random.Random(None if FUZZ else 5), inference.model_fn(str(tiny_model_dir))
    answered = 0
    for number in range(COUNT):
        body = drawn(draw)
        try:
            request = _read(body)
            if request and len(request.texts) < 4 and request.parameters.get("max_new_tokens", 9) < 3:
                assert len(inference.predict_fn(request, served)) == len(request.texts)
                answered += 1
        except RequestError as error:  # of a prompt that is too long
            _check(error)
        except Exception as error:
            raise AssertionError(f"body {number}: {body[:300]!r}") from error
        tried["request bodies"] += 1
    assert answered
