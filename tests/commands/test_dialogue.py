"""The dialogue of --text, --file or stdin."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from memory_backend import InMemoryBackend, RecordingReporter, context

from lorasum.cli.dialogue import given_dialogue
from lorasum.config.schema import Config
from lorasum.context import RunContext
from lorasum.errors import DataError, LorasumError
from lorasum.ledger.ledger import Ledger

CHAT = "03/06/2024, 18:01 - Ana: olé\n03/06/2024, 18:02 - Ben: <Media omitted>\n03/06/2024, 18:02 - Ben: hi\n"


@pytest.fixture
def run(
    make_config: Callable[..., Config], backend: InMemoryBackend, ledger: Ledger, told: RecordingReporter
) -> RunContext:
    data: dict[str, Any] = {"dataset": "d", "messages": {"speakers": {"user": "Customer"}}}
    return context(make_config(data=data), backend, ledger, told)


def test_what_is_left_out_of_an_export_is_said_once(run: RunContext, told: RecordingReporter, tmp_path: Path) -> None:
    file = tmp_path / "chat.txt"
    file.write_text(CHAT, encoding="utf-8")
    assert given_dialogue(None, file, run) == "Ana: olé\nBen: hi"
    assert told.steps == [f"{file}: WhatsApp export, 2 lines; left out: 1 media"]


def test_one_notice_is_one(run: RunContext, told: RecordingReporter, tmp_path: Path) -> None:
    file = tmp_path / "chat.json"
    messages = [{"type": "message", "user": "U1", "text": "hi", "ts": "1"}, {"subtype": "channel_join", "ts": "2"}]
    file.write_text(json.dumps(messages))
    given_dialogue(None, file, run)
    assert told.steps == [f"{file}: Slack export, 1 line; left out: 1 notice"]


def test_plain_text_is_taken_as_it_is_without_a_word(run: RunContext, told: RecordingReporter) -> None:
    for text in ("Ana: hi\r\nBen: ho", "Ana: hi\\nBen: ho\n", "Ana: hi<br>Ben: ho\n"):
        assert given_dialogue(text, None, run) == "Ana: hi\nBen: ho"
    assert told.steps == []


def test_messages_are_shown_as_the_config_says(run: RunContext, monkeypatch: pytest.MonkeyPatch) -> None:
    piped = io.TextIOWrapper(io.BytesIO(json.dumps([{"role": "user", "content": "hi"}]).encode()))
    monkeypatch.setattr(sys, "stdin", piped)
    assert given_dialogue(None, Path("-"), run) == "Customer: hi"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b'{"paths": {}}', "chat.txt: it holds no chat"),
        ("olé".encode("cp1252"), "chat.txt: not UTF-8 text, at byte 2"),
        (CHAT.splitlines()[1].encode(), "chat.txt: no messages with text in this WhatsApp export"),
        (b"PK\x03\x04", "chat.txt: this .zip is damaged"),
    ],
)
def test_a_file_without_a_dialogue_is_refused_in_one_line(
    run: RunContext, tmp_path: Path, content: bytes, problem: str
) -> None:
    file = tmp_path / "chat.txt"
    file.write_bytes(content)
    with pytest.raises(DataError, match=problem) as refused:
        given_dialogue(None, file, run)
    assert "\n" not in refused.value.message


def test_a_closed_stdin_gives_nothing(run: RunContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(LorasumError, match="nothing to summarise"):
        given_dialogue(None, None, run)
