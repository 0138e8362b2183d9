"""A file of many rows is summarised by clients that are killed: each row once, in order, and memory stays flat.

`make test` tries 2,000 rows and a stub that answers each prompt with its end, `make drill` 100,000 and a tiny model.
"""

import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil
import pytest
from forks import Client
from local_world import REAL, STUBS, LocalWorld, local_world
from world import FULL

from lorasum.backends.local.backend import LocalBackend
from lorasum.backends.local.processes import find
from lorasum.ledger.ledger import Ledger
from lorasum.ledger.resources import Endpoint
from lorasum.shared.requests import fill_template

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]

ROWS, KILLS = (100_000, 5) if FULL else (2_000, 2)
BATCH = 64
KILLED_AT = [kill * ROWS // (KILLS + 1) for kill in range(1, KILLS + 1)]
ROOM = 64e6
"""Bytes that a process may grow by; all of 100,000 rows with their answers would take several times that."""
SIZES = ["--set", f"predict.batch_size={BATCH}", "--set", "predict.max_new_tokens=4", "--concurrency", "2"]


world = local_world(REAL if FULL else STUBS)


def test_each_row_of_a_file_is_answered_once_by_killed_clients(world: LocalWorld, tried: Counter[str]) -> None:
    drawn = random.Random(7)
    given = [
        {"id": f"row {i}", "dialogue": f"Ana: {i:<150}."} for i in range(ROWS)
    ]  # as long as another: asked in order
    for number, row in enumerate(KILLED_AT):  # the stub gives no answer to a row of the next batches until the kill
        given[row + 2 * BATCH]["dialogue"] = f"Ana: {f'held by kill{number}':<150}."
    source = world.folder / "many.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in given))
    command = ["predict", "--input", str(source), "--output", str(world.output), *SIZES]
    [(server, model)] = find("--model-dir", lambda value: value.startswith(str(world.home)))

    peaks, began = [], time.monotonic()
    for number, row in enumerate(KILLED_AT):
        hold = Path(model, f"kill{number}")
        hold.touch()
        client = world.start(*command)
        peaks.append(_grown_until(client, server, partial(_answered, world, row)))
        os.kill(client.pid, signal.SIGKILL)
        assert client.wait().code == -9
        hold.unlink()
        with next(world.folder.glob("out.jsonl.*.part")).open("ab") as part:
            part.write(b'{"row": 1, "summ')  # cut off in the middle of a write
    client = world.start(*command)
    peaks.append(_grown_until(client, server, (client.folder / "code").exists))
    assert client.wait().code == 0
    seconds = time.monotonic() - began

    lines = world.output.read_text().splitlines()
    answered = [json.loads(line) for line in lines]
    assert [(row["id"], row["dialogue"]) for row in answered] == [(row["id"], row["dialogue"]) for row in given]
    assert all(isinstance(row["summary"], str) for row in answered)
    _check_some(world, drawn.sample(answered, 20))
    assert world.left_over() == []
    assert max(grown for both in peaks for grown in both) < ROOM, peaks
    tried[f"SIGKILL during predict --input of {ROWS:,} rows"] += KILLS
    tried["rows that it answered in a second, all starts included"] += round(ROWS / seconds)
    for name, grown in zip(("client", "server"), zip(*peaks, strict=True), strict=True):
        tried[f"MB by which its {name} grew at most"] += round(max(grown) / 1e6)


def _answered(world: LocalWorld, rows: int) -> bool:
    """Whether so many rows are answered."""
    part = next(world.folder.glob("out.jsonl.*.part"), None)
    if part is None or part.stat().st_size < 20 * rows:  # no line is shorter, and counting them takes long
        return False
    return part.read_bytes().count(b"\n") >= rows


def _grown_until(client: Client, server: psutil.Process, ended: Callable[[], bool]) -> tuple[int, int]:
    """Bytes by which the client and the server have grown since the first look at both, at most."""
    both = [psutil.Process(client.pid), server]
    first, most = None, [0, 0]
    while not ended() and not (client.folder / "code").exists():
        try:
            sizes = [process.memory_info().rss for process in both]
        except psutil.NoSuchProcess:
            break
        first = first or sizes
        most = [max(now - began, so_far) for now, began, so_far in zip(sizes, first, most, strict=True)]
        time.sleep(0.05)
    return most[0], most[1]


def _check_some(world: LocalWorld, rows: list[dict[str, str]]) -> None:
    """Asked alone, the endpoint gives the same answers."""
    row = Ledger(world.home / "ledger.sqlite").find(Endpoint, "tiny", "tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LORASUM_HOME", str(world.home))
        ref = LocalBackend().endpoint_state("tiny", "tiny").ref
        assert row
        assert ref
        for one in rows:
            prompt = fill_template(row.origin.template, one["dialogue"], row.origin.control_tokens)
            asked = {"inputs": [prompt], "parameters": {"max_new_tokens": 4, "temperature": 0}}
            [answer] = LocalBackend().invoke(ref, asked, 60)
            assert answer["generated_text"].strip() == one["summary"]
