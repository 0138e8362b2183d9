"""Answers many prompts, as a job without a server.

    python answer.py --checkpoint_dir C --max_new_tokens N --temperature T

SM_CHANNEL_TRAINING holds the prompts in shards, each a JSON Lines file of {"row": number, "prompt": text}, and
SM_CHANNEL_MODEL the artifact. The answers are appended to files of the same names in C: {"row": number, "summary":
text}, or `error` of a prompt that cannot be answered. So a job that was stopped goes on where it was. At the end they
are copied to the folder `answers` of SM_MODEL_DIR, and then its record is written.

Several processes (launch.py: one for each GPU of each machine) divide the shards. The second of three answers the
second, fifth and eighth. No two write the same file, and a shard goes on in whichever process it is next.
"""

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import inference
import launch
from answering import answer_each
from engine.failure import write_failure
from engine.metrics import Metrics
from generation.request import RequestError
from shared.events import StepEvent
from shared.json_lines import end_last_line
from shared.names import (
    ANSWERS_FOLDER,
    RECORD_FILE,
    SM_CHANNEL_MODEL,
    SM_CHANNEL_TRAINING,
    SM_CURRENT_HOST,
    SM_HOSTS,
    SM_MODEL_DIR,
    SM_OUTPUT_DATA_DIR,
    SM_OUTPUT_DIR,
)
from shared.requests import read_refusal

Row = dict[str, Any]

_AT_ONCE = {"cpu": 64, "cuda": 512}
"""Prompts that are under way. More would make a processor no faster, and take its memory."""
_SORTED = 1024
_TELL_EVERY = 2.0  # seconds


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer the shards of this process, or start the processes that do so, and leave the record of what they did.

    Returns the exit status; the reason of a failure is in `failure`.
    """
    parser = argparse.ArgumentParser(description="Answer the prompts of a file.")
    parser.add_argument("--checkpoint_dir", required=True, type=Path)
    parser.add_argument("--max_new_tokens", required=True, type=int)
    parser.add_argument("--temperature", required=True, type=float)
    args = parser.parse_args(arguments)
    output, shards = Path(os.environ[SM_OUTPUT_DIR]), sorted(Path(os.environ[SM_CHANNEL_TRAINING]).glob("*.jsonl"))
    if ranks := launch.ranks(os.environ):
        if status := launch.run(ranks, output):
            return status
    else:
        launch.end_on_sigterm()  # what was answered is on disk
        launch.end_with_parent(os.environ)
        parameters = {"max_new_tokens": args.max_new_tokens, "temperature": args.temperature}
        try:
            own = shards[int(os.environ.get("RANK", 0)) :: int(os.environ.get("WORLD_SIZE", 1))]
            _answer_all(own, len(shards), args.checkpoint_dir, parameters)
            _leave(args.checkpoint_dir, own, Path(os.environ[SM_MODEL_DIR]))
        except Exception as error:
            write_failure(output, error)
            raise
    if "RANK" not in os.environ and _is_first_machine():
        _leave_record(len(shards), Path(os.environ[SM_MODEL_DIR]))
    return 0


def _answer_all(shards: Sequence[Path], of: int, answered: Path, parameters: dict[str, float]) -> None:
    """Answer this process's shards. The first process tells how far it is, as if all `of` shards were as far.

    Each process ends by itself: one that has no shard loads no model.
    """
    if not shards:
        return
    for shard in shards:
        end_last_line(answered / shard.name)
    done = sum(1 for shard in shards for _ in _rows(answered / shard.name))
    model = _load()
    at_once = _AT_ONCE[model.model.device.type]
    progress = _Progress(sum(1 for shard in shards for _ in _rows(shard)), done, of / len(shards), at_once)

    def write(place: tuple[Path, int], found: str | RequestError) -> None:
        file, row = place
        answer = (
            {"error": read_refusal(str(found)) or str(found)} if isinstance(found, RequestError) else {"summary": found}
        )
        with file.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps({"row": row, **answer}) + "\n")
        progress.one_more()

    answer_each(_prompts(shards, answered), model, parameters, write, lambda: False, at_once)


class _Progress:
    """Tells how far the first process is, at most every other second, and at the end.

    Its first rows are answered when all that were begun together are nearly done: one by one they would say that each
    row takes as long. So the time left is told from the next rows on.
    """

    def __init__(self, total: int, done: int, scale: float, at_once: int) -> None:
        self._metrics = Metrics(Path(os.environ[SM_OUTPUT_DATA_DIR]) if os.environ.get("RANK", "0") == "0" else None)
        self._total, self._done, self._scale, self._at_once = total, done, scale, at_once
        self._before, self._began, self._told = done, time.monotonic(), 0.0

    def one_more(self) -> None:
        """Another row has been answered."""
        self._done += 1
        now, total, scale = time.monotonic(), self._total, self._scale
        if now - self._told < _TELL_EVERY and self._done < total:
            return
        self._told = now
        new = self._done - self._before
        left = (total - self._done) * (now - self._began) / new if new > self._at_once else None
        steps, of = round(self._done * scale), round(total * scale)
        self._metrics.emit(StepEvent(steps, of, self._done / total, None, 0.0, 0.0, left))


def _prompts(shards: Sequence[Path], answered: Path) -> Iterator[tuple[tuple[Path, int], str]]:
    """The prompts that have no answer, each with the file and the number of its answer.

    They are read some at a time, and those are sorted: prompts that are generated together are padded to the longest.
    """
    missing = (one for shard in shards for one in _missing(shard, answered / shard.name))
    while some := list(islice(missing, _SORTED)):
        yield from sorted(some, key=lambda one: len(one[1]))


def _missing(shard: Path, answers: Path) -> Iterator[tuple[tuple[Path, int], str]]:
    known = {row["row"] for row in _rows(answers)}
    for row in _rows(shard):
        if row["row"] not in known:
            yield (answers, row["row"]), row["prompt"]


def _load() -> inference.Served:
    """The model, on this process's GPU if there are several."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    return inference.model_fn(os.environ[SM_CHANNEL_MODEL])


def _leave(answered: Path, shards: Sequence[Path], model: Path) -> None:
    """Put the answers where artifacts are. SageMaker takes the files of all machines together."""
    (model / ANSWERS_FOLDER).mkdir(parents=True, exist_ok=True)
    for shard in shards:
        shutil.copyfile(answered / shard.name, model / ANSWERS_FOLDER / shard.name)


def _leave_record(shards: int, model: Path) -> None:
    """Say that this machine's processes have ended well. The others need not: a job has completed when all have."""
    (model / RECORD_FILE).write_text(json.dumps({"answers": shards}), encoding="utf-8")


def _is_first_machine() -> bool:
    hosts = json.loads(os.environ.get(SM_HOSTS, "[]"))
    return not hosts or os.environ[SM_CURRENT_HOST] == min(hosts)


def _rows(file: Path) -> Iterator[Row]:
    if file.exists():
        with file.open(encoding="utf-8") as lines:
            yield from (json.loads(line) for line in lines)


if __name__ == "__main__":
    sys.exit(main())
