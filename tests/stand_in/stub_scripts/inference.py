"""A model that answers each prompt with its end. It loads for as long as there is a file `hold` beside it.

A prompt with the words `held by NAME` is answered when there is no file NAME beside the model.
"""

import json
import re
import time
from pathlib import Path
from typing import Any

from generation.one_by_one import GpuLostError, answers_of, chat_prompt, rows_of, run, scheduler  # type: ignore[import-not-found]  # beside this file

__all__ = ["GpuLostError", "answers_of", "chat_prompt", "rows_of", "run", "scheduler"]


def model_fn(folder: str) -> Path:
    wait_while_there(Path(folder) / "hold")
    return Path(folder)


def wait_while_there(path: Path) -> None:
    while path.exists():
        time.sleep(0.02)


def input_fn(body: bytes, content_type: str) -> Any:
    return json.loads(body)


def predict_fn(request: Any, model: Path) -> list[dict[str, str]]:
    for name in re.findall(r"held by (\w+)", str(request["inputs"])):
        wait_while_there(model / name)
    return [{"generated_text": text[-40:]} for text in request["inputs"]]


def output_fn(answer: list[dict[str, str]], accept: str) -> str:
    return json.dumps(answer)
