"""Stored files, damaged at random: each is read or refused at once, and a ledger never blocks what comes next."""

import os
import random
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from lorasum.ledger.ledger import Ledger, NewerLedgerError
from lorasum.ledger.resources import Dataset
from lorasum.lifecycle.artifacts import damages
from lorasum.shared.events import DoneEvent, StepEvent, event_line, read_event
from lorasum.shared.failure import read_failure
from lorasum.shared.records import ArtifactRecord, DatasetFacts, FileFacts, from_json, record_text

FUZZ = int(os.environ.get("LORASUM_FUZZ", "0"))
COUNT = FUZZ // 10 or 200
DONE = DoneEvent(1.5, 1.25, 900, 90.0, 10.0, 9)
RECORD = ArtifactRecord(
    1, "chats", "org/model", None, "{dialogue}", 2, ("</s>",), "f", {"temperature": 0.0}, DONE, {"torch": "2.9"},
    files={"model.safetensors": FileFacts(7, "ab")},
)  # fmt: skip
MANIFEST = '{"fingerprint": "f", "template": "{dialogue}", "eos_token_id": 2, "splits": {"train": {"tokens": 7}}}'
TEXTS = {
    "lorasum.json": record_text(RECORD),
    "manifest.json": MANIFEST,
    "metrics.jsonl": event_line(StepEvent(3, 9, 0.3, 1.5, 1e-4, 90.0, 6.0)),
}
WORDS = [b"null", b"-1", b"1e999", b'"\\ud800"', b"[" * 2000, b"{}", b"\x00", b"\xff", b"9" * 5000, b"NaN", b'""']


def _dataset(name: str) -> Dataset:
    return Dataset(run="chats", name=name, backend="local", path=f"/{name}")


def damaged(content: bytes, draw: random.Random) -> bytes:
    """Up to three of: a cut, a changed byte, a piece that is taken out, doubled, or replaced by a word."""
    for _ in range(draw.randint(1, 3)):
        start = draw.randrange(len(content) + 1)
        end = min(len(content), start + draw.choice([0, 1, 5, 40, 500]))
        kind = draw.randrange(5)
        middle = [b"", draw.randbytes(end - start), content[start:end] * 2, draw.choice(WORDS), b""][kind]
        content = content[:start] + middle + (b"" if kind == 4 else content[end:])
    return content


def _read(name: str, content: bytes) -> None:
    if name == "metrics.jsonl":
        for line in content.split(b"\n"):
            read_event(line)
        read_failure(content.decode(errors="replace"))
        return
    with suppress(ValueError):
        found = from_json(ArtifactRecord, content) if name == "lorasum.json" else from_json(DatasetFacts, content)
        if isinstance(found, ArtifactRecord):
            assert all(isinstance(line, str) for line in damages(found.files, RECORD.files))


@pytest.mark.parametrize("name", TEXTS)
def test_a_damaged_text_is_read_or_refused_at_once(tried: Counter[str], name: str) -> None:
    draw = random.Random(None if FUZZ else name)
    for _ in range(COUNT):
        content = damaged(TEXTS[name].encode(), draw)
        began = time.process_time()
        try:
            _read(name, content)
        except Exception as error:
            raise AssertionError(content) from error
        assert time.process_time() - began < 2, content
    tried[f"damages of {name}"] += COUNT


def test_a_damaged_ledger_is_read_or_set_aside_and_written_again(tried: Counter[str], tmp_path: Path) -> None:
    whole = tmp_path / "whole.sqlite"
    for number in range(3):
        Ledger(whole).intend(_dataset(f"d{number}"))
    content, draw = whole.read_bytes(), random.Random(None if FUZZ else 7)
    count = COUNT // 4
    for number in range(count):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = folder / "ledger.sqlite"
        path.write_bytes(damaged(content, draw))
        ledger = Ledger(path)
        try:
            ledger.resources()
            ledger.intend(_dataset("new"))
        except NewerLedgerError:  # its version is among what was changed
            continue
        assert "new" in {row.name for row in ledger.resources()}
    tried["damages of the ledger"] += count
